"""Runs in a machine in the daemon's place: damages what the store gives back, and then becomes the daemon.

usage: heir.py lose|ruin|swap|double NAME...

Names are those of the store, with globs. `lose` takes descriptors out of the store, `ruin` makes each of them
/dev/null, `swap` exchanges two, and `double` puts /dev/null into the store as well, under the name of the first.
"""

import fnmatch
import os
import socket
import sys

_FIRST = 3  # SD_LISTEN_FDS_START
_DAEMON = "/usr/bin/xdropd"


def _tell(text: str, *descriptors: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
        socket.send_fds(manager, [text.encode()], list(descriptors))


def main(how: str, *globs: str) -> None:
    """Change the descriptors and the variables that tell of them, see sd_listen_fds(3)."""
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    chosen = [at for glob in globs for at, name in enumerate(names) if fnmatch.fnmatchcase(name, glob)]
    assert chosen, (globs, names)
    given = len(names)
    kept = [os.dup(_FIRST + at) for at in range(len(names))]
    nothing = os.open("/dev/null", os.O_RDONLY)
    match how:
        case "lose":
            for at in chosen:
                _tell(f"FDSTOREREMOVE=1\nFDNAME={names[at]}")
        case "ruin":
            for at in chosen:
                kept[at] = nothing
        case "swap":
            first, second = chosen
            kept[first], kept[second] = kept[second], kept[first]
        case "double":
            _tell(f"FDSTORE=1\nFDNAME={names[chosen[0]]}\nFDPOLL=0", nothing)
            names.append(names[chosen[0]])
            kept.append(nothing)
    left = [(name, kept[at]) for at, name in enumerate(names) if how != "lose" or at not in chosen]
    os.closerange(_FIRST, _FIRST + given)
    for at, (_, descriptor) in enumerate(left):
        os.dup2(descriptor, _FIRST + at, inheritable=True)
    os.environ["LISTEN_FDS"] = str(len(left))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in left)
    os.execv(_DAEMON, [_DAEMON])  # all others are closed with it


if __name__ == "__main__":
    main(*sys.argv[1:])
