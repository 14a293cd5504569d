"""Every Ethernet frame of the corpus against real lists: the program and the reference must agree on all of them."""

import errno
import re
import zlib
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

import captures
import pytest
from verdict_reference import DROPPED, MALFORMED, PASSED, Interval, Lists, source_of, verdict
from verdicts import Verdicts, state_of

from xdropd.errors import KernelError
from xdropd.kernel.compiler import Blueprint
from xdropd.text.addresses import Span

_COMPARED_BYTES = 96  # no verdict looks further: 14 bytes, four tags, and the 40 of an IPv6 header
_ETHERNET_BYTES = 14
_KERNEL_BYTES_AT_MOST = 65_536  # BPF_PROG_TEST_RUN has part of a page and 17 fragments; the rest of larger ones is cut

_FIRST_WORD = re.compile(r"[^\s#;,]+")


def read_list(file: Path) -> Iterator[Interval]:
    """One address or network a line, whatever else stands there, by the standard library alone."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        word = _FIRST_WORD.match(line)
        if word:
            network = ip_network(word[0])
            yield Interval(network.version, int(network[0]), int(network[-1]))


class Frames(NamedTuple):
    """The distinct frames that a test run takes, the same cut short somewhere, and those too short for a test run."""

    distinct: list[bytes]
    cut: list[bytes]
    too_short: list[bytes]
    in_all: int


@pytest.fixture(scope="module")
def frames(corpus: Path) -> Frames:
    distinct: dict[tuple[bytes, int], bytes] = {}
    in_all = 0
    for file in sorted((corpus / "pcaps").rglob("*")):
        for frame in captures.frames(file.read_bytes()) if file.is_file() else ():
            in_all += 1
            distinct.setdefault((frame[:_COMPARED_BYTES], len(frame)), frame[:_KERNEL_BYTES_AT_MOST])
    whole = [frame for frame in distinct.values() if len(frame) >= _ETHERNET_BYTES]
    cut = {frame[: _ETHERNET_BYTES + zlib.crc32(frame) % _COMPARED_BYTES // 2] for frame in whole}
    return Frames(whole, sorted(cut), [frame for frame in distinct.values() if len(frame) < _ETHERNET_BYTES], in_all)


@pytest.fixture(scope="module")
def sources(frames: Frames) -> list[tuple[int, int]]:
    """Every source address that occurs, in order."""
    found = {source_of(frame) for frame in frames.distinct}
    return sorted(source for source in found if not isinstance(source, str))


def around(version: int, address: int, length_bits: int) -> Interval:
    """The network of this length that an address is in."""
    width = {4: 32, 6: 128}[version]
    first = address >> width - length_bits << width - length_bits
    return Interval(version, first, first + (1 << width - length_bits) - 1)


def some_of(sources: list[tuple[int, int]]) -> list[Interval]:
    """Addresses, networks and ranges made of the sources that occur, so that captures meet every kind of entry."""
    made = []
    for at, (version, address) in enumerate(sources):
        narrow, wide = {4: (28, 18), 6: (96, 40)}[version]
        match at % 8:
            case 0 | 1:
                made.append(Interval(version, address, address))
            case 2:
                made.append(around(version, address, narrow))
            case 3:
                made.append(Interval(version, max(0, address - 3), address))
            case 4 if at % 64 == 4:
                made.append(around(version, address, wide))
    return made


def holes_in(sources: list[tuple[int, int]]) -> list[Interval]:
    """What is allowed all the same: every fifth source that occurs, some with their neighbours."""
    return [
        around(version, address, {4: 32, 6: 128}[version] - at % 4)
        for at, (version, address) in enumerate(sources[::5])
    ]


def agree(
    blueprint: Blueprint, frames: Frames, blocked: Iterable[Interval], allowed: Iterable[Interval]
) -> dict[str, int]:
    """How many frames met which verdict; fails with the frames on which there are two opinions."""
    blocked, allowed, judged = list(blocked), list(allowed), [*frames.distinct, *frames.cut]
    lists = Lists.of(blocked, allowed)
    kernel = Verdicts.holding(blueprint, state_of((Span(*one) for one in blocked), (Span(*one) for one in allowed)))
    found = kernel.verdicts(judged)
    kernel.close()
    expected = [verdict(frame, lists) for frame in judged]
    differing = [
        f"{frame[:_COMPARED_BYTES].hex()} ({len(frame)} bytes): the program says {one}, the contract {other}"
        for frame, one, other in zip(judged, found, expected, strict=True)
        if one != other
    ]
    assert not differing, f"{len(differing)} differences\n" + "\n".join(differing[:20])
    return {name: expected.count(name) for name in (PASSED, DROPPED, MALFORMED)}


LISTS = {
    "ipsum": ["ipsum/ipsum.txt"],
    "sefinek": ["sefinek/main.txt"],
    "FireHOL level 1": ["firehol-2018-06/firehol_level1.netset"],
    "countries": [
        f"country-herrbischoff/{country}_ipv{version}.cidr"
        for country in ("us", "cn", "de", "br")
        for version in (4, 6)
    ],
}


@pytest.mark.parametrize("name", LISTS)
def test_real_lists(
    name: str,
    blueprint: Blueprint,
    frames: Frames,
    sources: list[tuple[int, int]],
    corpus: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    listed = [one for file in LISTS[name] for one in read_list(corpus / "lists" / file)]
    totals = agree(blueprint, frames, [*listed, *some_of(sources)], holes_in(sources))
    with capsys.disabled():
        print(
            f"\n{name}: {frames.in_all} frames, {len(frames.distinct)} of them distinct, "
            f"and {len(frames.cut)} cut short: {totals} ",
            end="",
        )
    assert min(totals.values()) > 100, "this list and these captures hardly meet"


@pytest.mark.parametrize("name", LISTS)
def test_real_lists_as_they_are(name: str, blueprint: Blueprint, frames: Frames, corpus: Path) -> None:
    listed = [one for file in LISTS[name] for one in read_list(corpus / "lists" / file)]
    agree(blueprint, frames, listed, [])


@pytest.mark.threat_model
def test_all_addresses_at_once_without_those_that_are_allowed(
    blueprint: Blueprint, frames: Frames, sources: list[tuple[int, int]]
) -> None:
    everything = [Interval(4, 0, (1 << 32) - 1), Interval(6, 0, (1 << 128) - 1)]
    totals = agree(blueprint, frames, everything, [Interval(version, at, at) for version, at in sources[::2]])
    assert min(totals.values()) > 100


def test_nothing_of_the_corpus_was_lost_on_the_way(frames: Frames) -> None:
    """tcpdump 4.99 reads 14,170 Ethernet frames out of these captures, and gives up on some of the broken ones."""
    assert frames.in_all >= 14_170
    assert len(frames.distinct) > 11_000


def test_frames_shorter_than_an_ethernet_header_are_malformed(blueprint: Blueprint, frames: Frames) -> None:
    """The kernel makes no test run of them (EINVAL), so the reference speaks alone."""
    lists = Lists.of([])
    kernel = Verdicts(blueprint)
    for frame in frames.too_short:
        assert verdict(frame, lists) == MALFORMED
        with pytest.raises(KernelError) as refusal:
            kernel.drops(frame)
        assert refusal.value.errno == errno.EINVAL
    kernel.close()
    assert frames.too_short
