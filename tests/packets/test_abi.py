"""Two languages, one layout: what abi.py says of structures and numbers is what the compiler made of xdrop.bpf.c.

The compiler writes down all types as BTF, bcc has the kernel take it together with the maps, and bpftool prints it.
"""

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from xdropd.kernel import abi
from xdropd.kernel.compiler import PROGRAM, Blueprint, source_folder
from xdropd.kernel.tables.hints import _WIDE_BELOW
from xdropd.rules.winners import EXEMPT

# BTF has only what maps are made of. So numbers that have a name get into a map, too.
NUMBERS = """
enum numbers { IS_SLOTS = SLOTS, IS_EXEMPT = EXEMPT, IS_NARROW4 = -NARROW4, IS_NARROW6 = -NARROW6 };
struct enumerations { enum verdict verdict; enum fitted_number fitted_number; enum numbers numbers; };
BPF_ARRAY(enumerations, struct enumerations, 1);
"""

COMPILE = """
import json, subprocess, sys
from pathlib import Path
from bcc import BPF
module = BPF(text=Path(sys.argv[1]).read_text(encoding="utf-8") + sys.argv[2])
of_a_map = Path(f"/proc/self/fdinfo/{module['ranges'].map_fd}").read_text(encoding="ascii").splitlines()
number = dict(line.split(":") for line in of_a_map)["map_id"].strip()
shown = subprocess.run(["bpftool", "-j", "map", "show", "id", number], stdout=subprocess.PIPE, check=True).stdout
subprocess.run(["bpftool", "-j", "btf", "dump", "id", str(json.loads(shown)["btf_id"])], check=True)
"""

# What is in each map that has structures, and in those behind them.
VALUES = {
    "interfaces": abi.SEEN,
    "more_interfaces": abi.SEEN,
    "settings": abi.SETTINGS,
    "samples": abi.SAMPLE,
    "addresses4": abi.STATS,
    "addresses6": abi.STATS,
    "networks4": abi.NETWORK,
    "networks6": abi.NETWORK,
    "ranges": abi.RANGE,
    "sources": abi.VOLUME,
    "hints": abi.HINTS,
    "next_sample_ns": np.dtype("u8"),
    "address_filter": np.dtype("u8"),
    "prefix_filter": np.dtype("u8"),
    "lengths4": abi.LENGTHS4,
    "lengths6": abi.LENGTHS6,
}


class Types:
    """What the compiler knows."""

    def __init__(self, dumped: str) -> None:
        self._by_id = {each["id"]: each for each in json.loads(dumped)["types"]}

    def named(self, name: str) -> dict[str, Any]:
        return next(each for each in self._by_id.values() if each["name"] == name)

    def value_of(self, map_name: str) -> object:
        """The layout of a map's values; BTF has a structure for each map, as libbpf wants it."""
        members = {member["name"]: member["type_id"] for member in self.named(f"____btf_map_{map_name}")["members"]}
        return self.layout(members["value"])

    def numbers(self, name: str) -> dict[str, int]:
        return {each["name"]: each["val"] for each in self.named(name)["values"]}

    def layout(self, number: int) -> object:
        """Of an integer its size, of an array (how many, of what), of a structure (size, {name: (offset, what)})."""
        found = self._by_id[number]
        match found["kind"]:
            case "TYPEDEF":
                return self.layout(found["type_id"])
            case "ARRAY":
                return found["nr_elems"], self.layout(found["type_id"])
            case "STRUCT":
                members = {
                    each["name"]: (each["bits_offset"] // 8, self.layout(each["type_id"])) for each in found["members"]
                }
                return found["size"], members
            case "INT":
                return found["size"]
        raise AssertionError(found)


def layout(kind: np.dtype) -> object:
    """The same of what numpy knows."""
    if kind.subdtype:
        return kind.shape[0], layout(kind.base)
    if kind.fields:
        return kind.itemsize, {name: (offset, layout(of)) for name, (of, offset, *_) in kind.fields.items()}
    return (kind.itemsize, 1) if kind.kind == "S" else kind.itemsize


@pytest.fixture(scope="module")
def types() -> Types:
    folder = source_folder()
    child = [sys.executable, "-c", COMPILE, folder / PROGRAM, NUMBERS]
    environment = {"PATH": "/usr/sbin:/usr/bin", "BCC_KERNEL_SOURCE": str(folder)}
    done = subprocess.run(child, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Types(done.stdout)


@pytest.mark.parametrize("name", VALUES)
def test_a_structure_is_the_same_in_both_languages(types: Types, name: str) -> None:
    assert layout(VALUES[name]) == types.value_of(name)


def test_no_map_is_forgotten() -> None:
    assert VALUES.keys() == abi.MAP_KINDS.keys() - {abi.INTERFACE_MAP, "next_program"}, "which have programs in them"


def test_numbers_have_the_same_names_in_both_languages(types: Types) -> None:
    verdicts = {name.upper(): at for at, name in enumerate(abi.VERDICTS)}
    assert types.numbers("verdict") == {**verdicts, "VERDICTS": len(verdicts)}
    assert types.numbers("fitted_number") == {name.upper(): at for at, name in enumerate(abi.FITTED_NUMBERS)}
    numbers = types.numbers("numbers")
    assert numbers["IS_SLOTS"] == abi.SLOTS
    assert numbers["IS_EXEMPT"] == EXEMPT
    for version, narrow in _WIDE_BELOW.items():
        assert numbers[f"IS_NARROW{version}"] == 1 << 32 - narrow, "the least netmask of what is not wide"


def test_the_kinds_of_maps_are_those_that_the_program_declares(blueprint: Blueprint) -> None:
    declared = {name: (shape.type, shape.key_bytes, shape.value_bytes) for name, shape in blueprint.maps.items()}
    assert declared == abi.MAP_KINDS


def test_a_structure_with_its_fields_in_another_order_is_another_one() -> None:
    """The comparison itself: sizes and names alone would not tell."""
    fields = [("packets", "u8"), ("bytes", "u8")]
    assert layout(np.dtype(fields)) != layout(np.dtype(fields[::-1]))
    assert layout(np.dtype(fields)) == layout(abi.VOLUME)
