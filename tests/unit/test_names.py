"""Any name that the kernel allows can be shown, named again, and told from any other."""

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xdropd.text import names

# As Python hands them over. Backslashes, digits and broken UTF-8 are what could be confused.
NAMES = st.lists(st.sampled_from([b"\\", b"x", b"e9", b"\xe9", b"\xc3", b"\xa9", b"\n", b"5c", b" "]), max_size=8) | (
    st.lists(st.binary(max_size=20), max_size=1)
)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"/etc/xdrop/lists.d/drop.netset", "/etc/xdrop/lists.d/drop.netset"),
        ("/srv/böse/ünd 悪い".encode(), "/srv/böse/ünd 悪い"),
        (b"caf\xe9.netset", r"caf\xe9.netset"),
        (b"two\nlines\x1b[2J", r"two\x0alines\x1b[2J"),
        ("\u202egnp".encode(), r"\xe2\x80\xaegnp"),
        (rb"caf\xe9.netset", r"caf\x5cxe9.netset"),
        (rb"C:\temp", r"C:\temp"),
    ],
)
def test_a_name_is_shown(name: bytes, shown: str) -> None:
    assert names.shown(os.fsdecode(name)) == shown
    assert os.fsencode(names.actual(shown)) == name


@given(NAMES.map(b"".join))
@example(b"\\\\xe9")
@example(b"\\\xe9")
def test_the_way_back_is_the_way_there(name: bytes) -> None:
    text = os.fsdecode(name)
    shown = names.shown(text)
    assert shown.isprintable()
    assert names.actual(shown) == text
    assert names.given(shown) == shown
    assert names.given(text) == (shown if not text.isprintable() else text)


@given(st.text(st.characters(), max_size=50))
def test_any_text_at_all_can_be_printed(text: str) -> None:
    shown = names.printable(text)
    assert shown.isprintable()
    assert shown.encode().decode() == shown
    assert (shown == text) == text.isprintable()


def test_surrogates_that_are_no_bytes_are_no_trouble() -> None:
    assert names.printable("\ud800\udc80\udfff") == r"\xed\xa0\x80\x80\xed\xbf\xbf"
