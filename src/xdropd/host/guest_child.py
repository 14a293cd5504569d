"""The guest's side: scan a text, and write down what was found, without capabilities, given but two descriptors.

Usage: python -m xdropd.host.guest_child TEXT ANSWER PARENT
TEXT and ANSWER are numbers of inherited descriptors of memory.
"""

import gc
import os
import sys

from xdropd.host import libc
from xdropd.text import packedruns, runs


def main(arguments: list[str]) -> None:
    """Scan and answer; the usage is above."""
    text, answer, parent = map(int, arguments)
    libc.die_with_parent(parent)
    libc.keep_only_one_capability()
    gc.disable()  # there are no cycles in columns
    data = os.pread(text, os.fstat(text).st_size, 0)
    with open(answer, "wb", closefd=False) as file:
        for piece in packedruns.pack(list(runs.scan(data, 0, len(data)))):
            file.write(piece)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
