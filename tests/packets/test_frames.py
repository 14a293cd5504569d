"""What becomes of a frame, as a table, and what is counted and told of it."""

import itertools
import time
from typing import NamedTuple

import pytest
from frames import (
    ARP,
    DESTINATION_OPTIONS,
    DOT1AD,
    DOT1Q,
    ESP,
    FRAGMENT,
    GRE,
    HOP_BY_HOP,
    ICMPV6,
    IPV4,
    IPV6,
    PPP_IPV4,
    PPP_IPV6,
    PPP_LCP,
    PPPOE,
    ROUTING,
    TCP,
    ethernet,
    from_source,
    ipv4_header,
    ipv6_header,
    over_pppoe,
    packed,
)
from verdict_reference import DROPPED, MALFORMED, PASSED, Lists, interval, verdict
from verdicts import TEST_RUN_IFINDEX, XDP_DROP, XDP_PASS, Verdicts, state

from xdropd.errors import KernelError
from xdropd.kernel import libbpf
from xdropd.kernel.abi import Stats, Volume
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import load
from xdropd.kernel.hooks.xdp import NATIVE
from xdropd.text.addresses import WIDTH, Span, parse_span

BLOCK = (
    "203.0.113.9",
    "198.51.100.0/24",
    "10.1.0.5-10.1.0.70",
    "2001:db8:bad::9",
    "2001:db8:cafe::/48",
    "2001:db8:1::5-2001:db8:1::70",
)
ALLOW = ("198.51.100.128/25", "10.1.0.64", "2001:db8:cafe:1::/64", "2001:db8:1::40")

BAD4, GOOD4 = "203.0.113.9", "203.0.113.8"
BAD6, GOOD6 = "2001:db8:bad::9", "2001:db8:bad::8"


class Case(NamedTuple):
    description: str
    frame: bytes
    expected: str


def both(description: str, bad: bytes, good: bytes) -> list[Case]:
    """A frame of a blocked source, and as control the same of an innocent one."""
    return [Case(description, bad, DROPPED), Case(f"{description}, innocent source", good, PASSED)]


def over_ipv4(description: str, payload: bytes = b"", **fields: int) -> list[Case]:
    return both(
        description,
        ethernet(IPV4, ipv4_header(BAD4, **fields) + payload),
        ethernet(IPV4, ipv4_header(GOOD4, **fields) + payload),
    )


def over_ipv6(description: str, payload: bytes = b"", **fields: int) -> list[Case]:
    return both(
        description,
        ethernet(IPV6, ipv6_header(BAD6, **fields) + payload),
        ethernet(IPV6, ipv6_header(GOOD6, **fields) + payload),
    )


def names_of(tags: tuple[int, ...]) -> str:
    return "+".join({DOT1Q: "802.1Q", DOT1AD: "802.1ad"}[tag] for tag in tags) or "no tag"


def tagged(count: int) -> list[Case]:
    """Every mixture of tags, in front of either family."""
    cases = []
    for tags in itertools.product((DOT1Q, DOT1AD), repeat=count):
        for family, bad, good in (("IPv4", BAD4, GOOD4), ("IPv6", BAD6, GOOD6)):
            description = f"{family} behind {names_of(tags)}"
            if count <= 4:
                cases += both(description, from_source(bad, tags=tags), from_source(good, tags=tags))
            else:
                cases.append(Case(f"{description}: a fifth is not looked into", from_source(bad, tags=tags), PASSED))
    return cases


def cut(description: str, frame: bytes, header_ends: int) -> list[Case]:
    """A frame at every length from 14 bytes to that of its headers: only the last one is whole."""
    return [
        Case(f"{description} cut to {length} bytes", frame[:length], MALFORMED) for length in range(14, header_ends)
    ] + [Case(f"{description} with its {header_ends} bytes and nothing more", frame[:header_ends], DROPPED)]


def cut_in_the_tags(count: int) -> list[Case]:
    frame = from_source(BAD4, tags=(DOT1Q,) * count)
    return [
        Case(f"{count} tags cut to {length} bytes", frame[:length], MALFORMED) for length in range(14, 14 + 4 * count)
    ]


PLAIN = [
    *both("IPv4 address", from_source(BAD4), from_source(GOOD4)),
    *both("IPv4 network, first", from_source("198.51.100.0"), from_source("198.51.99.255")),
    *both("IPv4 network, last before the hole", from_source("198.51.100.127"), from_source("198.51.100.128")),
    Case("IPv4 network, in the hole", from_source("198.51.100.200"), PASSED),
    Case("IPv4 network, last of the hole", from_source("198.51.100.255"), PASSED),
    *both("IPv4 range, first", from_source("10.1.0.5"), from_source("10.1.0.4")),
    *both("IPv4 range, last", from_source("10.1.0.70"), from_source("10.1.0.71")),
    *both("IPv4 range, around the hole", from_source("10.1.0.65"), from_source("10.1.0.64")),
    *both("IPv6 address", from_source(BAD6), from_source(GOOD6)),
    *both("IPv6 network, first", from_source("2001:db8:cafe::"), from_source("2001:db8:cafd:ffff::")),
    *both("IPv6 network, around the hole", from_source("2001:db8:cafe::ffff"), from_source("2001:db8:cafe:1::2")),
    *both("IPv6 network, last", from_source("2001:db8:cafe:ffff::1"), from_source("2001:db8:caff::")),
    *both("IPv6 range, first", from_source("2001:db8:1::5"), from_source("2001:db8:1::4")),
    *both("IPv6 range, around the hole", from_source("2001:db8:1::41"), from_source("2001:db8:1::40")),
    Case(
        "IPv4 bytes of a blocked source as destination",
        ethernet(IPV4, ipv4_header(GOOD4)[:16] + packed(BAD4, 4)),
        PASSED,
    ),
    Case("IPv6 packet that begins like a blocked IPv4 source", from_source("cb00:7109::"), PASSED),
    Case("IPv4-mapped IPv6 source is an IPv6 source", from_source("::ffff:203.0.113.9"), PASSED),
]

SHORT = [
    *cut("IPv4", from_source(BAD4), 14 + 20),
    *cut("IPv6", from_source(BAD6), 14 + 40),
    *cut("tagged IPv4", from_source(BAD4, tags=(DOT1Q,)), 18 + 20),
    *cut("tagged IPv6", from_source(BAD6, tags=(DOT1AD,)), 18 + 40),
    *cut("IPv4 behind four tags", from_source(BAD4, tags=(DOT1AD, DOT1Q, DOT1Q, DOT1Q)), 30 + 20),
    *(case for count in range(1, 5) for case in cut_in_the_tags(count)),
    Case("a fifth tag that is cut is not looked into", from_source(BAD4, tags=(DOT1Q,) * 5)[:30], PASSED),
]

TAGGED = [case for count in range(1, 6) for case in tagged(count)] + [
    Case("a tag in front of ARP", ethernet(ARP, bytes(28), tags=(DOT1Q,)), PASSED),
    Case("the old QinQ type 0x9100 is no tag of ours", ethernet(0x9100, from_source(BAD4)[14:]), PASSED),
]

NOTHING_ELSE_MATTERS = [
    *over_ipv4("IPv4, first fragment", bytes(8), offset=0x2000),
    *over_ipv4("IPv4, fragment in the middle", bytes(8), offset=0x2010),
    *over_ipv4("IPv4, last fragment", bytes(8), offset=0x0010),
    *over_ipv4("IPv4 with options", bytes(40 + 8), first_byte=0x4F),
    *over_ipv4("IPv4 whose options are cut off", b"", first_byte=0x4F),
    *(
        case
        for nibble in range(16)
        for case in over_ipv4(f"IPv4 that claims version {nibble}", bytes(8), first_byte=nibble << 4 | 5)
    ),
    *(
        case
        for nibble in range(16)
        for case in over_ipv4(f"IPv4 that claims {nibble} words of header", bytes(8), first_byte=0x40 | nibble)
    ),
    *over_ipv4("IPv4, GRE", bytes(4), protocol=GRE),
    *over_ipv4("IPv4, ESP", bytes(8), protocol=ESP),
    *over_ipv4("IPv4, TCP cut off", b"", protocol=TCP),
    *over_ipv4("IPv4, protocol 255", b"", protocol=255),
    *over_ipv4("IPv4 in IPv4: the outer source decides", ipv4_header(BAD4), protocol=4),
    Case("IPv4 in innocent IPv4", ethernet(IPV4, ipv4_header(GOOD4, protocol=4) + ipv4_header(BAD4)), PASSED),
    *(
        case
        for nibble in range(16)
        for case in over_ipv6(f"IPv6 that claims version {nibble}", bytes(8), first_byte=nibble << 4)
    ),
    *over_ipv6("IPv6, ICMPv6", bytes(8), next_header=ICMPV6),
    *over_ipv6("IPv6, fragment", bytes(16), next_header=FRAGMENT),
    *over_ipv6("IPv6, hop-by-hop options", bytes(16), next_header=HOP_BY_HOP),
    *over_ipv6("IPv6, routing header", bytes(16), next_header=ROUTING),
    *over_ipv6("IPv6, destination options cut off", bytes(1), next_header=DESTINATION_OPTIONS),
    *over_ipv6("IPv6, no next header", b"", next_header=59),
    *over_ipv6("IPv6, GRE", bytes(4), next_header=GRE),
    *over_ipv6("IPv6, ESP", bytes(8), next_header=ESP),
    *over_ipv4("jumbo IPv4", bytes(9000)),
    *over_ipv6("jumbo IPv6", bytes(9000)),
    *over_ipv4("IPv4 of nearly 64 KiB", bytes(65_000)),
]

NOT_IP = [
    Case("ARP", ethernet(ARP, packed(BAD4, 4) * 7), PASSED),
    Case("ARP cut off", ethernet(ARP), PASSED),
    Case("LLC: the field is a length", ethernet(38, b"\x42\x42\x03" + bytes(35)), PASSED),
    Case(
        "LLC with an IPv4 packet in SNAP", ethernet(0x20, b"\xaa\xaa\x03\0\0\0\x08\0" + from_source(BAD4)[14:]), PASSED
    ),
    Case("length 0", ethernet(0), PASSED),
    Case("EtherType one below IPv4", ethernet(0x07FF, from_source(BAD4)[14:]), PASSED),
    Case("EtherType of IPv4 in the wrong byte order", ethernet(0x0008, from_source(BAD4)[14:]), PASSED),
    Case("EtherType of IPv6 in the wrong byte order", ethernet(0xDD86, from_source(BAD6)[14:]), PASSED),
    Case("PPPoE, link control", over_pppoe(PPP_LCP, ipv4_header(BAD4)), PASSED),
    Case("PPPoE, discovery stage", ethernet(0x8863, over_pppoe(PPP_IPV4, ipv4_header(BAD4))[14:]), PASSED),
    Case("PPPoE in PPPoE", ethernet(PPPOE, over_pppoe(0x8864, ipv4_header(BAD4))[14:]), PASSED),
    Case("PPPoE behind five tags", over_pppoe(PPP_IPV4, ipv4_header(BAD4), (DOT1Q,) * 5), PASSED),
    Case("MPLS with IPv4 in it", ethernet(0x8847, b"\0\1\1\x40" + ipv4_header(BAD4)), PASSED),
]

PPP = [
    case
    for tags in ((), (DOT1Q,), (DOT1AD, DOT1Q), (DOT1Q,) * 4)
    for case in (
        *both(
            f"IPv4 over PPPoE behind {names_of(tags)}",
            over_pppoe(PPP_IPV4, ipv4_header(BAD4), tags),
            over_pppoe(PPP_IPV4, ipv4_header(GOOD4), tags),
        ),
        *both(
            f"IPv6 over PPPoE behind {names_of(tags)}",
            over_pppoe(PPP_IPV6, ipv6_header(BAD6), tags),
            over_pppoe(PPP_IPV6, ipv6_header(GOOD6), tags),
        ),
    )
] + [
    *cut("IPv4 over PPPoE", over_pppoe(PPP_IPV4, ipv4_header(BAD4)), 14 + 8 + 20),
    *cut("tagged IPv6 over PPPoE", over_pppoe(PPP_IPV6, ipv6_header(BAD6), (DOT1Q,)), 18 + 8 + 40),
]

TABLE = [*PLAIN, *SHORT, *TAGGED, *NOTHING_ELSE_MATTERS, *PPP, *NOT_IP]


def test_the_table_names_each_case_once() -> None:
    assert len({case.description for case in TABLE}) == len(TABLE)


def test_the_reference_agrees_with_the_table() -> None:
    lists = Lists.of(map(interval, BLOCK), map(interval, ALLOW))
    assert [case.description for case in TABLE if verdict(case.frame, lists) != case.expected] == []


@pytest.fixture(scope="module")
def table_verdicts(blueprint: Blueprint) -> dict[str, str]:
    made = Verdicts(blueprint)
    made.put(state(BLOCK, ALLOW))
    found = {case.description: made.verdict(case.frame) for case in TABLE}
    made.close()
    return found


@pytest.mark.parametrize("case", TABLE, ids=[case.description for case in TABLE])
@pytest.mark.threat_model
def test_verdict(case: Case, table_verdicts: dict[str, str]) -> None:
    assert table_verdicts[case.description] == case.expected


def test_an_empty_list_passes_everything_but_what_is_malformed(verdicts: Verdicts) -> None:
    for case in TABLE:
        assert verdicts.verdict(case.frame) == {DROPPED: PASSED}.get(case.expected, case.expected), case.description


def test_the_kernel_makes_no_test_run_of_less_than_an_ethernet_header(verdicts: Verdicts) -> None:
    """What the corpus tests pass over for this reason."""
    for length in range(14):
        with pytest.raises(KernelError):
            verdicts.drops(bytes(length))


def test_monitor_counts_what_it_would_drop_and_drops_nothing(verdicts: Verdicts) -> None:
    verdicts.put(state(BLOCK, ALLOW))
    verdicts.choose(monitor=True)
    for case in TABLE:
        before = verdicts.totals()
        assert not verdicts.drops(case.frame), case.description
        after = verdicts.totals()
        raised = [name for name in after if after[name] != before[name]]
        assert raised == [case.expected], case.description


def test_an_interface_that_has_no_slot_yet_is_filtered_and_monitored_all_the_same(verdicts: Verdicts) -> None:
    """As the port that a bond has just got: nothing is counted there, and it is what is chosen that decides."""
    verdicts.put(state(BLOCK))
    verdicts.slots.take_back(TEST_RUN_IFINDEX)
    assert verdicts.drops(from_source(BAD4))
    verdicts.choose(monitor=True)
    assert not verdicts.drops(from_source(BAD4))


@pytest.mark.threat_model
def test_malformed_frames_pass_where_chosen_and_are_counted(verdicts: Verdicts) -> None:
    verdicts.put(state(BLOCK))
    verdicts.choose(pass_malformed=True)
    assert not verdicts.drops(from_source(BAD4)[:20])
    assert verdicts.drops(from_source(BAD4))
    counted = {verdict: volume for verdict, volume in verdicts.totals().items() if volume.packets}
    assert counted == {"dropped": Volume(1, 42), "malformed": Volume(1, 20)}


def test_each_verdict_is_counted_in_packets_and_bytes(verdicts: Verdicts) -> None:
    verdicts.put(state(BLOCK))
    for length in (42, 60, 1514):
        assert verdicts.drops(from_source(BAD4).ljust(length, b"\0"))
        assert not verdicts.drops(from_source(GOOD6).ljust(length + 20, b"\0"))
    assert verdicts.drops(from_source(BAD6)[:50])
    assert verdicts.totals() == {
        "passed": Volume(3, 42 + 20 + 80 + 1534),
        "dropped": Volume(3, 42 + 60 + 1514),
        "malformed": Volume(1, 50),
        "replies": Volume(0, 0),
    }


@pytest.mark.parametrize("source", [BAD4, BAD6])
def test_an_address_knows_its_packets_bytes_and_when_it_was_last_seen(verdicts: Verdicts, source: str) -> None:
    verdicts.put(state(BLOCK))
    assert verdicts.stats(source) == Stats(0, 0, 0, since_s=1)
    for length in (70, 80):
        assert verdicts.drops(from_source(source).ljust(length, b"\0"))
    seen = verdicts.stats(source)
    assert seen
    assert (seen.packets, seen.bytes, seen.since_s) == (2, 150, 1)
    assert seconds_ago(seen.last_seen_ns) < 1
    assert verdicts.generation.volumes.get(1) == Volume(2, 150)


@pytest.mark.parametrize(
    ("entry", "sources"),
    [
        ("198.51.100.0/24", ["198.51.100.0", "198.51.100.77"]),
        ("10.1.0.5-10.1.0.70", ["10.1.0.5", "10.1.0.33", "10.1.0.70"]),
        ("2001:db8:cafe::/48", ["2001:db8:cafe::", "2001:db8:cafe:2::1"]),
        ("2001:db8:1::5-2001:db8:1::70", ["2001:db8:1::5", "2001:db8:1::6f", "2001:db8:1::70"]),
    ],
)
def test_a_network_or_range_is_counted_as_one(verdicts: Verdicts, entry: str, sources: list[str]) -> None:
    verdicts.put(state(BLOCK, ALLOW))
    for source in sources:
        assert verdicts.drops(from_source(source).ljust(100, b"\0"))
    seen = verdicts.stats(entry)
    assert seen
    assert (seen.packets, seen.bytes, seen.since_s) == (len(sources), 100 * len(sources), 1)
    assert seconds_ago(seen.last_seen_ns) < 1


def seconds_ago(moment_ns: int) -> float:
    return (time.monotonic_ns() - moment_ns) / 1e9


@pytest.mark.parametrize("source", [BAD4, GOOD6])
def test_a_jumbo_frame_counts_with_all_of_its_bytes(verdicts: Verdicts, source: str) -> None:
    """Behind the first page of a large frame its rest lies in fragments, which `data_end` does not reach."""
    verdicts.put(state(BLOCK))
    verdicts.drops(from_source(source).ljust(9014, b"\0"))
    assert sum(total.bytes for total in verdicts.totals().values()) == 9014


@pytest.mark.parametrize("source", [BAD4, "198.51.100.7", BAD6, "2001:db8:cafe::7"])
def test_a_sample_carries_source_interface_and_length(verdicts: Verdicts, source: str) -> None:
    verdicts.put(state(BLOCK))
    verdicts.choose(log_interval_ns=10**9)
    assert verdicts.drops(from_source(source).ljust(77, b"\0"))
    (sample,) = verdicts.samples()
    version, key, _ = parse_span(source)
    assert (sample.version, int.from_bytes(sample.source, "big"), sample.length_bytes) == (version, key, 77)
    assert sample.ifindex == TEST_RUN_IFINDEX


@pytest.mark.threat_model
def test_a_flood_gives_one_sample_an_interval(verdicts: Verdicts) -> None:
    verdicts.put(state(BLOCK))
    verdicts.choose(log_interval_ns=3600 * 10**9)
    libbpf.test_run(verdicts.program, from_source(BAD4), repeat=100_000)
    assert len(verdicts.samples()) == 1
    verdicts.allow_sample_now()
    libbpf.test_run(verdicts.program, from_source(BAD4), repeat=100_000)
    assert len(verdicts.samples()) == 1
    assert verdicts.totals()["dropped"].packets == 200_000


def test_samples_come_at_the_rate_that_was_chosen(verdicts: Verdicts) -> None:
    verdicts.put(state(BLOCK))
    interval_ns = 20 * 10**6
    verdicts.choose(log_interval_ns=interval_ns)
    start_ns = time.monotonic_ns()
    while time.monotonic_ns() < start_ns + 10 * interval_ns:
        assert verdicts.drops(from_source(BAD4))
    at_most = (time.monotonic_ns() - start_ns) / interval_ns + 1
    assert 1 <= len(verdicts.samples()) <= at_most


def test_no_samples_where_none_are_wanted_and_none_of_what_passes(verdicts: Verdicts) -> None:
    verdicts.put(state(BLOCK))
    verdicts.drops(from_source(BAD4))
    assert verdicts.samples() == []
    verdicts.choose(log_interval_ns=1)
    verdicts.drops(from_source(GOOD4))
    verdicts.drops(from_source(BAD4)[:20])
    assert verdicts.samples() == []


@pytest.mark.threat_model
def test_samples_that_nobody_takes_are_lost_and_cost_no_verdict(verdicts: Verdicts) -> None:
    verdicts.put(state(BLOCK))
    verdicts.choose(log_interval_ns=1)
    for _ in range(100):
        verdicts.allow_sample_now()
        assert verdicts.drops(from_source(BAD4))
    assert len(verdicts.samples()) == verdicts.blueprint.maps["samples"].max_entries


def inside(span: Span) -> set[int]:
    return {span.first, span.last, (span.first + span.last) // 2}


def around(span: Span) -> set[int]:
    return {address for address in (span.first - 1, span.last + 1) if 0 <= address < 1 << WIDTH[span.version]}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("base", [0, 0x2A5A_C3D7_F00D_1234_5678_9ABC_DEF0_5A5A, (1 << 128) - 1], ids=["0", "mid", "1"])
def test_every_prefix_length_holds_exactly_its_addresses(verdicts: Verdicts, version: int, base: int) -> None:
    """One network at a time: its ends and middle are dropped, its neighbours pass, hints of earlier ones or not."""
    width = WIDTH[version]
    before = state()
    for length in range(width + 1):
        first = (base >> 128 - width) & ~((1 << width - length) - 1)
        span = Span(version, first, first + (1 << width - length) - 1)
        after = state([f"{span}"])
        verdicts.put(after, before)
        before = after
        for address in inside(span):
            assert verdicts.drops(from_source(address, version)), f"{span} does not hold {address:#x}"
        for address in around(span):
            assert not verdicts.drops(from_source(address, version)), f"{span} holds {address:#x}"


@pytest.mark.parametrize("version", [4, 6])
def test_of_nested_networks_the_longest_is_credited(verdicts: Verdicts, version: int) -> None:
    """Every prefix length at once, like the skins of an onion, and the innermost address allowed."""
    width = WIDTH[version]
    heart = (1 << width) // 3
    onion = [
        Span(version, heart >> width - length << width - length, heart | ((1 << width - length) - 1))
        for length in range(width)
    ]
    verdicts.put(state(map(str, onion), [str(Span(version, heart, heart))]))
    for outer, inner in itertools.pairwise(onion):
        skin = next(address for address in around(inner) if outer.first <= address <= outer.last)
        assert verdicts.drops(from_source(skin, version).ljust(100, b"\0")), f"{outer} without {inner}"
    assert verdicts.drops(from_source(heart ^ 1, version))
    assert not verdicts.drops(from_source(heart, version))
    for network in onion:
        seen = verdicts.stats(f"{network}")
        assert seen
        assert seen.packets == 1, f"{network}"


@pytest.mark.parametrize("version", [4, 6])
def test_everything_without_ten_thousand_holes_is_small_in_the_kernel(blueprint: Blueprint, version: int) -> None:
    everything = f"{parse_span('0.0.0.0/0' if version == 4 else '::/0')}"
    step = (1 << WIDTH[version]) // 10_007
    holes = [Span(version, 12_345 + step * at, 12_345 + step * at) for at in range(10_000)]
    made = Verdicts.holding(blueprint, state([everything], map(str, holes)))
    records, _ = made.generation.read(version)
    assert len(records.keys) == 10_001
    assert records.sources[0] == 1, "everything"
    assert not records.sources[1:].any(), "the holes"
    for hole in holes[::500]:
        assert not made.drops(from_source(hole.first, version))
        for neighbour in around(hole):
            assert made.drops(from_source(neighbour, version))
    made.close()


def test_a_range_of_many_prefixes_is_counted_once(verdicts: Verdicts) -> None:
    verdicts.put(state(["10.0.0.1-10.255.255.254", "2001:db8::1-2001:db8:ffff:ffff:ffff:ffff:ffff:fffe"]))
    assert len(verdicts.generation.read(4)[0].keys) == 2 * (24 - 1)
    assert len(verdicts.generation.read(6)[0].keys) == 2 * (96 - 1)
    assert verdicts.generation.ranges.used == 2
    for source, blocked in (
        ("10.0.0.0", False),
        ("10.0.0.1", True),
        ("10.77.1.2", True),
        ("10.255.255.254", True),
        ("10.255.255.255", False),
    ):
        assert verdicts.drops(from_source(source)) == blocked, source


def test_an_address_is_credited_before_the_network_around_it(verdicts: Verdicts) -> None:
    verdicts.put(state(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3"]))
    for source in ("10.1.2.3", "10.1.2.4", "10.1.2.4", "10.2.0.1", "10.2.0.1", "10.2.0.1"):
        assert verdicts.drops(from_source(source))
    found = {entry: verdicts.stats(entry) for entry in ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3")}
    packets = {entry: stats and stats.packets for entry, stats in found.items()}
    assert packets == {"10.0.0.0/8": 3, "10.1.0.0/16": 2, "10.1.2.3": 1}


def test_the_settings_are_read_anew_for_every_packet(verdicts: Verdicts) -> None:
    verdicts.put(state(BLOCK))
    for monitor in (True, False, True):
        verdicts.choose(monitor=monitor)
        assert verdicts.drops(from_source(BAD4)) != monitor


def test_an_interface_without_a_program_in_force_passes_everything(verdicts: Verdicts) -> None:
    root = load(verdicts.blueprint, NATIVE.root_program, verdicts.interface)
    verdicts.put(state(BLOCK))
    assert libbpf.test_run(root, from_source(BAD4)) == XDP_PASS
    libbpf.set_program(verdicts.interface["in_force"], 0, verdicts.program)
    assert libbpf.test_run(root, from_source(BAD4)) == XDP_DROP
    assert verdicts.totals()["dropped"].packets == 1
