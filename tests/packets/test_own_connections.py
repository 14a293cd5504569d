"""Replies to connections that this host opened itself: which packets of listed sources pass where that is chosen."""

import contextlib
import ctypes
import dataclasses
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from frames import (
    DESTINATION_OPTIONS,
    DOT1AD,
    DOT1Q,
    ESP,
    FRAGMENT,
    GRE,
    HOP_BY_HOP,
    IPV4,
    IPV6,
    PPP_IPV4,
    PPP_IPV6,
    TCP,
    UDP,
    ethernet,
    ipv4_header,
    ipv6_header,
    over_pppoe,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sockets import KINDS, Ends, Flow, connection
from test_fragments import run_in_pieces
from test_hypothesis import in_the_kernel
from test_next_program import XDP_TX, loaded
from verdict_reference import DROPPED, PASSED, REPLIES, Lists, interval, verdict
from verdicts import XDP_DROP, XDP_PASS, Verdicts, state

from xdropd.errors import ProgramRefused
from xdropd.kernel import abi, libbpf
from xdropd.kernel.abi import Volume
from xdropd.kernel.compiler import Blueprint
from xdropd.kernel.generation import Generation, Sizes

EVERYTHING = ("0.0.0.0/0", "::/0")
LISTS = Lists.of(map(interval, EVERYTHING))
HERE4, THERE4, HERE6 = "127.0.0.1", "127.0.0.2", "::1"
ENDS = [(THERE4, HERE4), (HERE6, HERE6)]
_UDPLITE, _SCTP = 136, 132
_CALL = 0x85


@pytest.fixture(scope="module")
def passing(blueprint: Blueprint) -> Iterator[Verdicts]:
    """All sources are listed, and replies pass."""
    made = Verdicts(blueprint, pass_replies=True)
    made.put(state(EVERYTHING))
    yield made
    made.close()


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize(("server", "client"), ENDS)
@pytest.mark.threat_model
def test_what_belongs_to_a_connection_passes_and_nothing_beside_it(
    passing: Verdicts, protocol: int, server: str, client: str
) -> None:
    with connection(protocol, server, client) as (_, flow, _):
        before = passing.totals()
        assert passing.verdict(flow.frame) == REPLIES
        assert passing.totals()[REPLIES] == before[REPLIES].plus(Volume(1, len(flow.frame)))
        elsewhere = {
            "another port there": flow._replace(source_port=flow.source_port ^ 1),
            "another port here": flow._replace(target_port=flow.target_port ^ 1),
            "another protocol": flow._replace(protocol=TCP + UDP - protocol),
            "what the other end gets, where one waits": flow.back,
        }
        if flow.version == 4:
            elsewhere["another source"] = flow._replace(source="127.0.0.3")
            elsewhere["another address here"] = flow._replace(target="127.0.0.3")
        else:
            elsewhere["another source"] = flow._replace(source="2001:db8::1")
        for name, other in elsewhere.items():
            assert passing.verdict(other.frame) == DROPPED, name
    assert passing.verdict(flow.frame) == DROPPED, "closed"


def test_a_reply_counts_for_no_entry_and_goes_on_to_the_next_program(passing: Verdicts) -> None:
    with connection(TCP, THERE4, HERE4) as (_, flow, _):
        before = passing.stats("0.0.0.0/0")
        assert passing.verdict(flow.frame) == REPLIES
        assert passing.stats("0.0.0.0/0") == before
        with loaded(XDP_TX) as program:
            libbpf.set_program(passing.shared["next_program"], 0, program)
            try:
                assert libbpf.test_run(passing.program, flow.frame) == XDP_TX
                assert libbpf.test_run(passing.program, flow.back.frame) == XDP_DROP
            finally:
                libbpf.delete(passing.shared["next_program"], abi.number(0))


def test_who_only_counts_counts_replies_apart(passing: Verdicts) -> None:
    with connection(UDP, THERE4, HERE4) as (_, flow, _):
        before = passing.totals()
        passing.choose(monitor=True)
        assert libbpf.test_run(passing.program, flow.frame) == XDP_PASS
        assert libbpf.test_run(passing.program, flow.back.frame) == XDP_PASS
        passing.choose()
        after = passing.totals()
    assert [after[name].packets - before[name].packets for name in (REPLIES, DROPPED, PASSED)] == [1, 1, 0]


def test_without_the_setting_they_are_dropped(verdicts: Verdicts) -> None:
    verdicts.put(state(EVERYTHING))
    for protocol in (TCP, UDP):
        with connection(protocol, THERE4, HERE4) as (_, flow, _):
            assert verdicts.verdict(flow.frame) == DROPPED


def test_of_a_source_that_is_not_listed_they_pass_as_ever(blueprint: Blueprint) -> None:
    made = Verdicts(blueprint, pass_replies=True)
    try:
        with connection(TCP, THERE4, HERE4) as (_, flow, _):
            assert made.verdict(flow.frame) == PASSED
            made.put(state([THERE4]))
            assert made.verdict(flow.frame) == REPLIES
    finally:
        made.close()


# ---- sockets of every kind ----


def _tcp_before_it_is_answered(ends: Ends) -> Flow:
    """A listener with room for one takes no second: the SYN is sent again and again."""
    full = ends.make(TCP, THERE4)
    full.listen(0)
    ends.make(TCP, HERE4).connect(full.getsockname())
    waits = ends.make(TCP, HERE4)
    waits.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        waits.connect(full.getsockname())
    return Flow(TCP, *full.getsockname(), *waits.getsockname())


def _tcp_closed_by_us_first(ends: Ends) -> Flow:
    """The other end has yet to close."""
    server = ends.wait(TCP, THERE4)
    client = ends.make(TCP, HERE4)
    flow = ends.connect(client, TCP, server)
    ends.enter_context(server.accept()[0])
    client.close()
    return flow


def _tcp_closed_by_them_first(ends: Ends) -> Flow:
    server = ends.wait(TCP, THERE4)
    flow = ends.connect(ends.make(TCP, HERE4), TCP, server)
    server.accept()[0].close()
    return flow


def _v4_mapped(protocol: int) -> Callable[[Ends], Flow]:
    """An IPv6 socket that is connected to an IPv4 address."""

    def made(ends: Ends) -> Flow:
        client = ends.enter_context(socket.socket(socket.AF_INET6, KINDS[protocol]))
        return ends.connect(client, protocol, ends.wait(protocol, THERE4), f"::ffff:{THERE4}")

    return made


def _bound_to_any(protocol: int) -> Callable[[Ends], Flow]:
    """A socket whose local address connect(2) fills in."""

    def made(ends: Ends) -> Flow:
        return ends.connect(ends.make(protocol, "0.0.0.0"), protocol, ends.wait(protocol, THERE4))

    return made


def _listened_to(address: str, *, v6only: bool | None = None, protocol: int = TCP) -> Callable[[Ends], Flow]:
    """A connection from a port on which somebody waits as well."""

    def made(ends: Ends) -> Flow:
        client = ends.make(protocol, HERE4)
        flow = ends.connect(client, protocol, ends.wait(protocol, THERE4))
        ends.wait(protocol, address, client.getsockname()[1], v6only=v6only)
        return flow

    return made


def _inbound(ends: Ends, server: str = HERE4, *, defer: bool = False) -> tuple[Flow, socket.socket, socket.socket]:
    waiting = ends.wait(TCP, server)
    if defer:
        waiting.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
    client = ends.make(TCP, THERE4)
    address = HERE4 if server != HERE4 else None
    return ends.connect(client, TCP, waiting, address).back, waiting, client


def _inbound_accepted(ends: Ends) -> Flow:
    flow, waiting, _ = _inbound(ends)
    ends.enter_context(waiting.accept()[0])
    return flow


def _inbound_to_any(ends: Ends) -> Flow:
    return _inbound(ends, "0.0.0.0")[0]


def _inbound_to_both_families(ends: Ends) -> Flow:
    """A listener on [::] takes IPv4 as well."""
    return _inbound(ends, "::")[0]


def _inbound_half_open(ends: Ends) -> Flow:
    """With TCP_DEFER_ACCEPT there is no socket of its own for a connection before its first bytes have come."""
    return _inbound(ends, defer=True)[0]


def _inbound_whose_listener_is_gone(ends: Ends) -> Flow:
    """As the data connections of FTP servers are: nothing tells them from our own."""
    flow, waiting, _ = _inbound(ends)
    ends.enter_context(waiting.accept()[0])
    waiting.close()
    return flow


def _udp_unconnected(ends: Ends) -> Flow:
    server, client = ends.wait(UDP, THERE4), ends.make(UDP, HERE4)
    client.sendto(b"?", server.getsockname())
    return Flow(UDP, *server.getsockname(), *client.getsockname())


def _udp_disconnected(ends: Ends) -> Flow:
    """connect(2) to AF_UNSPEC takes the one peer back."""
    client = ends.make(UDP, HERE4)
    flow = ends.connect(client, UDP, ends.wait(UDP, THERE4))
    assert ctypes.CDLL(None).connect(client.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16) == 0
    return flow


SOCKETS = {
    "TCP before it is answered": (_tcp_before_it_is_answered, REPLIES),
    "TCP that we have closed first": (_tcp_closed_by_us_first, REPLIES),
    "TCP that they have closed first": (_tcp_closed_by_them_first, REPLIES),
    "TCP of an IPv6 socket": (_v4_mapped(TCP), REPLIES),
    "UDP of an IPv6 socket": (_v4_mapped(UDP), REPLIES),
    "TCP, bound to any address": (_bound_to_any(TCP), REPLIES),
    "UDP, bound to any address": (_bound_to_any(UDP), REPLIES),
    "TCP from a port that is listened to": (_listened_to(HERE4), DROPPED),
    "TCP from a port that is listened to at any address": (_listened_to("0.0.0.0"), DROPPED),
    "TCP from a port that is listened to at any address of both families": (_listened_to("::", v6only=False), DROPPED),
    "TCP from a port that is listened to by IPv6 only": (_listened_to("::", v6only=True), REPLIES),
    "TCP from a port that is listened to at another address": (_listened_to("127.0.0.3"), REPLIES),
    "UDP from a port where one waits": (_listened_to(HERE4, protocol=UDP), DROPPED),
    "UDP from a port where one waits at any address": (_listened_to("0.0.0.0", protocol=UDP), DROPPED),
    "UDP from a port where one waits by IPv6 only": (_listened_to("::", v6only=True, protocol=UDP), REPLIES),
    "inbound": (lambda ends: _inbound(ends)[0], DROPPED),
    "inbound, accepted": (_inbound_accepted, DROPPED),
    "inbound, listened to at any address": (_inbound_to_any, DROPPED),
    "inbound, listened to at any address of both families": (_inbound_to_both_families, DROPPED),
    "inbound, half-open": (_inbound_half_open, DROPPED),
    "inbound, whose listener is gone": (_inbound_whose_listener_is_gone, REPLIES),
    "UDP without connect": (_udp_unconnected, DROPPED),
    "UDP that is disconnected": (_udp_disconnected, DROPPED),
}


@pytest.mark.parametrize("name", SOCKETS)
def test_sockets(passing: Verdicts, name: str) -> None:
    make, expected = SOCKETS[name]
    with Ends() as ends:
        assert passing.verdict(make(ends).frame) == expected


# ---- frames of every kind ----


def _with_options(flow: Flow, words: int) -> bytes:
    header = ipv4_header(flow.source, flow.target, protocol=flow.protocol, first_byte=0x40 | words)
    return ethernet(IPV4, header + bytes(4 * (words - 5)) + flow.ports + bytes(16))


def _ipv4(flow: Flow, **fields: int) -> bytes:
    return ethernet(IPV4, ipv4_header(flow.source, flow.target, **{"protocol": flow.protocol, **fields}) + flow.ports)


def _behind(flow: Flow, header: int) -> bytes:
    """With an extension header of eight bytes (RFC 8200) in between."""
    first = ipv6_header(flow.source, flow.target, next_header=header)
    return ethernet(IPV6, first + bytes([flow.protocol, *bytes(7)]) + flow.ports + bytes(16))


def _frames4(flow: Flow) -> dict[str, tuple[bytes, str]]:
    return {
        "plain": (flow.frame, REPLIES),
        "VLAN": (ethernet(IPV4, flow.packet, (DOT1Q,)), REPLIES),
        "four tags": (ethernet(IPV4, flow.packet, (DOT1AD, DOT1Q, DOT1Q, DOT1Q)), REPLIES),
        "PPPoE": (over_pppoe(PPP_IPV4, flow.packet), REPLIES),
        "PPPoE in a VLAN": (over_pppoe(PPP_IPV4, flow.packet, (DOT1Q,)), REPLIES),
        "options": (_with_options(flow, 6), REPLIES),
        "as many options as there can be": (_with_options(flow, 15), REPLIES),
        "may not be fragmented": (_ipv4(flow, offset=0x4000), REPLIES),
        "first fragment": (_ipv4(flow, offset=0x2000), DROPPED),
        "middle fragment": (_ipv4(flow, offset=0x2001), DROPPED),
        "last fragment": (_ipv4(flow, offset=0x0001), DROPPED),
        "UDP-Lite": (_ipv4(flow, protocol=_UDPLITE), DROPPED),
        "SCTP": (_ipv4(flow, protocol=_SCTP), DROPPED),
        "GRE": (_ipv4(flow, protocol=GRE), DROPPED),
        "ESP": (_ipv4(flow, protocol=ESP), DROPPED),
        "ports cut short": (flow.frame[: 14 + 20 + 3], DROPPED),
        "just the ports": (flow.frame[: 14 + 20 + 4], REPLIES),
        "options cut short": (_with_options(flow, 15)[: 14 + 60], DROPPED),
    }


def _frames6(flow: Flow) -> dict[str, tuple[bytes, str]]:
    return {
        "plain": (flow.frame, REPLIES),
        "four tags": (ethernet(IPV6, flow.packet, (DOT1AD, DOT1Q, DOT1Q, DOT1Q)), REPLIES),
        "PPPoE": (over_pppoe(PPP_IPV6, flow.packet), REPLIES),
        "fragment": (_behind(flow, FRAGMENT), DROPPED),
        "hop-by-hop options": (_behind(flow, HOP_BY_HOP), DROPPED),
        "destination options": (_behind(flow, DESTINATION_OPTIONS), DROPPED),
        "ports cut short": (flow.frame[: 14 + 40 + 3], DROPPED),
        "just the ports": (flow.frame[: 14 + 40 + 4], REPLIES),
    }


@pytest.mark.parametrize("protocol", [TCP, UDP])
@pytest.mark.parametrize(("server", "client"), ENDS)
@pytest.mark.threat_model
def test_frames(passing: Verdicts, protocol: int, server: str, client: str) -> None:
    with connection(protocol, server, client) as (ends, flow, _):
        table = _frames4(flow) if flow.version == 4 else _frames6(flow)
        for name, (frame, expected) in table.items():
            assert passing.verdict(frame) == expected, name
            assert verdict(frame, LISTS, ends.known) == expected, f"{name}, the reference"


def test_addresses_are_not_taken_for_ports(passing: Verdicts) -> None:
    """Where an IPv4 header says that it is shorter than it can be, its destination stands where ports would."""
    first, second = 0x7F00, 0xC801
    with Ends() as ends:
        flow = ends.connect(ends.make(TCP, "127.0.200.1", second), TCP, ends.wait(TCP, THERE4, first))
        assert passing.verdict(flow.frame) == REPLIES
        assert passing.verdict(flow.frame[:14] + b"\x44" + flow.frame[15:]) == DROPPED


@pytest.mark.parametrize(("server", "client"), ENDS)
def test_the_ports_may_be_in_any_piece(passing: Verdicts, server: str, client: str) -> None:
    with connection(TCP, server, client) as (_, flow, _):
        for tags in ((), (DOT1Q, DOT1Q)):
            for linear_bytes in range(14, 14 + 4 * len(tags) + 64):
                frame = ethernet(flow.ethertype, flow.packet + bytes(100), tags)
                assert run_in_pieces(passing.program, frame, linear_bytes) == XDP_PASS, linear_bytes
                frame = ethernet(flow.ethertype, flow.back.packet + bytes(100), tags)
                assert run_in_pieces(passing.program, frame, linear_bytes) == XDP_DROP, linear_bytes


def test_packets_that_start_with_ip(blueprint: Blueprint) -> None:
    made = Verdicts(blueprint, starts_with_ip=True, pass_replies=True)
    made.put(state(EVERYTHING))
    try:
        for server, client in ENDS:
            with connection(UDP, server, client) as (_, flow, _):
                assert made.verdict(flow.packet) == REPLIES
                assert made.verdict(flow.back.packet) == DROPPED
    finally:
        made.close()


@settings(in_the_kernel, max_examples=300)
@given(data=st.data())
@pytest.mark.threat_model
def test_frames_near_those_of_connections(passing: Verdicts, many: Ends, data: st.DataObject) -> None:
    """Bytes of the headers are changed, the ends exchanged, the frame is cut: program and reference agree."""
    flow = data.draw(st.sampled_from(many.flows))
    flow = flow.back if data.draw(st.booleans()) else flow
    tags = tuple(data.draw(st.lists(st.sampled_from((DOT1Q, DOT1AD)), max_size=3)))
    frame = bytearray(ethernet(flow.ethertype, flow.packet, tags))
    start = 14 + 4 * len(tags)
    for _ in range(data.draw(st.integers(0, 2))):
        frame[data.draw(st.integers(start, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    whole = bytes(frame)[: data.draw(st.integers(start, len(frame)))] if data.draw(st.booleans()) else bytes(frame)
    assert passing.verdict(whole) == verdict(whole, LISTS, many.known)


@pytest.fixture(scope="module")
def many() -> Iterator[Ends]:
    """Connections of both protocols and families, some of them from ports where somebody waits."""
    with Ends() as ends:
        for protocol in (TCP, UDP):
            for server, client in ENDS:
                waiting = ends.wait(protocol, server)
                for is_shared in (False, True):
                    made = ends.make(protocol, client)
                    ends.connect(made, protocol, waiting)
                    if is_shared:
                        ends.wait(protocol, client, made.getsockname()[1])
                if protocol == TCP:
                    ends.told(ends.enter_context(waiting.accept()[0]), protocol)
        yield ends


# ---- a kernel that lacks it ----


def without(blueprint: Blueprint, helper: int) -> Blueprint:
    """The same program as it would be to a kernel that does not know a helper function: its number is nobody's."""
    body = bytearray(blueprint.programs["xdrop_verdict"])
    for at in range(0, len(body), libbpf.INSN_BYTES):
        if body[at] == _CALL and int.from_bytes(body[at + 4 : at + 8], "little") == helper:
            body[at + 4 : at + 8] = (9999).to_bytes(4, "little")
    return dataclasses.replace(blueprint, programs={**blueprint.programs, "xdrop_verdict": bytes(body)})


@pytest.mark.parametrize(("name", "helper"), [("skc_lookup_tcp", 99), ("sk_lookup_udp", 85)])
def test_a_kernel_without_the_helpers_takes_the_program_that_drops(
    blueprint: Blueprint, verdicts: Verdicts, name: str, helper: int
) -> None:
    older = without(blueprint, helper)
    assert older != blueprint, name
    with pytest.raises(ProgramRefused, match="invalid func unknown#9999"):
        Generation.build(older, 2, Sizes(), verdicts.shared, pass_replies=True)
    Generation.build(older, 2, Sizes(), verdicts.shared).close()
