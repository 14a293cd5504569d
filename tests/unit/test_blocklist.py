"""blocklist.yaml: what it says, what is refused and in which words, and that the shortcut for regular lines agrees."""

# ruff: noqa: E501 - the tables have a case a line, with the sentence as the operator sees it

import json
import random
import time
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from xdropd.errors import RefusedFile
from xdropd.text import blocklist, chunks, packedruns, runs, unchanged, yamlnodes
from xdropd.text.addresses import Span
from xdropd.text.includes import Fetch, Include

REPOSITORY = Path(__file__).parents[2]
FORMS = "write an address, a network such as 203.0.113.0/24 or a range such as 198.51.100.7-198.51.100.29"
ITEM_REMEDY = "write each entry on a line of its own after a dash and a space"


def read(text):
    return blocklist.read(text if isinstance(text, bytes) else text.encode(), "blocklist.yaml")


def problems(text):
    """What is wrong with the text: LINE:COLUMN: sentence."""
    with pytest.raises(RefusedFile) as caught:
        read(text)
    found = caught.value.problems
    assert found == sorted(found)
    assert all(str(problem).startswith("blocklist.yaml:") and problem.severity == "error" for problem in found)
    return [f"{problem.line}:{problem.column}: {problem.message}" for problem in found]


def said(listing):
    """Every entry as (canonical form, line, reason, until), in file order."""
    rows = sorted(listing.rows(), key=lambda row: row.line)
    return [(str(Span(*row[:3])), row.line, row.reason, row.until) for row in rows]


CONTRACT = """\
block:
  - 10.205.131.126                      # an address
  - 203.0.113.0/24                      # a network
  - 198.51.100.7-198.51.100.29          # a range
  - 2001:db8:bad::/48                   # IPv6 as well
  - address: 192.0.2.7                  # any of the above, with more to say
    reason: ssh brute force
    until: 2026-12-01T00:00:00Z
allow:                                  # always wins over block
  - 192.168.0.0/16
include:                                # plain list files, paths relative to this file, globs allowed
  - lists.d/*.netset
  - path: lists.d/drop.txt
    reason: Spamhaus DROP
"""


def test_all_that_can_be_said():
    found = read(CONTRACT)
    assert said(found.block) == [
        ("10.205.131.126", 2, "", None),
        ("203.0.113.0/24", 3, "", None),
        ("198.51.100.7-198.51.100.29", 4, "", None),
        ("2001:db8:bad::/48", 5, "", None),
        ("192.0.2.7", 6, "ssh brute force", 1796083200.0),
    ]
    assert said(found.allow) == [("192.168.0.0/16", 10, "", None)]
    assert found.includes == (
        Include("lists.d/*.netset", 12, 5, ""),
        Include("lists.d/drop.txt", 13, 11, "Spamhaus DROP"),
    )
    assert found.block.count == 5


def test_all_that_an_include_can_say():
    found = read(
        "block: []\ninclude:\n  - https://example.org/a.txt\n  - url: http://example.org/b?c=d\n    every: 12h\n    headers: b.headers\n    sha256: "
        + "AB" * 32
        + "\n    widest: {ipv6: 12}\n    reason: theirs\n  - {path: a, action: monitor, widest: 0}\n  - {path: b, action: allow, select: [country=kp, asn=AS64496]}\n"
    )
    assert found.includes == (
        Include("https://example.org/a.txt", 3, 5, fetch=Fetch(86_400, "", "")),
        Include(
            "http://example.org/b?c=d", 4, 10, "theirs", "block", (8, 12), (), Fetch(43_200, "b.headers", "ab" * 32)
        ),
        Include("a", 10, 12, "", "monitor", (0, 0)),
        Include("b", 11, 12, "", "allow", (8, 16), ("country=KP", "asn=64496")),
    )
    assert [Include.of(json.loads(json.dumps(each))) for each in found.includes] == list(found.includes)


def test_the_first_of_equal_entries_counts_however_they_are_written():
    lines = [
        "1.2.3.4/32",
        "1.2.3.4",
        "{address: 1.2.3.4-1.2.3.4, reason: x}",
        "{address: '1::', reason: y}",
        '"1::"',
        "1.2.3.4/31",
    ]
    found = read("block:\n" + "".join(f"  - {line}\n" for line in lines))
    assert said(found.block) == [("1.2.3.4", 2, "", None), ("1::", 5, "y", None), ("1.2.3.4/31", 7, "", None)]


def test_allow_has_entries_of_every_kind():
    found = read("block: []\nallow:\n  - ::/0\n  - 1.2.3.4\n  - address: 5.6.7.8\n    reason: ours\n")
    assert [entry[:3] for entry in said(found.allow)] == [
        ("::/0", 3, ""),
        ("1.2.3.4", 4, ""),
        ("5.6.7.8", 5, "ours"),
    ]


def test_nothing_is_a_number():
    found = read("block: [1:20:30:40:50:10:20:30]\n")
    assert said(found.block) == [("1:20:30:40:50:10:20:30", 1, "", None)]


@pytest.mark.parametrize(
    ("item", "entry"),
    [
        ("2001:db8::", "2001:db8::"),
        ("2001:db8::  # a comment", "2001:db8::"),
        ("::", "::"),
        ("::1", "::1"),
        ("'::'", "::"),
        ('"2001:db8::"', "2001:db8::"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:db8::1-2001:db8:1::", "2001:db8::1-2001:db8:1::"),
        ("address: '::'", "::"),
        ("address:\n        2001:db8::", "2001:db8::"),
        ("2001:0DB8:0:0:0:0:0:0", "2001:db8::"),
    ],
)
def test_ipv6_is_taken_as_it_is_written(item, entry):
    assert [text for text, *_ in said(read(f"block:\n  - {item}\n  - 192.0.2.1\n").block)] == [entry, "192.0.2.1"]


def test_mapped_addresses_are_those_of_ipv4_wherever_an_entry_is_read():
    items = "  - ::ffff:192.0.2.1\n  - ::ffff:198.51.100.0/120\n  - '::ffff:203.0.113.1-::ffff:203.0.113.9'\n"
    items += "  - address: ::FFFF:c000:207\n    reason: why\n"
    found = read(f"block:\n{items}allow:\n{items}")
    listed = [
        ("192.0.2.1", 2, ""),
        ("198.51.100.0/24", 3, ""),
        ("203.0.113.1-203.0.113.9", 4, ""),
        ("192.0.2.7", 5, "why"),
    ]
    assert [entry[:3] for entry in said(found.block)] == listed
    assert [(entry, line - 6, reason) for entry, line, reason, _ in said(found.allow)] == listed
    assert problems("block: ['::ffff:192.0.2.1/120']\n") == [
        "1:9: '::ffff:192.0.2.1/120' has bits set behind its prefix, "
        "write 192.0.2.0/24 for the network or ::ffff:192.0.2.1 for the address"
    ]


@pytest.mark.parametrize(
    ("until", "seconds"),
    [
        ("2026-12-01T00:00:00Z", 1796083200.0),
        ("2026-12-01t00:00:00z", 1796083200.0),
        ("2026-12-01 00:00Z", 1796083200.0),
        ("2026-12-01 02:00:00 +02:00", 1796083200.0),
        ("2026-11-30T19:00:00.5-0500", 1796083200.5),
        ("'2026-12-01T00:00:00Z'", 1796083200.0),
        ("1970-01-01T00:00:00Z", 0.0),
        ("1969-12-31T23:59:59Z", -1.0),
        ("9999-12-31T23:59:59-23:59", 253402387139.0),
    ],
)
def test_until(until, seconds):
    (entry,) = said(read(f"block:\n  - address: 192.0.2.1\n    until: {until}\n").block)
    assert entry[3] == seconds


@pytest.mark.threat_model
def test_a_reason_is_one_line():
    text = "block:\n  - address: 192.0.2.1\n    reason: >\n      two\n      lines\n  - {address: 192.0.2.2, reason: 404}\n  - {address: 192.0.2.3, reason: }\n"
    assert [(text, reason) for text, _, reason, _ in said(read(text).block)] == [
        ("192.0.2.1", "two lines"),
        ("192.0.2.2", "404"),
        ("192.0.2.3", ""),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "block: []",
        "block: []\r\n",
        "\ufeffblock: []\n",
        "---\nblock: []\n...\n",
        "%YAML 1.1\n---\nblock: []\n",
        "  block:\n    []\n",
        '{"block": []}',
        "'block': []\n",
        "# only\nblock: [] # nothing\n",
        "include: []\nallow: []\nblock: []\n",
    ],
)
def test_nothing_is_blocked_if_the_file_says_so(text):
    assert read(text).block.count == 0


def test_lines_and_columns_count_characters():
    assert problems("block:\n  - {address: 192.0.2.1, reason: Ärger, until: 7d}\n") == [
        "2:48: '7d' is not a time, write one such as 2026-12-01T00:00:00Z"
    ]
    assert problems("\ufeffx: 1\r\nblock: []\r\n")[0].startswith("1:1: ")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", ["1:1: the file is empty, write 'block: []' if nothing is to be blocked"]),
        ("# nothing\n", ["1:1: the file is empty, write 'block: []' if nothing is to be blocked"]),
        ("---\n", ["2:1: the file is empty, write 'block: []' if nothing is to be blocked"]),
        ("block:\n", ["1:1: nothing follows 'block:', write 'block: []' if nothing is meant"]),
        ("block: ~\n", ["1:1: nothing follows 'block:', write 'block: []' if nothing is meant"]),
        ("block: []\nallow:\n", ["2:1: nothing follows 'allow:', write 'allow: []' if nothing is meant"]),
        ("include:\nblock: []\n", ["1:1: nothing follows 'include:', write 'include: []' if nothing is meant"]),
        ("allow: []\n", ["1:1: 'block' is missing, write 'block: []' if nothing is to be blocked here"]),
        ("block: 192.0.2.1\n", ["1:8: '192.0.2.1' is not in a list, write '- 192.0.2.1' on a line of its own"]),
        ("block:\n  192.0.2.1\n  192.0.2.2\n", [f"2:3: '192.0.2.1 192.0.2.2' is not a list, {ITEM_REMEDY}"]),
        ("block:\n  -192.0.2.1\n  -192.0.2.2\n", ["2:3: '-192.0.2.1 -192.0.2.2' is not a list, write a space after each dash: '- 192.0.2.1'"]),
        ("block: {}\n", [f"1:8: there are keys under 'block:' and no list, {ITEM_REMEDY}"]),
        ("block: |\n  - 192.0.2.1\n", [f"1:8: '- 192.0.2.1\\n' is not a list, {ITEM_REMEDY}"]),
        ("- 192.0.2.1\n- 192.0.2\n", ["1:1: this list has no name, write 'block:' on a line above it", "2:3: '192.0.2' has 3 of the 4 numbers of an IPv4 address, write all four, or a network: 192.0.2.0/24"]),
        ("block\n  - 192.0.2.1\n", ["1:1: 'block - 192.0.2.1' has no colon, write 'block: '"]),
        ("block:[]\n", ["1:1: 'block:[]' has no space after its colon, write 'block: '"]),
        ("<html>\n", ["1:1: '<html>' is no key with a value, write 'block:' and the entries below it"]),
        ("bock:\n  - 192.0.2.1\n  - x\n", ["1:1: unknown key 'bock', did you mean 'block'?", "3:5: 'x' looks like a host name, write its addresses, for names are not looked up"]),
        ("Block: []\n", ["1:1: unknown key 'Block', did you mean 'block'?"]),
        ("deny: []\nblock: []\n", ["1:1: unknown key 'deny', a blocklist has block, allow or include"]),
        ("block: []\nblock: [x]\n", ["2:1: 'block' is here a second time (first in line 1), keep one", "2:9: 'x' looks like a host name, write its addresses, for names are not looked up"]),
        ("block: []\n<<: {}\n", ["2:1: unknown key '<<', a blocklist has block, allow or include"]),
        ("block: []\n? [a]\n: b\n", ["2:3: a key must be a word, a blocklist has block, allow or include"]),
        ("block: []\n  - 192.0.2.1\n", ["2:3: 'block: []' above says that the list is empty, remove the [] there"]),
        ("block: []\n# so\n\n- 192.0.2.1\n", ["4:1: 'block: []' above says that the list is empty, remove the [] there"]),
        ("block: []]\n", ["1:10: there is a ']' too many here, remove it"]),
        ("block: - 192.0.2.1\n", ["1:8: a list cannot start on this line, write its first '- ' on the next one"]),
        ("block: [192.0.2.1\n", ["1:8: what opens here is not closed, write a comma between entries and ']' at the end"]),
        ("block: [192.0.2.1,,]\n", ["1:19: an entry is missing here, write one or remove the comma, and end with ']'"]),
        ("block:\n  - 10.0.0.1/8\n", ["2:5: '10.0.0.1/8' has bits set behind its prefix, write 10.0.0.0/8 for the network or 10.0.0.1 for the address"]),
        ("block:\n  - 010.1.2.3\n", ["2:5: '010.1.2.3' has numbers that start with a zero, which others read as octal, write 10.1.2.3"]),
        ("block:\n  - 10.0.0\n", ["2:5: '10.0.0' has 3 of the 4 numbers of an IPv4 address, write all four, or a network: 10.0.0.0/24"]),
        ("block:\n  - 10.0\n", ["2:5: '10.0' has 2 of the 4 numbers of an IPv4 address, write all four, or a network: 10.0.0.0/16"]),
        ("block:\n\t- 192.0.2.1\n", ["2:1: there is a tab here, use spaces"]),
        ("block:\n  -\t192.0.2.1\n", ["2:4: there is a tab here, use spaces"]),
        ("block:\n  - 192.0.2.1\n\t- 192.0.2.2\n", ["3:1: there is a tab here, use spaces"]),
        ("block:\n  - 192.0.2.1\n  192.0.2.2\n", ["3:3: '192.0.2.2' stands alone, write a dash and a space before it: '- 192.0.2.2'"]),
        ("block:\n  - 192.0.2.1\n  -192.0.2.2\n", ["3:3: '-192.0.2.2' has no space after its dash, write '- 192.0.2.2'"]),
        ("block:\n- 192.0.2.1\n  192.0.2.2\n", ["2:3: '192.0.2.1 192.0.2.2' holds 2 entries, write each on a line of its own after '- '"]),
        ("block: []\nallow\n", ["2:1: 'allow' stands alone, write a colon after a key or '- ' before an entry"]),
        ("block:\n  - example.com\n", ["2:5: 'example.com' looks like a host name, write its addresses, for names are not looked up"]),
        ("block:\n  - http://192.0.2.1/x\n", ["2:5: 'http://192.0.2.1/x' is a URL, write the address alone: 192.0.2.1"]),
        ("block:\n  - 192.0.2.1 # fine\n  - 192.0.2.2# not\n", ["3:5: '192.0.2.2# not' has a comment in it, leave a space before the # and take it out of the quotes"]),
        ("block:\n  - 1.2.3.4-1.2.3.1\n", ["2:5: '1.2.3.4-1.2.3.1' runs backwards, write 1.2.3.1-1.2.3.4"]),
        ('block:\n  - "192.0.2.1\n  - 192.0.2.2\n', ["2:5: the quote that opens here is never closed, close it on the same line"]),
        ('block:\n  - "192.0.2.1\n  - "192.0.2.2"\n', ["2:5: '192.0.2.1 - ' has a character too many, write 192.0.2.1", "3:6: this does not fit what stands above it, check that every quote is closed"]),
        ('block:\n  - "192.0.2.1\\d"\n', ["2:15: a backslash means something else in double quotes, use single quotes"]),
        ("block:\n  - 192.0.2.1\n   - 192.0.2.2\n", ["2:5: '192.0.2.1 - 192.0.2.2' has spaces in it, write 192.0.2.1-192.0.2.2 for a range, or each entry on a line of its own, indented alike"]),
        ("block:\n   - 192.0.2.1\n  - 192.0.2.2\n", ["3:3: this dash does not fit what stands above it, indent all entries of a list alike"]),
        ("block:\n  - 192.0.2.1\n allow: []\n", ["3:2: this does not fit what stands above it, indent it like the lines that it belongs to"]),
        ("block:\n  -\n  - 192.0.2.1\n", [f"2:4: there is nothing here, {FORMS}"]),
        ("block:\n  - - 192.0.2.1\n  - [192.0.2.1]\n", ["2:5: this is a list within the list, write one dash and no brackets", "3:5: this is a list within the list, write one dash and no brackets"]),
        ("block:\n  * 192.0.2.1\n", ["2:3: a text cannot start with '*', put it in quotes, or write '- ' where an entry starts"]),
        ("block:\n  - @home\n", ["2:5: a text cannot start with '@', put it in quotes"]),
        ("block: [::1]\n", ["1:9: '::1' is read as something else here, quote it: \"::1\""]),
        ("block: [2001:db8::]\n", ["1:9: '2001:db8::' is read as something else here, quote it: \"2001:db8::\""]),
        ("block:\n  - address: 2001:db8::\n    reason: x\n", ["2:14: '2001:db8::' is read as something else here, quote it: \"2001:db8::\""]),
        ("block:\n  - 192.0.2.1: ssh\n", ["2:5: '192.0.2.1' is a key here, for a colon follows, write '- address: 192.0.2.1', and the rest on lines of its own below"]),
        ("block:\n  - 192.0.2.1:\n", ["2:5: '192.0.2.1' is a key here, for a colon follows, write '- address: 192.0.2.1'"]),
        ("block:\n  - 192.0.2.1 reason: ssh\n", ["2:5: '192.0.2.1' is a key here, for a colon follows, write '- address: 192.0.2.1', and the rest on lines of its own below"]),
        ("block:\n  - 2001:db8:::\n      reason: ssh\n", ["2:5: '2001:db8::' is a key here, for a colon follows, write '- address: \"2001:db8::\"', and the rest on lines of its own below"]),
        ("block:\n  - address:192.0.2.1\n", ["2:5: 'address:192.0.2.1' has no space after its colon, write 'address: 192.0.2.1'"]),
        ("block:\n  - address: 192.0.2.1\n    reson: ssh\n", ["3:5: unknown key 'reson', did you mean 'reason'?"]),
        ("block:\n  - address: 192.0.2.1\n    reason: a\n    reason: b\n", ["4:5: 'reason' is here a second time (first in line 3), keep one"]),
        ("block:\n  - address: 192.0.2.1\n    reason: ssh: brute\n", ["3:16: a colon cannot stand here, quote the text that holds it, and indent keys alike"]),
        ("block:\n  - address: 192.0.2.1\n    reason: [a]\n    until: {}\n", ["3:13: a reason is text, write it on this line", "4:12: 'until' is a time, write one such as 2026-12-01T00:00:00Z"]),
        ('block:\n  - address: 192.0.2.1\n    reason: "a\\0b"\n', ["3:13: this reason holds a control character, leave it out"]),
        ("block:\n  - reason: ssh\n", ["2:5: this entry has no address, write 'address: …' in it"]),
        ("block:\n  - address:\n", [f"2:5: 'address' has no text after it, {FORMS}"]),
        ("block:\n  - address: [192.0.2.1]\n", [f"2:5: 'address' has no text after it, {FORMS}"]),
        ("block:\n  - address: 192.0.2.1\n    until: 2026-12-01T00:00:00\n", ["3:12: '2026-12-01T00:00:00' has no zone, write 2026-12-01T00:00:00Z for UTC or, say, 2026-12-01T00:00:00+02:00"]),
        ("block:\n  - address: 192.0.2.1\n    until: 2026-12-01\n", ["3:12: '2026-12-01' has no time of day and no zone, write 2026-12-01T00:00:00Z for UTC or, say, 2026-12-01T00:00:00+02:00"]),
        ("block:\n  - address: 192.0.2.1\n    until: 2026-13-01T00:00:00Z\n", ["3:12: '2026-13-01T00:00:00Z' does not exist (month must be in 1..12), write a time such as 2026-12-01T00:00:00Z"]),
        ("block:\n  - address: 192.0.2.1\n    until: 7d\n", ["3:12: '7d' is not a time, write one such as 2026-12-01T00:00:00Z"]),
        ("block:\n  - address: 192.0.2.1\n    until:\n", ["3:11: nothing follows 'until:', write a time such as 2026-12-01T00:00:00Z or remove the line"]),
        (
            "block:\n - &a 192.0.2.1\n - *a\n - !!str 192.0.2.1\n - ! 192.0.2.1\n",
            [
                "2:4: '&a' is an anchor, which is not accepted here, write the text itself",
                "3:4: '*a' is an alias, which is not accepted here, write the text itself",
                "4:4: '!!str' is a tag, which is not accepted here, leave it out: all is text",
                "5:4: '!' is a tag, which is not accepted here, leave it out: all is text",
            ],
        ),
        ("block: &a []\n", ["1:8: '&a' is an anchor, which is not accepted here, write the text itself"]),
        ("block: []\nallow: *a\n", ["2:8: '*a' is an alias, which is not accepted here, write the text itself"]),
        ("*a\n", ["1:1: '*a' is an alias, which is not accepted here, write the text itself"]),
        ("block: []\n---\nblock: []\n", ["2:1: a second document starts here, keep everything in one and remove this line"]),
        ("block: []\n...\nallow: []\n", ["3:1: there is something after the end of the document, remove it"]),
        ("%YAML 3.0\n---\nblock: []\n", ["1:1: this is not valid YAML (found incompatible YAML document), check quotes, colons and indentation"]),
        (b"block:\n  - x\n  - 192.0.2.1 # f\xfcr\n  - y\n", ["2:5: 'x' looks like a host name, write its addresses, for names are not looked up", "3:18: the byte 0xfc here is not UTF-8, save the file as UTF-8"]),
        ("block:\n  - ü\n  - 192.0.2.1\0\n  - y\n", [f"2:5: 'ü' is not an entry, {FORMS}", "3:14: there is a control character (0x00) here, remove it"]),
        ("block: []\n".encode("utf-16"), ["1:1: the file is UTF-16, save it as UTF-8"]),
        (b"\x7fELF\2\1\1\0\0", ["1:1: there is a control character (0x7f) here, remove it"]),
        (
            "include:\n  - ftp://example.com/list\n  - 192.0.2.1\n  - lists.d/\n  -\n  - [a]\n  - \"a\\0\"\n  - path: a\n    reson: b\n  - reason: c\n  - path: [d]\nblock: []\n",
            [
                "2:5: 'ftp://example.com/list' is no URL of the web, write one that begins with https:// or http://",
                "3:5: '192.0.2.1' is an entry and not a file, write it under 'block:'",
                "4:5: 'lists.d/' is a folder, write 'lists.d/*' for the files in it",
                "5:4: there is no path here, write one such as lists.d/*.netset",
                "6:5: this is a list within the list, write one dash and no brackets",
                "7:5: 'a\\x00' holds a control character, leave it out",
                "9:5: unknown key 'reson', did you mean 'reason'?",
                "10:5: this include names no file, write 'path: …' or 'url: …' in it",
                "11:5: this include names no file, write 'path: …' or 'url: …' in it",
            ],
        ),
        (
            "block: []\ninclude:\n  - 'http://[::::]/a'\n  - 'http://[1.2.3.4]/a'\n  - http://a:65536/\n  - http://a:65535/\n  - 'http://[2001:db8::1]:0/'\n",
            [
                "3:5: 'http://[::::]/a' has no IPv6 address between its brackets",
                "4:5: 'http://[1.2.3.4]/a' has no IPv6 address between its brackets",
                "5:5: 'http://a:65536/' has a port over 65535",
            ],
        ),
        (
            "block: []\ninclude:\n  - {path: a, url: http://a}\n  - {path: a, every: 1h}\n  - {url: http://a, every: 4m}\n  - {url: http://a, every: soon}\n  - {url: 'https://me:pw@a/'}\n"
            "  - {url: 'http://a/#b'}\n  - {url: http://ü/}\n  - {url: lists.d/a}\n  - {path: http://a}\n  - {path: a, action: drop}\n  - {path: a, widest: 33}\n  - {path: a, widest: [8]}\n"
            "  - {path: a, select: country=KP}\n  - {path: a, select: [Korea, country=KOR, continent=XX, asn=x, asn=1, asn=AS1]}\n  - {url: http://a, sha256: 12}\n  - {url: http://a, action: }\n",
            [
                "3:15: an include has a path or a URL, write two for both",
                "4:15: 'every' is for what is fetched, write it beside 'url:'",
                "5:28: '4m' is out of bounds, write 5m to 30d",
                "6:28: 'soon' is no duration, write one such as 90m, 12h or 7d",
                "7:11: a URL with a name or password does not stand here, write them into a file and its path after 'headers:'",
                "8:11: 'http://a/#b' has a part after '#' that no server is asked for, leave it out",
                "9:11: 'http://ü/' is no URL, write one such as https://example.org/list.txt, other characters as %XX",
                "10:11: 'lists.d/a' is no URL of the web, write one that begins with https:// or http://",
                "11:12: 'http://a' is a URL and no path, write 'url: http://a'",
                "12:23: 'drop' is no action, did you mean 'block'?",
                "13:23: '33' is no prefix length, write 0 to 32",
                "14:23: 'widest' has one value, write it on this line",
                "15:23: 'select' is a list, write one such as [country=KP, asn=64496]",
                "16:24: 'Korea' is no selection, write country=KP, continent=AN or asn=64496",
                "16:31: 'country=KOR' names no country, write its two letters of ISO 3166, as in country=KP",
                "16:44: 'continent=XX' names no continent, write AF, AN, AS, EU, NA, OC or SA",
                "16:58: 'asn=x' is no number of an autonomous system, write one such as asn=64496",
                "16:72: asn=1 is selected a second time, keep one",
                "17:29: '12' is no SHA-256, write its 64 hexadecimal digits",
                "18:21: nothing follows 'action:', remove the line to have the default",
            ],
        ),
        ("include: lists.d/a\nblock: []\n", [f"1:10: 'lists.d/a' is not a list, {ITEM_REMEDY}"]),
    ],
)  # fmt: skip
def test_what_people_type(text, sentences):
    assert problems(text) == sentences


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (b"# a\xff\n# \0\n", "40002:4: the byte 0xff here"),
        (b"# \0\n\xff", "40002:3: there is a control character (0x00)"),
    ],
)
def test_what_yaml_cannot_hold_has_its_place_far_down_in_a_file_too(end, sentence):
    above = "block:" + "\n  - 192.0.2.1 # \u00fc" * 20_000 + "\u2028#" * 20_000 + "\n"  # LS breaks lines as well
    assert problems(above.encode() + end)[-1].startswith(sentence)


def test_every_problem_is_reported_and_sorted():
    text = "allow:\n  - x\nblock:\n" + "  - 1.2.3\n" * 1000 + "until: never\ninclude: [ftp://x]\n"
    found = problems(text)
    assert len(found) == 1003
    assert found[0].startswith("2:5:")
    assert found[-1].startswith("1005:11:")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "{" * 100_000,
        "- " * 100_000,
        "? " * 100_000,
        "block: " + "[" * 100_000,
        "block:\n- " + "- " * 100_000,
        "x: " + "{a: " * 100_000,
    ],
)
@pytest.mark.threat_model
def test_depth_is_a_problem_and_no_crash(text):
    assert any("nested over 32 deep" in sentence for sentence in problems(text))


@pytest.mark.threat_model
def test_a_file_that_is_all_problems_ends(monkeypatch):
    assert yamlnodes._PROBLEMS_AT_MOST >= 100_000  # beyond what anybody reads, within what memory holds
    monkeypatch.setattr(yamlnodes, "_PROBLEMS_AT_MOST", 1000)
    found = problems("block:\n" + "  - 1.2.3\n" * 1001)
    assert len(found) == 1001
    assert found[-1] == "1002:5: there are too many problems, reading stops here"


def test_a_mistake_at_the_end_of_a_large_file_is_found_without_delay():
    start = time.process_time()
    text = "block: []\n" + "# a comment\n" * 200_000 + "- 192.0.2.1\n"
    assert problems(text) == ["200002:1: 'block: []' above says that the list is empty, remove the [] there"]
    assert problems("block:\n" + "  - 192.0.2.1\n" * 200_000 + "x\n")[0].startswith("200002:1: 'x' stands alone")
    assert time.process_time() - start < 5


# The shortcut for regular lines


def by_events(data):
    """The same text without the shortcut."""
    data, unreadable = yamlnodes.decode(data, "f")
    return blocklist._Reader(data, "f", []).read(unreadable)


def outcome(reader, data):
    """All that a reader says: the problems, or the entries with their places and the includes."""
    try:
        found = reader(data)
    except RefusedFile as error:
        return error.problems
    return list(found.block.rows()), list(found.allow.rows()), found.includes


ADDRESSES = ["0.0.0.0", "1.2.3.4", "10.0.0.1", "192.0.2.255", "255.255.255.255"]
ENTRIES = [
    *ADDRESSES, "0.0.0.0/0", "10.0.0.0/8", "1.2.3.4/32", "192.0.2.254/31", "1.2.3.4-1.2.3.9", "1.2.3.4-1.2.3.4", "10.0.0.0-10.255.255.255", "::1", "2001:db8::7", "2001:DB8::/32",
    "1:2:3:4:5:6:7:8", "::/0", "2001:db8::1-2001:db8::9", "2001:db8::1-2001:db8:1::1", "::ffff:1.2.3.4", "::ffff:1.2.3.0/120", "::ffff:1.2.3.4-::ffff:1.2.3.9", "::ffff:0:0/96",
]  # fmt: skip
NO_ENTRIES = [
    "1.2.3",
    "1.2.3.400",
    "01.2.3.4",
    "1.2.3.4/33",
    "1.2.3.4/08",
    "1.2.3.4/24",
    "1.2.3.9-1.2.3.4",
    "1.2.3.4-::1",
    "2001:db8::",
    "2001:db8::/129",
    "1:",
    "a",
    "1-2-3",
    "1/2/3",
    ":1",
    "/8",
]
REASONS = ["ssh", "ssh brute force", "a  b", "'quoted: text'", '"quoted # text"', "''", "null", "404", "x.y_z,(1)/2;=@"]
NO_REASONS = ["a: b", "a #b", "", "[a]", "'a''b'", '"a\\x41"', '"a\\0"', "|", "*a", "a'b", "- a", "\u00fc", "'a' b"]
UNTILS = ["2026-12-01T00:00:00Z", "'2026-12-01T00:00:00Z'", '"2030-01-01 00:00 +02:00"', "2026-11-30T19:00:00.5-0500"]
NO_UNTILS = ["2026-12-01", "2026-13-01T00:00:00Z", "7d", "", "0", "2026-12-01T00: 00:00Z"]
HARMLESS = [
    "# a comment", "  # a comment", "", "  - 1.2.3.4 ", "  - 1.2.3.4 # x", "  -  1.2.3.4", "  - 10.0.0.0/8", "  - ::1", "  - ::", "  - 1.2.3.4-1.2.3.9", "  - '1.2.3.4'",
    '  - "1.2.3.4"', "  - address: 1.2.3.4", "  - {address: 1.2.3.4}", "  - address: 1.2.3.4\n    reason: x", "allow:", "block:", "include:", "  - 1.2.3.4\u2028", "# \u00fc",
    "  - address: 1.2.3.4\n    reason: x\n      y", "  - address: 1.2.3.4\n    reason: >\n      folded", "    until: 2026-12-01T00:00:00Z", "  - reason: ssh\n    address: ::1",
]  # fmt: skip
ODDITIES = [
    *HARMLESS, " ", "\t", "  -", "  - ", "  - 1.2.3", "  - 1.2.3.400", "  - 01.2.3.4", "   - 1.2.3.4", " - 1.2.3.4", "- 1.2.3.4", "  1.2.3.4", "    1.2.3.4", "  -\t1.2.3.4",
    "\t- 1.2.3.4", "  - '", '  - "', "  - |", "  - >-", "    reason: x", "  - [1.2.3.4,", "  ]", "block: [", "allow: |", "x: '", "y: >", "'", '"', "]", "---", "...", "- |",
    "  - - 1.2.3.4", "  - &a 1.2.3.4", "  - *a", "  - \u00fc", "\u2028  - 1.2.3.4", "# \x85", "  - 1.2.3.4\r", "\r", "  - \ufeff1.2.3.4", "\ufeff", "  - 1.2.3.4\0", "? a", ": b",
    "  - ? x", "!!str", "  - 1.2.3.4:", "    address: 1.2.3.4", "    reason: |", "    reason: '", "  - reason: x", "   until: x",
]  # fmt: skip
STARTS = [
    "block:",
    "block:",
    "block:",
    "allow:\n  - 1.2.3.4\nblock:",
    "include:",
    "x: |",
    "block: [",
    "- - 1.2.3.4",
    "",
]


@st.composite
def plain_items(draw, indent, words):
    """Entries alone, a line each."""
    return [f"{indent}- {word}" for word in draw(st.lists(st.sampled_from(words), min_size=6, max_size=40))]


@st.composite
def mappings(draw, indent, words, reasons, untils):
    """Entries with more to say, all in one shape or each in its own."""
    values = {"address": st.sampled_from(words), "reason": st.sampled_from(reasons), "until": st.sampled_from(untils)}
    keys = st.sampled_from(
        [("address",), ("address", "reason"), ("until", "address"), tuple(values)] * 3
        + [("reason", "until", "address"), ("reason",), ("address", "reason", "reason")]
    )
    one = draw(st.one_of(keys, st.none()))
    lines = []
    for _ in range(draw(st.integers(6, 20))):
        pairs = [f"{key}: {draw(values[key])}" for key in one or draw(keys)]
        lines += [f"{indent}{'- ' if at == 0 else '  '}{pair}" for at, pair in enumerate(pairs)]
    return lines


@st.composite
def texts(draw):
    is_tame = draw(st.integers(0, 2)) > 0
    lines = [draw(st.sampled_from(STARTS[:4] if is_tame else STARTS))]
    indents = ["  "] if is_tame else ["  ", "  ", "", "   "]
    for _ in range(draw(st.integers(0, 6))):
        indent = draw(st.sampled_from(indents))
        is_fine = is_tame or draw(st.booleans())
        words = ENTRIES if is_fine else [*ENTRIES, *NO_ENTRIES]
        match draw(st.integers(0, 4)):
            case 0:
                lines += draw(plain_items(indent, ADDRESSES))
            case 1:
                lines += draw(plain_items(indent, words))
            case 2 if is_fine:
                lines += draw(mappings(indent, words, REASONS, UNTILS))
            case 2:
                lines += draw(mappings(indent, words, REASONS + NO_REASONS, UNTILS + NO_UNTILS))
            case _:
                lines += draw(st.lists(st.sampled_from(HARMLESS if is_tame else ODDITIES), max_size=3))
    newline = draw(st.sampled_from(["\n", "\n", "\n", "\r\n"]))
    return (newline.join(lines) + draw(st.sampled_from(["", newline]))).encode()


class InBytes:
    """What a guest does, without its process: a part of a text goes there, and its runs come back, as bytes."""

    @contextmanager
    def scanning(self, part):
        yield lambda: packedruns.unpack(b"".join(packedruns.pack(list(runs.scan(part, 0, len(part))))), len(part))


def of_any_size(patch):
    """Have each text be large enough for a guest."""
    patch.setattr(runs, "_WORTH_BYTES", 1)
    patch.setattr(runs, "_HEAD_START_BYTES", 0)


@settings(max_examples=1000)
@given(texts(), st.integers(100, 1500), st.sampled_from([None, InBytes()]))
def test_the_shortcut_agrees_with_the_events_on_everything(text, chunk_bytes, beside):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_BYTES", chunk_bytes)
        of_any_size(patch)
        shortcut = outcome(lambda data: blocklist.read(data, "f", None, beside), text)
        found = runs.find(text.replace(b"\r\n", b"\n"))[1]
    assert shortcut == outcome(by_events, text)
    event(f"{'refused' if isinstance(shortcut, list) else 'read'}, {'with' if found else 'without'} runs")


def numbered(order, number):
    """Text of item `number`, for a list in which all are different."""
    word = f"{order.randrange(256)}.{order.randrange(256)}.{number >> 8}.{number & 255}"
    return order.choice([word, word, f"{word}/32", f"2001:db8::{number:x}", f"{word}-255.255.255.255"])


def plain(order, number):
    return [f"  - {numbered(order, number)}"]


def annotated(order, number):
    pairs = [f"address: {numbered(order, number)}", "reason: ssh brute force", "until: 2026-12-01T00:00:00Z"]
    return [f"  - {pairs[0]}", *(f"    {pair}" for pair in pairs[1 : order.randrange(1, 4)])]


@pytest.mark.parametrize("item", [plain, annotated])
def test_the_shortcut_is_taken(item):
    """Else the property above would compare the events with themselves."""
    order = random.Random(7)
    lines = ["allow:", "  - 192.0.2.1", "block:"]
    for number in range(20_000):
        lines += item(order, number)
        if number % 1000 == 0:
            lines.append("  # a comment")
    data = "\n".join([*lines, "include: []", ""]).encode()
    text, found = runs.find(data)
    assert sum(len(run.inner.lines) for run in found) > 19_800
    assert len(text.strip()) < 100_000  # most of it newlines
    assert text.count(b"\n") == data.count(b"\n")
    taken = outcome(lambda _: blocklist._Reader(text, "f", found).read(None), data)
    assert taken == outcome(by_events, data)
    assert len(taken[0]) == 20_000


DISTURBING = ["allow:", "block:", "include: []", "  - >", "x: |", "  - 1.2.3"]


@st.composite
def edited(draw, lines):
    """The same text with some lines taken out, moved, or put in: whole items, or what belongs to none."""
    lines = list(lines)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.integers(0, 5)):
            case 0:
                del lines[at : at + draw(st.integers(1, 3))]
            case 1:
                lines[at:at] = draw(st.lists(st.sampled_from(HARMLESS), max_size=2))
            case 2:
                lines[at:at] = [draw(st.sampled_from(DISTURBING))]
            case 3:
                lines[at:at] = draw(st.lists(st.sampled_from([f"  - {word}" for word in ENTRIES]), min_size=1))
            case 4:
                lines = [line.replace(*draw(st.permutations(["block:", "allow:"]))) for line in lines]
            case 5:
                lines[at:at] = lines[at // 2 : at // 2 + draw(st.integers(1, 40))]
        lines = lines or ["block: []"]
    return lines


@settings(max_examples=100)
@given(st.data(), st.integers(200, 1500), st.integers(20, 200), st.booleans())
def test_what_is_read_again_by_what_differs_is_read_as_a_whole(data, chunk_bytes, piece_bytes, are_annotated):
    order = random.Random(data.draw(st.integers(0, 9)))
    item = annotated if are_annotated else plain
    lines = ["allow:", *chain.from_iterable(item(order, number) for number in range(40))]
    lines += ["block:", *chain.from_iterable(item(order, number) for number in range(40, 200))]
    before, kept = None, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_BYTES", chunk_bytes)
        patch.setattr(unchanged, "_PIECE_BYTES", piece_bytes)
        of_any_size(patch)
        for _ in range(4):
            text = "\n".join([*lines, ""]).encode()
            if before is not None:
                kept += sum(map(len, unchanged.find(before.text, text, before.said.runs)))
            read = outcome(lambda data, before=before: blocklist.read(data, "f", before, InBytes()), text)
            assert read == outcome(by_events, text)
            with suppress(RefusedFile):
                before = blocklist.Before(text, blocklist.read(text, "f", before))
            lines = data.draw(edited(lines))
    event(f"{min(kept // 10, 3)}0 runs were known")


@pytest.mark.parametrize("item", [plain, annotated])
def test_of_an_edited_text_only_what_differs_is_read(item):
    """Else the property above would compare whole readings."""
    order = random.Random(8)
    items = [item(order, number) for number in range(20_000)]
    text = "\n".join(["block:", *chain(*items), ""]).encode()
    before = blocklist.Before(text, blocklist.read(text, "f"))
    del items[100]
    items[10_000:10_000] = [["  - 192.0.2.77"], ["  # a comment"]]
    items[10_100] = ["  - 198.51.100.0/24"]
    later = "\n".join(["block:", *chain(*items), ""]).encode()
    first, second = items[:99], items[11_000:]
    for changed in (later, "\n".join(["block:", *chain(*first, *second), ""]).encode()):
        known = unchanged.find(before.text, changed, before.said.runs)
        assert sum(map(len, known)) > len(before.said.runs) // 3
        rest, found = runs.find(changed, *known)
        reader = blocklist._Reader(rest, "f", found, before.said)
        assert outcome(reader.read, None) == outcome(by_events, changed)
        before = blocklist.Before(changed, blocklist.read(changed, "f", before))
        assert before.said.runs


def test_a_text_with_an_entry_twice_is_read_as_a_whole_again():
    """Else the second one would be missing when the first one goes."""
    lines = [f"  - 192.0.2.{number}" for number in range(100)] + [f"  - 192.0.2.{number}" for number in range(100)]
    text = "\n".join(["block:", *lines, ""]).encode()
    before = blocklist.Before(text, blocklist.read(text, "f"))
    assert before.said.runs == ()
    assert blocklist.read("\n".join(["block:", *lines[50:], ""]).encode(), "f", before).block.count == 100


RUNS = [
    "".join(f"  - 192.0.2.{number}\n" for number in range(100)),
    "".join(f"  - address: 192.0.2.{number}\n    reason: x\n" for number in range(100)),
]


@pytest.mark.parametrize("run", RUNS, ids=["plain", "mappings"])
@pytest.mark.parametrize(
    "frame",
    ["block: |\n{}", "x: '\n{}'\nblock: []\n", "block: [\n{}]\n", "include:\n{}", "block:\n  - 1.2.3.4\n  - >\n{}"],
)
def test_what_only_looks_like_a_run_is_none(frame, run):
    data = frame.format(run).encode()
    assert runs.find(data)[1]
    assert outcome(lambda data: blocklist.read(data, "f"), data) == outcome(by_events, data)


def test_the_shipped_blocklist_blocks_nothing():
    data = (REPOSITORY / "etc" / "blocklist.yaml").read_bytes()
    found = blocklist.read(data, "blocklist.yaml")
    assert (found.block.count, found.allow.count, found.includes) == (0, 0, ())


def test_the_examples_in_the_shipped_blocklist_are_right():
    lines = (REPOSITORY / "etc" / "blocklist.yaml").read_text().splitlines()
    found = read("\n".join(line[1:] for line in lines if line.startswith("#   ")))
    assert (found.block.count, found.allow.count, len(found.includes)) == (5, 2, 5)
