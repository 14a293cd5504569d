"""Lines of an answer as what they say: rows as columns are the rows that JSON has, whatever is in them."""

import json

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from spoken import ROW

from xdropd.commands import replies

ODD = st.sampled_from(
    ['"', "\\", '\\"', ",", '","', "}}", '{"row":{', '"line":1', "\n", "\u2028", "ü", "\udcff", "[", ": "]
)
TEXTS = st.lists(ODD | st.text(max_size=3), max_size=6).map("".join)
VALUES = st.one_of(
    TEXTS, st.none(), st.booleans(), st.integers(0, 2**64 - 1), st.floats(0, 1e6), st.lists(st.integers(), max_size=2)
)
KEYS = st.lists(TEXTS | st.sampled_from(list(ROW)), min_size=1, max_size=5, unique=True)
LISTED = st.fixed_dictionaries({**dict.fromkeys(ROW, st.none() | st.integers(0, 9)), "entry": TEXTS, "reason": TEXTS})


def line(reply, *, is_spaced=False, ascii_only=True):
    text = json.dumps(reply, separators=None if is_spaced else (",", ":"), ensure_ascii=ascii_only)
    return text.encode(errors="surrogatepass")


def said(lines):
    """Rows one by one, and the other replies as they are."""
    found = []
    for reply in replies.said_in(b"\n".join(lines)):
        found += [{"row": row} for row in replies.rows_of(reply["rows"])] if "rows" in reply else [reply]
    return found


@given(st.lists(LISTED, min_size=1, max_size=5), st.booleans())
def test_rows_of_a_list(rows, ascii_only):
    lines = [line({"row": row}, ascii_only=ascii_only) for row in rows]
    (reply,) = replies.said_in(b"\n".join(lines))
    assert list(reply["rows"]) == list(rows[0])
    assert list(replies.rows_of(reply["rows"])) == rows
    assert replies._rows(b"\n".join(lines).decode(errors="surrogatepass")), "the pattern is made for these"


@given(st.data())
def test_any_rows_and_replies(data):
    keys = data.draw(KEYS)
    rows = st.fixed_dictionaries(dict.fromkeys(keys, VALUES)) | st.fixed_dictionaries({"other": VALUES})
    others = st.sampled_from([{"progress": "1 of 2"}, {"result": {}}, {"result": {"row": 1}}])
    all_replies = data.draw(st.lists(rows.map(lambda row: {"row": row}) | others, min_size=1, max_size=5))
    lines = [line(reply, is_spaced=data.draw(st.booleans()), ascii_only=False) for reply in all_replies]
    event("by the pattern" if replies._rows(b"\n".join(lines).decode(errors="surrogatepass")) else "as any JSON")
    assert said(lines) == all_replies


@pytest.mark.parametrize(
    "broken", [b'{"row":{"a":1 2,"b":3}}', b'{"row":{"a":nil,"b":3}}', b'{"row":{"a":1,"b":"\\x"}}']
)
def test_what_is_no_json_is_none(broken):
    with pytest.raises(ValueError, match="line 1"):
        list(replies.said_in(broken))
