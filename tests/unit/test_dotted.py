"""Lines of dotted addresses as arithmetic over bytes, against inet_pton(3) and the reader of single entries."""

# ruff: noqa: E501 - samples by the dozen

import random
from socket import AF_INET, inet_pton

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdropd.columns.prefixes import FAMILIES
from xdropd.text import dotted


def single(line):
    """(first address, length) of a line by itself; None where it is not of the strict form."""
    address, slash, length = line.partition(b"/")
    try:
        first = int.from_bytes(inet_pton(AF_INET, address.decode("ascii")), "big")
    except (OSError, ValueError):
        return None
    if not slash:
        return first, 32
    if length not in {b"%d" % bits for bits in range(33)} or first & (1 << 32 - int(length)) - 1:
        return None
    return first, int(length)


def agree(lines):
    """What is read of each line is what it says, and the others are given back in order, byte for byte."""
    family = FAMILIES[4]
    found = dotted.read(b"".join(line + b"\n" for line in lines))
    firsts, lengths = family.ints(family.firsts(found.keys)), family.lengths(found.keys).tolist()
    expected = [(at, said) for at, line in enumerate(lines) if (said := single(line)) is not None]
    assert list(zip(found.rows.tolist(), zip(firsts, lengths, strict=True), strict=True)) == expected
    others = [at for at, line in enumerate(lines) if single(line) is None]
    assert found.others.tolist() == others
    assert found.rest == b"".join(lines[at] + b"\n" for at in others)
    return len(expected)


NUMBERS = st.one_of(
    st.integers(0, 255).map(str),
    st.sampled_from(["0", "00", "000", "01", "010", "256", "260", "300", "999", "1000", "2550", "0255", "65536", "", "-1", "+1", "a", "1e1", " 1", "\u0663"]),
)  # fmt: skip
FINE = st.integers(0, 255).map(str)
ADDRESSES = st.one_of(
    st.tuples(FINE, FINE, FINE, FINE), st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), st.lists(NUMBERS, max_size=6)
).map(".".join)
LENGTHS = st.one_of(
    st.integers(0, 40).map(str), st.sampled_from(["", "00", "08", "032", "256", "33", "/8", "8/", " 8"])
)
NETWORKS = st.builds(
    lambda address, length: (
        f"{'.'.join(map(str, (address >> 32 - length << 32 - length).to_bytes(4, 'big')))}/{length}"
    ),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)
LINES = st.one_of(
    ADDRESSES.map(str.encode),
    NETWORKS.map(str.encode),
    st.builds("{}/{}".format, ADDRESSES, LENGTHS).map(str.encode),
    st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
    st.text("0123456789./ \t\r-:", max_size=20).map(str.encode),
    st.sampled_from([b"", b"# 1.2.3.4", b"1.2.3.4 ", b" 1.2.3.4", b"1.2.3.4\r", b"1.2.3.4/24", b"1/2.3.4", b"1.2.3/4.5", b"....", b".../", b"1.2.3.4\0", b"::ffff:1.2.3.4"]),
)  # fmt: skip


@settings(max_examples=1000)
@given(st.lists(LINES, max_size=12))
def test_what_is_read_is_what_inet_pton_says(lines):
    agree(lines)


@pytest.mark.parametrize("width", range(1, 5))
def test_every_number_at_every_place(width):
    """Also the first and the last of a text, where there is nothing beside it."""
    for number in range(10 ** min(width, 3)):
        text = b"%0*d" % (width, number)
        good = text == b"%d" % number and number <= 255
        assert agree([text + b".2.3.4", b"1." + text + b".3.4", b"1.2." + text + b".4", b"1.2.3." + text]) == 4 * good
        assert agree([b"0.0.0.0/" + text]) == (good and number <= 32)
        assert agree([text + b".0.0.0/8", b"x"]) == good


def test_a_text_in_one_form_and_in_all():
    order = random.Random(5)
    for forms in (["%s"], ["%s/32"], ["%s", "%s/32"], ["%s", "%s/32", "# %s", "%s/31", ""]):
        lines = []
        for form in order.choices(forms, k=5000):
            address = ".".join(str(order.choice([order.randrange(256), order.randrange(10)])) for _ in range(4))
            lines.append((form % address if form else form).encode())
        assert agree(lines) >= 1500


def test_nothing_is_read_of_nothing():
    assert agree([]) == 0
