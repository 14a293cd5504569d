"""The child that compiles: the only file that imports bcc.

bcc brings LLVM, 100 MB of it, and an LLVM crash takes its process along; so this runs in a process of its own,
exec'ed by compiler.py, and sends back each program's instructions with the descriptors of the maps they refer to.
It keeps CAP_BPF, for bcc creates the maps that it compiles against, and nothing else. Where CAP_SYS_ADMIN stands for
that, it is kept instead.

Usage: python -m xdropd.kernel.compile_child SOCKET PARENT SOURCE [CFLAG]...
SOCKET is the number of an inherited stream socket. Answer, to the end of the stream, with the descriptors: JSON,
{"programs": {name: base64 of struct bpf_insn}, "maps": [descriptor numbers as in the instructions]}.
"""

import base64
import json
import os
import re
import socket
import sys
from pathlib import Path

from xdropd.host import libc
from xdropd.kernel.libbpf import PSEUDO_MAP_FD, references

_PROGRAM = re.compile(r"^int (\w+)\(struct xdp_md \*\w+\)", re.MULTILINE)


def main(arguments: list[str]) -> None:
    """Compile and answer; the usage is above."""
    libc.die_with_parent(int(arguments[1]))
    libc.keep_only_one_capability(libc.CAP_BPF, libc.CAP_SYS_ADMIN)
    answer = socket.socket(fileno=int(arguments[0]))
    text = Path(arguments[2]).read_text(encoding="utf-8")

    from bcc import BPF  # after the powers are gone, and only where it is wanted

    try:
        module = BPF(text=text, cflags=arguments[3:])
    except Exception as problem:  # noqa: BLE001  # bcc raises bare Exception; clang's own lines are on standard error already
        sys.exit(str(problem))
    programs = {name: module.dump_func(name.encode()) for name in _PROGRAM.findall(text)}
    maps = sorted({number for body in programs.values() for _, number in references(body, PSEUDO_MAP_FD)})
    body = json.dumps(
        {"programs": {name: base64.b64encode(body).decode() for name, body in programs.items()}, "maps": maps}
    ).encode()
    socket.send_fds(answer, [body[:1]], maps)
    answer.sendall(body[1:])
    answer.close()
    os._exit(0)  # no atexit handlers of bcc's: nothing is attached


if __name__ == "__main__":
    main(sys.argv[1:])
