"""Runs in a guest: a host and its peer, a network namespace, open sockets and talk. Prints as JSON what came through.

Arguments: the peer's namespace, the host's address, the peer's. `fetched` and `resolved`: the host asked by TCP, and by
UDP, and was answered; `knocked`: the peer opened a connection to the host, or was answered by one that waits there.
"""

import ctypes
import json
import os
import socket
import sys

_CLONE_NEWNET = 0x40000000  # uapi/linux/sched.h
_ANSWERED_WITHIN_S = 3.0  # an emulated machine


def _enter(namespace: str) -> None:
    descriptor = os.open(namespace, os.O_RDONLY)
    if ctypes.CDLL(None).setns(descriptor, _CLONE_NEWNET):
        raise OSError(f"setns {namespace}")
    os.close(descriptor)


def _socket(namespace: str, kind: int, address: str) -> socket.socket:
    _enter(namespace)
    made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    _enter("/proc/1/ns/net")
    made.settimeout(_ANSWERED_WITHIN_S)
    made.bind((address, 0))
    return made


def _tcp(server: socket.socket, client: socket.socket) -> bool:
    server.listen()
    try:
        client.connect(server.getsockname())
        with server.accept()[0] as accepted:
            accepted.sendall(b"200 OK")
            return client.recv(16) == b"200 OK"
    except TimeoutError:
        return False


def _udp(server: socket.socket, client: socket.socket) -> bool:
    client.connect(server.getsockname())
    client.send(b"A?")
    try:
        server.sendto(b"A", server.recvfrom(16)[1])
        return client.recv(16) == b"A"
    except TimeoutError:
        return False


def main(namespace: str, here: str, there: str) -> None:
    """One conversation of each kind."""
    host, peer = ("/proc/1/ns/net", here), (f"/run/netns/{namespace}", there)
    found = {}
    for name, (server, client) in {"out": (peer, host), "in": (host, peer)}.items():
        for talk, kind in ((_tcp, socket.SOCK_STREAM), (_udp, socket.SOCK_DGRAM)):
            with _socket(server[0], kind, server[1]) as one, _socket(client[0], kind, client[1]) as other:
                found[name, talk] = talk(one, other)
    knocked = found["in", _tcp] or found["in", _udp]
    print(json.dumps({"fetched": found["out", _tcp], "resolved": found["out", _udp], "knocked": knocked}))


main(*sys.argv[1:])
