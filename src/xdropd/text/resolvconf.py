"""resolv.conf(5): which name servers it names. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from xdropd.text.addresses import Span, meant, parse_address


def name_servers(data: bytes) -> frozenset[Span]:
    """The address in each line that begins with "nameserver", as resolvers take it: without a scope, whole lines only.

    Glibc takes the first three, others more; what is no address is nobody's name server.
    """
    return frozenset(_addresses(data.decode(errors="replace")))


def _addresses(text: str) -> Iterator[Span]:
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and line.startswith("nameserver"):
            found = parse_address(words[1].partition("%")[0])
            if found is not None:
                version, number = found
                yield meant(Span(version, number, number))
