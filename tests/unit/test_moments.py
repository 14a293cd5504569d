"""Moments by the column are those that are read one by one, the ones that do not exist included."""

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from xdropd.text import moments

REGULAR = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z".format
EXISTING = st.datetimes().map(lambda moment: REGULAR(*moment.timetuple()[:6]))
NEARLY = st.builds(  # days and hours that there are only sometimes, or never
    REGULAR,
    st.sampled_from([0, 1, 1900, 1969, 1970, 2000, 2023, 2024, 2100, 9999]),
    st.integers(0, 14),
    st.integers(0, 33),
    st.sampled_from([0, 23, 24, 99]),
    st.sampled_from([0, 59, 60]),
    st.sampled_from([0, 59, 60]),
)
OTHER = st.sampled_from(
    ["", "2026-12-01", "2026-12-01 00:00Z", "2026-12-01t00:00:00z", "2026-12-01T00:00:00.5+02:00", "2026-12-01T00:00Z"]
)


def outcome(read):
    try:
        return read()
    except ValueError:
        return None


@settings(max_examples=1000)
@given(
    st.one_of(
        st.lists(EXISTING, max_size=5),
        st.lists(NEARLY, min_size=1, max_size=1),
        st.lists(st.one_of(EXISTING, OTHER, st.text("0123456789-:TZ", min_size=20, max_size=20)), max_size=5),
    )
)
def test_a_column_says_what_each_text_says(texts):
    expected = outcome(lambda: [moments.seconds(text) for text in texts])
    found = outcome(lambda: moments.column([text.encode() for text in texts]).tolist())
    assert found == expected
    event("no moment" if found is None else "moments")


@pytest.mark.parametrize("year", [1, 1899, 1900, 1970, 2000, 2023, 2024, 9999])
def test_every_day_of_a_year(year):
    """Also those that the calendar lacks; and none of the others is read by itself."""
    days = [(month, day) for month in range(14) for day in range(33)]
    texts = [REGULAR(year, month, day, 23, 59, 59).encode() for month, day in days]
    existing = [text for text in texts if outcome(lambda text=text: moments.seconds(text.decode())) is not None]
    assert len(existing) in (365, 366)
    assert moments._regular(b"".join(existing), len(existing)).tolist() == [
        moments.seconds(text.decode()) for text in existing
    ]
    assert all(moments._regular(text, 1) is None for text in texts if text not in existing)
