"""What the bench makes of measurements: verdicts, tables, the README's part, the picture. Nothing is measured here."""

from xml.etree import ElementTree

import pytest

from bench import growth_picture, picture, telling
from bench.contest import PLAIN, TRIE
from bench.cost import SIZES, UNLISTED
from bench.figures import XDROPD, Demand, Figure, Report, Spread, in_turns
from bench.kinds import KINDS, Kind
from xdropd.text.addresses import parse_span

MACHINE = {"processor": "A processor, 2 CPUs", "kernel": "6.1"}


def figure(ours: float, theirs: float, *demands: Demand, listed: int = 10, what: str = "what") -> Figure:
    measured = {XDROPD: Spread.of([ours]), PLAIN: Spread.of([theirs]), TRIE: Spread.of([10 * theirs])}
    return Figure("cost", what, listed, "ns", measured, demands)


def report(*figures: Figure) -> Report:
    made = Report(lambda _: None)
    for one in figures:
        made.add(one)
    return made


@pytest.mark.parametrize(
    ("ours", "theirs", "demand", "is_reached"),
    [
        (25, 100, Demand(0.25, PLAIN), True),
        (26, 100, Demand(0.25, PLAIN), False),
        (200, 100, Demand(2, PLAIN, is_floor=True), True),
        (199, 100, Demand(2, PLAIN, is_floor=True), False),
        (2, 0, Demand(2), True),
        (3, 0, Demand(2), False),
    ],
)
def test_a_demand(ours: float, theirs: float, demand: Demand, is_reached: bool) -> None:
    one = figure(ours, theirs, demand)
    assert one.is_reached == is_reached
    assert report(one).is_good == is_reached
    assert ("reached" if is_reached else "MISSED") in telling.table([one])


def test_one_of_several_demands_missed_is_a_figure_missed() -> None:
    assert not figure(50, 100, Demand(0.6, PLAIN), Demand(0.4, PLAIN)).is_reached


def test_a_failure_is_no_good_report_whatever_the_figures_say() -> None:
    made = report(figure(1, 100, Demand(0.25, PLAIN)))
    made.failures.append("nft is not there")
    assert not made.is_good


def test_turns_are_taken() -> None:
    order: list[str] = []
    found = in_turns({name: lambda name=name: order.append(name) or len(order) for name in "ab"}, 3)
    assert order == ["a", "b"] * 3
    assert found == {"a": Spread(1, 3, 5, 3), "b": Spread(2, 4, 6, 3)}


def test_json_tells_all() -> None:
    made = report(figure(20, 100, Demand(0.25, PLAIN)), figure(3, 4))
    made.failures.append("nft is not there")
    read, machine = telling.from_json(telling.to_json(made, MACHINE))
    assert (read.figures, read.failures, machine) == (made.figures, made.failures, MACHINE)


def test_the_readme_is_changed_between_its_marks_only() -> None:
    text = "before\n<!-- figures -->\nold\n<!-- end of figures -->\nbehind\n"
    made = report(figure(20, 100, Demand(0.25, PLAIN), what="this"), figure(3, 4, what="other"))
    once = telling.readme(text, made, MACHINE)
    assert once.startswith("before\n<!-- figures -->\n![")
    assert once.endswith("\n<!-- end of figures -->\nbehind\n")
    assert "cost: this" in once
    assert "old" not in once
    assert "cost: other" not in once
    assert "cost: other" in telling.page(made, MACHINE)
    assert telling.readme(once, made, MACHINE) == once


def test_the_picture_shows_every_size() -> None:
    made = report(*(figure(20, 30 + size, listed=size, what=UNLISTED) for size in SIZES))
    root = ElementTree.fromstring(picture.draw(made))
    assert len(root.findall("{*}circle")) == 3 * len(SIZES)
    assert {"empty", "1,000,000", XDROPD, PLAIN, TRIE} <= {text.text for text in root.findall("{*}text")}


def test_the_picture_of_growth_has_a_point_for_each_start() -> None:
    rows = [(f"{kind.name}: {growth_picture.START}", size) for kind in KINDS for size in (10_000, 1_000_000)]
    rows += [(what, count) for what in (growth_picture.INTERFACES, growth_picture.SWAP) for count in (1, 10, 100)]
    made = report(
        *(Figure(growth_picture.GROUP, what, size, "s", {XDROPD: Spread.of([size / 1e5])}) for what, size in rows)
    )
    root = ElementTree.fromstring(growth_picture.draw(made))
    assert len(root.findall("{*}circle")) == len(rows)
    names = [text.text or "" for text in root.findall("{*}text")]
    assert all(any(name.startswith(f"{kind.name}, ") for name in names) for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_list_of_a_kind_has_so_many_different_entries_and_is_the_same_again(kind: Kind) -> None:
    entries = kind.entries(3_000)
    assert len(set(entries)) == 3_000
    assert entries == kind.entries(3_000)
    spans = [parse_span(entry) for entry in entries]
    assert {span.version for span in spans} == {kind.version}
    cable = parse_span("198.51.100.0/24" if kind.version == 4 else "2001:db8:51::/64")
    assert not any(span.first <= cable.last and cable.first <= span.last for span in spans)
