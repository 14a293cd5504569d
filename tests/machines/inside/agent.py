"""Runs in a guest: does what a line on the virtio-serial port `agent` asks, and answers with a line.

A line is JSON. Asked: `command` (a list), `stdin`, `within_s`. Answered: `status` (the exit status; 124 if it took too
long, 127 if there is no such program), `stdout`, `stderr`. One after the other, in order.
"""

import json
import subprocess
import time
from pathlib import Path

_PORT = Path("/dev/virtio-ports/agent")
_TOOK_TOO_LONG, _NO_SUCH_PROGRAM = 124, 127


def _text(said: bytes | None) -> str:
    return (said or b"").decode(errors="replace")


def _do(asked: dict) -> dict:
    status, out, err = _TOOK_TOO_LONG, b"", b""
    try:
        done = subprocess.run(
            asked["command"],
            input=asked["stdin"].encode(),
            capture_output=True,
            timeout=asked["within_s"],
            check=False,
        )
        status, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        out, err = late.stdout, late.stderr
    except OSError as error:
        status, err = _NO_SUCH_PROGRAM, str(error).encode()
    return {"status": status, "stdout": _text(out), "stderr": _text(err)}


def main() -> None:
    """As long as the guest runs."""
    while not _PORT.exists():  # udev makes the name
        time.sleep(0.1)
    with _PORT.open("r+b", buffering=0) as port:
        while True:
            line = port.readline()
            if not line:
                time.sleep(0.1)  # nobody is connected to the other end yet
                continue
            port.write(json.dumps(_do(json.loads(line))).encode() + b"\n")


main()
