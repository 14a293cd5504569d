"""From what is written to what is in force at a moment, by whatever clock."""

from xdropd.columns.listing import Builder, Listing, Row
from xdropd.rules.desired import Desired, Written
from xdropd.rules.winners import State

ENDS_S = 1_000.0


def listing(*rows: Row) -> Listing:
    builder = Builder()
    for row in rows:
        builder.add(row)
    return builder.listing()


def in_force(state: State) -> list[int]:
    return [row.first for source in state.sources for row in source.listing.rows()]


def test_what_has_ended_is_back_where_the_clock_was_set_back() -> None:
    written = listing(Row(4, 1, 1), Row(4, 2, 2, until=ENDS_S), Row(4, 3, 3, until=2 * ENDS_S))
    desired = Desired().having("files", [Written("file", written)])
    state: State | None = None
    for now_s, expected in ((1.0, [1, 2, 3]), (ENDS_S, [1, 3]), (1.0, [1, 2, 3]), (3 * ENDS_S, [1]), (ENDS_S, [1, 3])):
        state = desired.state(now_s, lambda _: 1, state)
        assert in_force(state) == expected, now_s


def test_what_is_the_same_is_used_again() -> None:
    desired = Desired().having(
        "files", [Written("file", listing(Row(4, 1, 1, until=ENDS_S), Row(4, 2, 2, until=2 * ENDS_S)))]
    )
    first = desired.state(ENDS_S, lambda _: 1, None)
    assert desired.state(1.5 * ENDS_S, lambda _: 1, first).sources[0] is first.sources[0]
