"""Our programs have types, so that others can show and trace them: bpftool prints what they are."""

import json
import subprocess

import pytest
from verdicts import Verdicts

from xdropd.kernel import libbpf
from xdropd.kernel.attachment import prepare
from xdropd.kernel.generation import VERDICT_PROGRAM


def shown(*arguments: str) -> str:
    return subprocess.run(["bpftool", *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("name", [VERDICT_PROGRAM, "xdrop_root"])
def test_bpftool_prints_the_function_of_a_program(verdicts: Verdicts, name: str) -> None:
    prepared = prepare(verdicts.blueprint)
    try:
        program = {VERDICT_PROGRAM: verdicts.program, **prepared.roots}[name]
        told = json.loads(shown("--json", "prog", "show", "id", str(libbpf.program_shape(program).id)))
        dump = shown("btf", "dump", "id", str(told["btf_id"]), "format", "raw")
    finally:
        prepared.close()
    assert dump.splitlines() == [
        "[1] INT 'int' size=4 bits_offset=0 nr_bits=32 encoding=SIGNED",
        "[2] STRUCT 'xdp_md' size=0 vlen=0",
        "[3] PTR '(anon)' type_id=2",
        "[4] FUNC_PROTO '(anon)' ret_type_id=1 vlen=1",
        "\t'context' type_id=3",
        f"[5] FUNC '{name}' type_id=4 linkage=static",
    ]
