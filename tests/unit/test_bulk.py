"""Many words together say what each of them says by itself."""

# ruff: noqa: E501 - samples by the dozen

import ipaddress
import random
import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from xdropd.columns.listing import Builder, Row
from xdropd.text import bulk
from xdropd.text.addresses import HostBits, meant, parse_as_written

V4, V6 = st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)
CLOSE = st.integers(0, 40)  # ranges that are a prefix, an address, backwards


def network(address, length):
    try:
        return str(parse_as_written(f"{address}/{length}"))
    except HostBits as bits:
        return str(bits.network)


FINE = st.one_of(
    V4,
    V6,
    st.builds(network, V4, st.integers(0, 32)),
    st.builds(network, V6, st.integers(0, 128)),
    st.builds("10.0.0.{}-10.0.0.{}".format, CLOSE, CLOSE),
    st.builds("2001:db8::{:x}-2001:db8::{:x}".format, CLOSE, CLOSE),
    st.builds("{}-{}".format, V4, V4),
    st.builds("{}-{}".format, V6, V6),
    st.builds("::ffff:{}".format, V4),
    st.builds("0:0:0:0:0:ffff:{}".format, V4),
    st.builds("::ffff:10.0.0.0/{}".format, st.integers(90, 128)),
    st.builds("::ffff:10.0.0.{}-::ffff:10.0.0.{}".format, CLOSE, CLOSE),
)
WRONG = st.one_of(
    st.builds("{}/{}".format, V4, st.integers(0, 40)),
    st.builds("{}/{}".format, V6, st.integers(0, 140)),
    st.builds("{}-{}".format, V4, V6),
    st.builds("0:0:0:0:0:ffff:{}/{}".format, V4, st.integers(0, 140)),
    st.sampled_from(["", "x", "/", "-", "1.2.3.4/", "/8", "1.2.3.4/08", "1.2.3.4//8", "1.2.3.4/8/8", "1.2.3.4-", "1.2.3.4-1.2.3.5-1.2.3.6", "01.2.3.4", ":", "::/", "1.2.3.4\0", "1.2.3.4/8-1.2.3.5", "\ud800", "::%1"]),
    st.text("0123456789abcdef.:/-", max_size=12),
)  # fmt: skip


def single(words):
    """[(index, entry)] of those that are one, and the indices of the others."""
    fine, wrong = [], []
    for at, word in enumerate(words):
        try:
            fine.append((at, meant(parse_as_written(word))))
        except ValueError:
            wrong.append(at)
    return fine, wrong


def is_mapped(word):
    """Whether it begins with an IPv4 address within IPv6, however that is spelled."""
    try:
        return ipaddress.IPv6Address(re.split("[/-]", word)[0]).ipv4_mapped is not None
    except ValueError:
        return False


def agree(words, found):
    """Nothing is read otherwise, and nothing is left but what is wrong, IPv4-mapped, or a range that is a prefix."""
    builder = Builder()
    lines = np.arange(len(words), dtype=np.uint32)
    found.into(builder, lines, lines + 1, lines.astype(float))
    fine, wrong = single(words)
    for at in set(found.left) - set(wrong):
        assert is_mapped(words[at]) or ("-" in words[at] and str(dict(fine)[at]) != words[at])
    assert set(found.left) >= set(wrong)
    assert found.left == sorted(found.left)
    reasons = [builder.reason(str(at)) for at in range(len(words))]
    assert reasons == list(range(1, len(words) + 1))
    rows = {row.line: row for row in builder.listing().rows()}
    expected = {at: Row(*span, at, str(at), float(at)) for at, span in fine if at not in set(found.left)}
    assert rows == expected


@settings(max_examples=500)
@given(st.one_of(st.lists(FINE, max_size=30), st.lists(st.one_of(FINE, FINE, WRONG), max_size=30)))
def test_words_together_say_what_they_say_alone(words):
    agree(words, bulk.read(words))


@settings(max_examples=500)
@given(st.lists(st.one_of(V4, st.builds(network, V4, st.integers(0, 32)), FINE, WRONG), max_size=30))
def test_lines_say_what_their_words_say(words):
    words = [word.encode(errors="replace").decode() for word in words]
    found, left = bulk.read_lines("".join(word + "\n" for word in words).encode())
    agree(words, found)
    assert left == [words[at] for at in found.left]


def masking(word):
    """A word, where it has bits set behind a prefix as the network that it lies in; and whether that is so."""
    try:
        parse_as_written(word)
    except HostBits as bits:
        return str(bits.network), True
    except ValueError:
        pass
    return word, False


@settings(max_examples=500)
@given(st.lists(st.one_of(FINE, WRONG, st.builds("{}/{}".format, V4, st.integers(0, 32))), max_size=30))
def test_networks_are_masked_where_that_is_asked_for(words):
    words = [word.encode(errors="replace").decode() for word in words]
    meant_words, are_masked = zip(*map(masking, words), strict=True) if words else ((), ())
    lines, left = bulk.read_lines("".join(word + "\n" for word in words).encode(), is_masking=True)
    assert left == [words[at] for at in lines.left]
    for found in (bulk.read(words, is_masking=True), lines):
        mapped = {at for at in found.left if is_mapped(words[at])}
        assert list(found.masked) == [at for at, is_masked in enumerate(are_masked) if is_masked and at not in mapped]
        agree(["" if at in mapped else word for at, word in enumerate(meant_words)], found)


def test_what_is_asked_of_other_lines_is_their_word():
    text = b"1.2.3.4\n1.2.3.5 7\n\xff\n::1 7\n10.0.0.0/8\n"
    found, left = bulk.read_lines(text, lambda texts: [text.split()[0] for text in texts])
    assert found.prefixes[4].rows.tolist() == [0, 1, 4]
    assert found.prefixes[6].rows.tolist() == [3]
    assert (found.left, left) == ([2], ["\ufffd"])


def test_order_is_kept_between_kinds():
    order = random.Random(11)
    words = [order.choice(["10.0.0.{}", "10.0.0.{}/32", "x{}", "::{}"]).format(at % 256) for at in range(500)]
    for found in (bulk.read(words), bulk.read_lines("".join(word + "\n" for word in words).encode())[0]):
        agree(words, found)
        assert (np.diff(found.prefixes[4].rows) > 0).all()
