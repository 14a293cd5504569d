"""List files of others: every format, every list of the corpus read a second way, and what must never become a block."""

# ruff: noqa: E501 - the tables have a case a line

import functools
import ipaddress
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdropd.sources import trust
from xdropd.text import chunks, formats, listfiles
from xdropd.text.addresses import Span
from xdropd.text.formats.lines import APART, HOST_BITS, MAPPED, PADDED, _none_in_bulk


def read(text):
    return listfiles.read(text if isinstance(text, bytes) else text.encode(), "list")


def spans(found):
    """Everything listed, sorted."""
    return sorted(Span(*row[:3]) for row in found.listing.rows())


def written(found):
    return [str(span) for span in spans(found)]


FORMATS = {
    "firehol": ("#\n# a header\n#\n10.0.0.0/8\n192.0.2.1\n", ["10.0.0.0/8", "192.0.2.1"]),
    "ipsum": ("# IP\tnumber\n192.0.2.1\t10\n192.0.2.2\t9\n", ["192.0.2.1", "192.0.2.2"]),
    "trailing text": ("192.0.2.1   seen by ssh\n192.0.2.2 # and here\n192.0.2.3;so\n2001:db8::1 3 x\n", ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]),
    "bogons": ("127.0.0.0/8 Loopback\n0.0.0.0/8 # this\n", ["0.0.0.0/8", "127.0.0.0/8"]),
    "spamhaus text": ("; Spamhaus DROP\n1.10.16.0/20 ; SBL256894\n2001:db8::/32 ; SBL1\n", ["1.10.16.0/20", "2001:db8::/32"]),
    "spamhaus json": ('{"cidr":"1.10.16.0/20","sblid":"SBL1"}\n{"cidr":"2001:db8::/32"}\n{"type":"metadata","records":2}\n', ["1.10.16.0/20", "2001:db8::/32"]),
    "ranges": ("192.0.2.1-192.0.2.9\n192.0.2.20 - 192.0.2.29\n192.0.2.40 - 192.0.2.49 text\n", ["192.0.2.1-192.0.2.9", "192.0.2.20-192.0.2.29", "192.0.2.40-192.0.2.49"]),
    "dshield": ("# DShield.org\nStart\tEnd\tNetmask\tAttacks\tName\n" + "".join(f"192.0.{n}.0\t192.0.{n}.255\t24\t{n}\tNAME\tCC\tabuse@example.com\n" for n in range(1, 21)), [f"192.0.{n}.0/24" for n in range(1, 21)]),
    "p2p of both families": ("a: b-c:2001:db8::1-2001:db8::9\nx: 2001:db8:1::-2001:db8:1:ffff:ffff:ffff:ffff:ffff\ny:192.0.2.0-192.0.2.255\n", ["192.0.2.0/24", "2001:db8::1-2001:db8::9", "2001:db8:1::/48"]),
    "p2p": ("# a list\nSome: name; #1, Inc.:192.0.2.0-192.0.2.255\n192.0.2.9 is my name:198.51.100.7-198.51.100.29\nx: 203.0.113.5 - 203.0.113.5\n", ["192.0.2.0/24", "198.51.100.7-198.51.100.29", "203.0.113.5"]),
    "emule": ("# padded\n001.002.003.004 - 001.002.003.255 , 000 , some, name\n010.000.000.000 - 010.255.255.255 , 127 , b\n011.000.000.000 - 011.255.255.255 , 128 , allowed\n", ["1.2.3.4-1.2.3.255", "10.0.0.0/8"]),
    "emule without padding": ("1.2.3.4 - 1.2.3.255 , 000 , a\n9.9.9.9 - 9.9.9.9 , 200 , not filtered\n", ["1.2.3.4-1.2.3.255"]),
    "emule without levels": ("001.002.003.004 - 001.002.003.255\n", ["1.2.3.4-1.2.3.255"]),
    "both families": ("192.0.2.1\n2001:db8::1\n2001::/16\n", ["192.0.2.1", "2001::/16", "2001:db8::1"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_formats(name, newline, bom):
    text, expected = FORMATS[name]
    found = read(bom + text.replace("\n", newline))
    assert written(found) == expected
    assert found.unparsed == (1 if name == "dshield" else 0)
    assert trust.objection(found.tally, None) is None
    assert written(read(text.rstrip("\n"))) == expected


TRAPS = {
    "hosts": "127.0.0.1 localhost\n192.168.1.10 nas\n192.168.1.11 printer printer.local\n::1 ip6-localhost\n",
    "hosts with a sink": "0.0.0.0 ads.example.com\n0.0.0.0 tracker\n127.0.0.1 x.example.net\n:: y\n",
    "hosts with a redirect": "192.168.1.5 ads.example.com\n192.168.1.5 www.example.org # x\n",
    "hosts.deny": "ALL: 192.0.2.1\nsshd: 192.0.2.2, 192.0.2.3\nALL: .example.com\n",
    "csv": "first,ip\n2020-08-10 21:58:27,192.0.2.1,5200\n1,192.0.2.2\n",
    "csv of addresses": "192.0.2.1,443,malware\n192.0.2.2 ,443\n",
    "csv with quotes": '"192.0.2.1","4,19"\n',
    "semicolons": "name;192.0.2.1\n",
    "html": "<!DOCTYPE html>\n<html><body>\n192.0.2.1\n</body></html>\n",
    "json document": '{\n "ips": [\n  "192.0.2.1",\n  "192.0.2.2"\n ]\n}\n',
    "json array": '["192.0.2.1", "192.0.2.2"]\n',
    "asn json": '{"asn":245,"domain":"example.com"}\n{"asn":246}\n{"type":"metadata"}\n',
    "asn": "AS64496 ; EXAMPLE\nAS64497\n64498\n",
    "routes": "192.0.2.0 255.255.255.0 198.51.100.1\n10.0.0.0 255.0.0.0 x\n",
    "flows": "192.0.2.1 198.51.100.1 443\n192.0.2.2 198.51.100.1 80\n",
    "access log": '192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET /"\n192.0.2.1 - frank [10/Oct/2000] "GET /"\n',
    "ports": "192.0.2.1:443\n192.0.2.2:80\n",
    "zeros": "192.000.002.001\n010.0.0.1\n",
    "short": "192.0.2\n10\n",
    "backwards": "192.0.2.9-192.0.2.1\n",
    "domains": "example.com\nwww.example.org\n",
    "adblock": "||example.com^\n@@||example.org^\n! comment\n",
    "dnsmasq": "address=/example.com/192.0.2.1\n",
    "iptables": "-A INPUT -s 192.0.2.1 -j DROP\n",
    "dshield, one column wrong": "192.0.2.0\t192.0.2.255\t25\t1\n198.51.100.0\t198.51.100.1\t24\t1\n",
    "binary": "\x7fELF\x02\x01\n\0\0\0\n",
    "utf-16": "192.0.2.1\n192.0.2.2\n".encode("utf-16"),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
@pytest.mark.threat_model
def test_traps_do_not_become_blocks(name):
    found = read(TRAPS[name])
    assert found.unparsed == found.lines - (name == "html")
    assert len(spans(found)) == (name == "html")
    assert trust.objection(found.tally, None)
    assert trust.objection(found.tally, 5)


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "# nothing\n; at all\n// here\n", "\ufeff", '{"type":"metadata"}\n', "1.2.3.4 - 1.2.3.5 , 255 , x\n"],
)
@pytest.mark.threat_model
def test_empty_files(text):
    found = read(text)
    assert (found.listing.count, found.lines, found.unparsed) == (0, 0, 0)
    assert trust.objection(found.tally, None) == "it has no entries"
    assert trust.objection(found.tally, 3) == "it has no entries any more, and had 3"
    assert trust.objection(found.tally, 0) is None


def numbered(good, bad=0):
    return read("".join(f"10.0.{n >> 8}.{n & 255}\n" for n in range(good)) + "x\n" * bad)


@pytest.mark.threat_model
def test_over_a_tenth_of_the_lines():
    assert trust.objection(numbered(90, 10).tally, 90) is None
    assert trust.objection(numbered(89, 10).tally, 89) == "10 of its 99 lines do not parse"
    assert trust.objection(numbered(9, 1).tally, None) is None
    assert trust.objection(numbered(8, 1).tally, None) == "1 of its 9 lines do not parse"


@pytest.mark.threat_model
def test_over_half_of_100_or_more():
    assert trust.objection(numbered(50).tally, 100) is None
    assert trust.objection(numbered(49).tally, 100) == "it has 49 entries, and had 100"
    assert trust.objection(numbered(1).tally, 99) is None
    assert trust.objection(numbered(1).tally, None) is None
    assert trust.objection(numbered(1000).tally, 100) is None


def test_lines_and_warnings():
    found = listfiles.read(
        b"# x\n192.0.2.1\nfoo\n\n192.0.2.0/33\n127.0.0.1 x.example.com\n2001:db8::1 9\n192.0.2.1 192.0.2.2\n",
        "lists.d/a",
    )
    assert [row.line for row in found.listing.rows()] == [2, 7]
    assert (found.lines, found.unparsed) == (6, 4)
    assert list(map(str, found.warnings)) == [
        "lists.d/a:3:1: warning: this line is skipped, no entry: 'foo'",
        "lists.d/a:5:1: warning: this line is skipped, '192.0.2.0/33' has a prefix length over 32, an IPv4 network has 0 to 32 and a single address has none",
        "lists.d/a:6:1: warning: this line is skipped, an address and a host name, 'x.example.com', as in a hosts file",
        "lists.d/a:8:1: warning: this line is skipped, two addresses side by side, '192.0.2.1' and '192.0.2.2'",
    ]


# What was once an outage for somebody: each line, what it lists in a file of its own, and what is said of it.
SKIPPED = "this line is skipped, "
REPORTED = [
    ("84.38.133.113/1/webpanel/login.php", [], f"{SKIPPED}no entry: '84.38.133.113/1/webpanel/login.php'"),
    ("104.233.105.159/0/aa-00/panel/admin.php", [], f"{SKIPPED}no entry: '104.233.105.159/0/aa-00/panel/admin.php'"),
    ("0.0.0.0/1", [], f"{SKIPPED}0.0.0.0/1 is wider than /8, write 'widest: {{ipv4: 1}}' in the include to have it taken"),
    ("1.2.3.4/1", [], f"{SKIPPED}0.0.0.0/1 is wider than /8, write 'widest: {{ipv4: 1}}' in the include to have it taken"),
    ("9.0.0.0-10.0.0.0", [], f"{SKIPPED}9.0.0.0-10.0.0.0 is wider than /8, write 'widest: {{ipv4: 7}}' in the include to have it taken"),
    ("x:000.000.000.000-127.255.255.255", [], f"{SKIPPED}0.0.0.0/1 is wider than /8, write 'widest: {{ipv4: 1}}' in the include to have it taken"),
    ("::ffff:0.0.0.0/97", [], f"{SKIPPED}0.0.0.0/1 is wider than /8, write 'widest: {{ipv4: 1}}' in the include to have it taken"),
    ("::/0", [], f"{SKIPPED}::/0 is wider than /16, write 'widest: {{ipv6: 0}}' in the include to have it taken"),
    ("8000::/1", [], f"{SKIPPED}8000::/1 is wider than /16, write 'widest: {{ipv6: 1}}' in the include to have it taken"),
    ('{"cidr":"fe80::/10"}', [], f"{SKIPPED}fe80::/10 is wider than /16, write 'widest: {{ipv6: 10}}' in the include to have it taken"),
    ("1::-2::", [], f"{SKIPPED}1::-2:: is wider than /16, write 'widest: {{ipv6: 15}}' in the include to have it taken"),
    ("10.0.0.0/8", ["10.0.0.0/8"], ""),
    ("9.0.0.1-10.0.0.0", ["9.0.0.1-10.0.0.0"], ""),
    ("2001::/16", ["2001::/16"], ""),
    ("1000::", ["1000::"], ""),
    ("942.180.233.122", [], f"{SKIPPED}no entry: '942.180.233.122'"),
    ("102.204..15", [], f"{SKIPPED}no entry: '102.204..15'"),
    ("5.61.209.0\t5.61.209.255\t24", ["5.61.209.0/24"], ""),
    ("5.61.209.7\t5.61.209.255\t24", ["5.61.209.0/24"], f"this is the only line with {HOST_BITS}"),
    ("192.0.2.0 /24", ["192.0.2.0/24"], f"this is the only line with {APART}"),
    ("192.0.2.0 /33", [], f"{SKIPPED}'192.0.2.0/33' has a prefix length over 32, an IPv4 network has 0 to 32 and a single address has none"),
    ("10.0.0.0 8", ["10.0.0.0"], ""),
    ("x:2a05:bb80:0000:0000:0000:0000:0000:0000-2a05:bb87:ffff:ffff:ffff:ffff:ffff:ffff", ["2a05:bb80::/29"], ""),
    ("x:1:2001:db8::1-2001:db8::ff", ["2001:db8::1-2001:db8::ff"], ""),  # the name is "x:1"
    ("Org:001.002.003.004-001.002.003.255", ["1.2.3.4-1.2.3.255"], f"this is the only line with {PADDED}"),
    ("010.000.000.008 - 010.000.000.009 , 000 , x", ["10.0.0.8/31"], f"this is the only line with {PADDED}"),
    ("010.0.0.1", [], f"{SKIPPED}no entry: '010.0.0.1'"),
    ("1.2.3.4/24", ["1.2.3.0/24"], f"this is the only line with {HOST_BITS}"),
    ('{"cidr":"2001:db8::1/32"}', ["2001:db8::/32"], f"this is the only line with {HOST_BITS}"),
    ("::ffff:192.0.2.1", ["192.0.2.1"], f"this is the only line with {MAPPED}"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "listed", "warning"), REPORTED)
@pytest.mark.threat_model
def test_what_was_once_an_outage(line, listed, warning):
    found = read(line + "\n")
    assert written(found) == listed
    assert [each.message for each in found.warnings] == [warning] * bool(warning)
    assert found.lines == 1
    assert found.unparsed == (not listed and "is wider" not in warning)  # what is too wide is in order


def test_columns_of_addresses_in_a_list_of_entries_are_doubtful():
    found = read("192.0.2.1\n192.0.2.2\n5.61.209.0\t5.61.209.255\t24\n")
    assert written(found) == ["192.0.2.1", "192.0.2.2"]
    assert found.unparsed == 1


@pytest.mark.parametrize(
    ("widest", "listed"),
    [
        ((0, 0), ["0.0.0.0/1", "10.0.0.0/7", "128.0.0.0-255.255.255.254", "::/0", "fe80::/10"]),
        ((1, 10), ["0.0.0.0/1", "10.0.0.0/7", "128.0.0.0-255.255.255.254", "fe80::/10"]),
        ((7, 0), ["10.0.0.0/7", "::/0", "fe80::/10"]),
        ((8, 11), []),
        ((32, 128), []),
    ],
)
def test_the_include_says_how_wide_an_entry_may_be(widest, listed):
    data = b"0.0.0.0/1\n10.0.0.0/7\n128.0.0.0-255.255.255.254\n::/0\nfe80::/10\n"
    assert written(listfiles.read(data, "list", listfiles.How(widest))) == listed


def test_each_way_is_one_warning_and_what_is_too_wide_is_named_line_by_line():
    found = read("1.2.3.4/24\n::/1\n1.2.4.4/24\nx\n10.0.0.0 /8\n0.0.0.0/0\n1.2.5.6 /24\n")
    assert [(each.line, each.message.partition(",")[0]) for each in found.warnings] == [
        (1, "this line is the first of 3 with bits set behind the prefix of a network"),
        (2, "this line is skipped"),
        (4, "this line is skipped"),
        (5, "this line is the first of 2 with a space between an address and a prefix length"),
        (6, "this line is skipped"),
    ]
    found = read("192.0.2.1\n" + "x\n" * 50 + "::/1\n" * 50)
    assert [each.line for each in found.warnings] == [*range(2, 22), 51, *range(52, 72), 101]
    assert found.warnings[-1].message == "this line is the last of 50 that are skipped because they are too wide"


@pytest.mark.parametrize(
    ("text", "listed", "warnings"),
    [
        ("::ffff:192.0.2.1\n", ["192.0.2.1"], [f"list:1:1: warning: this is the only line with {MAPPED}"]),
        (
            "192.0.2.9\n::FFFF:c000:201 3\n2001:db8::1\n::ffff:10.0.0.0/104 # x\n::ffff:10.0.0.1 - ::ffff:10.0.0.9 x\n",
            ["10.0.0.0/8", "10.0.0.1-10.0.0.9", "192.0.2.1", "192.0.2.9", "2001:db8::1"],
            [f"list:2:1: warning: this line is the first of 3 with {MAPPED}"],
        ),
        (
            '{"cidr":"2001:db8::/32"}\n{"cidr":"::ffff:192.0.2.0/120"}\n{"cidr":"::ffff:192.0.2.1/128"}\n',
            ["192.0.2.0/24", "192.0.2.1", "2001:db8::/32"],
            [f"list:2:1: warning: this line is the first of 2 with {MAPPED}"],
        ),
        ("::ffff:0:0/96\n::/80\n", ["::/80", "::ffff:0.0.0.0/96"], []),
        ("x:1.2.3.4-1.2.3.5\ny::ffff:1.2.3.6-1.2.3.7\n", ["1.2.3.4/31", "1.2.3.6/31"], []),
    ],
)
def test_mapped_addresses_are_those_of_ipv4_with_one_warning_a_file(text, listed, warnings):
    found = read(text)
    assert written(found) == listed
    assert list(map(str, found.warnings)) == warnings


def test_warnings_are_the_first_twenty_and_how_many_there_are():
    found = numbered(1, 1000)
    assert found.unparsed == 1000
    assert [warning.line for warning in found.warnings] == [*range(2, 22), 1001]
    assert str(found.warnings[-1]).endswith(":1001:1: warning: this line is the last of 1000 that are skipped, of 1001")


@pytest.mark.threat_model
def test_a_long_line_is_skipped():
    found = read("192.0.2.1\n" + "x" * 5000 + "\n" + "[" * 1_000_000 + "\n192.0.2.2\n")
    assert written(found) == ["192.0.2.1", "192.0.2.2"]
    assert found.unparsed == 2
    assert read('{"cidr":' * 500 + "\n").unparsed == 1


ENTRIES = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.ip_addresses(v=6).map(lambda address: address.exploded.upper()),
    st.builds(ipaddress.ip_network, st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.just(False)).map(str),
    st.builds(ipaddress.ip_network, st.tuples(st.ip_addresses(v=6), st.integers(0, 128)), st.just(False)).map(str),
    st.builds("{}/{}".format, st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds("{}/{}".format, st.ip_addresses(v=6), st.integers(0, 128)),
    st.builds("{} /{}".format, st.ip_addresses(v=4), st.integers(0, 33)),
    st.builds("{}-{}".format, st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.builds("{}-{}".format, st.ip_addresses(v=6), st.ip_addresses(v=6)),
    st.sampled_from(["1.2.3.4-1.2.3.9", "1.2.3.4-1.2.3.4", "1.2.3.4-1.2.3.5", "::ffff:1.2.3.4", "::ffff:1.2.3.0/120"]),
)
NO_ENTRIES = st.sampled_from(
    ["x", "1.2.3", "1.2.3.4.5", "1.2.3.4/33", "01.2.3.4", "1.2.3.4/08", "1.2.3.256", "1..2.3", "1.2.3.4/", "/8", "1.2.3.9-1.2.3.4", "1.2.3.4\x00", "1.2.3.4-::1", "::x"]
)  # fmt: skip
SUFFIXES = [
    "",
    "",
    "",
    "",
    "\t7",
    " 5",
    "  17",
    " ",
    " # x",
    ";x",
    " text",
    " ٣",
    " 1.2.3.4",
    " a.example",
    "\v",
    "\u2028",
]
LINES = st.one_of(
    ENTRIES,
    st.builds("".join, st.tuples(st.sampled_from(["", "", " ", "\t"]), ENTRIES, st.sampled_from(SUFFIXES))),
    st.builds("".join, st.tuples(NO_ENTRIES, st.sampled_from(SUFFIXES))),
    st.sampled_from(["# x", "", " ", "; x", "// x", "\u00fc", "name:1.2.3.4-1.2.3.9", '{"cidr":"10.0.0.0/8"}']),
)
P2P_LINES = st.one_of(
    st.builds(
        "{}:{}-{}".format, st.sampled_from(["name", "a: b", "1.2.3.4", ""]), st.ip_addresses(v=4), st.ip_addresses(v=4)
    ),
    st.builds("{}:{}-{}".format, st.sampled_from(["name", "a:b", "::"]), st.ip_addresses(v=6), st.ip_addresses(v=6)),
    st.sampled_from(
        [
            "# x",
            "x:001.2.3.4-1.2.3.010",
            "x:2001:db8::1 - 2001:db8::9",
            "a:b-c:1::1-1::1",
            "x::ffff:1.2.3.4-::ffff:1.2.3.9",
            "x:1.2.3.4-1.2.3.4",
            "x:1.2.3.0 - 1.2.3.255",
            "x:01.2.3.4-1.2.3.9",
            "x",
            "x:1.2.3.4",
        ]
    ),
)


def everything(found):
    """A reading as a value that can be compared, places included."""
    return list(found.listing.rows()), found.lines, found.unparsed, found.warnings


@settings(max_examples=500)
@given(
    st.one_of(st.lists(ENTRIES, max_size=40), st.lists(LINES, max_size=40), st.lists(P2P_LINES, max_size=40)),
    st.integers(20, 300),
    st.sampled_from(["\n", "\n", "\r\n"]),
    st.booleans(),
)
def test_reading_in_bulk_changes_nothing(lines, chunk_bytes, newline, final_newline):
    data = (newline.join(lines) + newline * final_newline).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_BYTES", chunk_bytes)
        in_bulk = everything(listfiles.read(data, "f"))
        patch.setattr(listfiles, "format_of", lambda data: formats.format_of(data)._replace(in_bulk=_none_in_bulk))
        assert in_bulk == everything(listfiles.read(data, "f"))


@pytest.mark.parametrize(
    "line",
    ["10.{}.{}.7", "10.{}.{}.0/24", "10.{}.{}.1/24", "2001:db8:{}:{}::1/64", "x:010.{}.{}.0-10.255.0.9", "10.{}.{}.0/24\t9", "2001:db8:{}:{}::", "2001:db8:{}:{}::/64 1", "10.{}.{}.0-10.255.0.9"],
)  # fmt: skip
def test_a_large_list_is_read_in_bulk(line):
    """Else the property above would compare reading one by one with itself."""
    data = "\n".join(line.format(number >> 8, number & 255) for number in range(20_000)).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listfiles._Reader, "_line", lambda *_: pytest.fail("a line is read by itself"))
        assert listfiles.read(data, "f").listing.count == 20_000


# The corpus, read a second way: straightforward, slow, with the ipaddress module

NOTHING = {
    "abuse-ch-sslbl/sslipblacklist.csv",
    "abuse-ch-sslbl-2015/sslipblacklist.csv",
    "abuse-ch-sslbl-2015/sslipblacklist.txt",  # a report of addresses with ports
    "firehol-2018-06/iblocklist_org_crowd_control.netset",  # no byte in it
    "honeypot-jacobyoby/blocklist.csv",
    "honeypot-jacobyoby/blocklist.json",
    "honeypot-jacobyoby/blocklist.misp.csv",
    "hosts-baddboyz/hosts",
    "hosts-deny-kamaraju/hosts.deny",
    "sefinek/ddos-2025-05-04.csv",
    "shadowwhisperer/Tunnels.csv",
    "spamhaus-json/asndrop.json",
    "spamhaus-text/asn_drop.json",
}


@functools.cache  # the lists have much in common
def straightforward_span(text):
    try:
        if "/" in text:
            network = ipaddress.ip_network(text, strict=False)
            first, last = network.network_address, network.broadcast_address
        else:
            first, last = map(ipaddress.ip_address, (text.split("-") * 2)[:2])
    except ValueError:
        return None
    return Span(first.version, int(first), int(last)) if first <= last else None


def straightforward(text):
    """(spans, lines, lines that are wrong) of a list with one entry a line."""
    found, lines, wrong = [], 0, 0
    for line in text.lstrip("\ufeff").splitlines():
        words = re.split("[#;]", line)[0].split()
        if line.startswith("{"):
            value = json.loads(line)
            words = [value["cidr"]] if value.get("type") != "metadata" else []
        if not words:
            continue
        lines += 1
        span = straightforward_span(words[0])
        if span is None:
            wrong += 1
        elif span.size <= 1 << (24 if span.version == 4 else 112):
            found.append(span)
    return sorted(set(found)), lines, wrong


def test_every_list_of_the_corpus(corpus):
    files = sorted(file for file in (corpus / "lists").rglob("*") if file.is_file() and file.name != "SOURCE.txt")
    names = {file.relative_to(corpus / "lists").as_posix() for file in files}
    assert len(names) > 70
    assert names >= NOTHING
    for file in files:
        name = file.relative_to(corpus / "lists").as_posix()
        found = listfiles.read(file.read_bytes(), name)
        objection = trust.objection(found.tally, None)
        if name in NOTHING:
            assert found.listing.count == 0, name
            assert objection, name
        else:
            expected = straightforward(file.read_bytes().decode())
            assert (spans(found), found.lines, found.unparsed) == expected, name
            assert objection is None, name


def test_versions_of_one_list_follow_each_other(corpus):
    for series in ("series-spamhaus-drop", "series-tor-exits"):
        last = None
        for file in sorted((corpus / "lists" / series).glob("v*")):
            found = listfiles.read(file.read_bytes(), file.name)
            assert trust.objection(found.tally, last) is None
            last = found.listing.count
        assert last


def test_the_corpus_cut_short_is_noticed_when_half_of_it_is_gone(corpus):
    data = (corpus / "lists" / "ipsum" / "level3.txt").read_bytes()
    whole = listfiles.read(data, "f").listing.count
    assert trust.objection(listfiles.read(data[: len(data) // 3], "f").tally, whole)
    assert trust.objection(listfiles.read(data[: len(data) * 2 // 3], "f").tally, whole) is None
