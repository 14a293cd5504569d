"""What answers of the daemon look like to a person: status, list, lookup and top. Replies in, lines out.

Written for somebody at three in the morning: what matters comes first, and a sentence says what to do where something
can be done. Asks nobody and prints nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import repeat
from typing import Any

from xdropd.commands import tables
from xdropd.commands.replies import Columns
from xdropd.commands.tables import Column, Rows, Screen, ago, count, size, until
from xdropd.text.names import printable

_JUST_NOW_SECONDS = 60

_RATE = Column("PACKETS/S", is_number=True)
_LIST = (
    Column("ENTRY"),
    Column("PACKETS", is_number=True),
    Column("BYTES", is_number=True, goes=2),
    Column("LAST SEEN", is_number=True),
    Column("UNTIL", is_number=True, goes=3),
    Column("SOURCE", cut="start"),
    Column("REASON", cut="end", goes=1),
)


def entries(rows: Iterable[Columns], screen: Screen, now: datetime, *, with_rates: bool) -> Iterator[str]:
    """The table of `list` and `top --once`, from some rows at a time. `with_rates`: they have `rate`, too."""
    columns = (_LIST[0], _RATE, *_LIST[1:]) if with_rates else _LIST
    return tables.table(columns, (_entries(some, now, with_rates=with_rates) for some in rows), screen)


def _entries(rows: Columns, now: datetime, *, with_rates: bool) -> Rows:
    """Strong where it was hit in the last minute."""

    def style(last_seen: str | None) -> str:
        seen = tables.moment(last_seen)
        return "strong" if seen and (now - seen).total_seconds() < _JUST_NOW_SECONDS else ""

    cells = (
        rows["entry"],
        *((_each(count, rows["rate"]),) if with_rates else ()),
        _each(count, rows["packets"]),
        _each(size, rows["bytes"]),
        _each(lambda last_seen: ago(last_seen, now), rows["last_seen"]),
        _each(lambda end: until(end, now), rows["until"]),
        list(map(_place, rows["source"], rows["line"], rows.get("action") or repeat("block"))),
        _each(lambda reason: printable(reason or ""), rows["reason"]),
    )
    return Rows(cells, _each(style, rows["last_seen"]))


def _place(source: str, line: int | None, action: str) -> str:
    return tables.place(source, line) + (" (monitor)" if action == "monitor" else "")


def _each(shown: Callable[[Any], str], values: Sequence[Any]) -> list[str]:
    """How each value is shown. Most of a list is alike, and is made into text once."""
    texts = {value: shown(value) for value in set(values)}
    return [texts[value] for value in values]


def status(reply: Mapping[str, Any], screen: Screen, now: datetime) -> Iterator[str]:
    """All of `status`."""
    style = "bad" if reply["degraded"] else "good" if reply["state"] == "enforcing" else "warn"
    if not reply["ready"]:
        doing = f"is starting: {reply['progress']}"
    elif reply["state"] == "waiting":
        doing = "is waiting: no interface is filtered"
    elif reply["state"] == "monitoring":
        doing = "is monitoring: it counts and drops nothing"
    else:
        doing = "is enforcing"
    degraded = ", degraded: not all that was asked for is in force" if reply["degraded"] else ""
    yield from _headline(f"xdropd {reply['version']} {doing}{degraded}", style, screen)
    verb = "would drop" if reply["state"] == "monitoring" else "dropped"
    entries, packets, total = reply["entries"], reply["packets"], reply["bytes"]
    yield from _fields(
        {
            "degraded": reply["troubles"],
            "at work": [reply["progress"]] if reply["ready"] and reply["progress"] else [],
            "interfaces": list(map(_interface, reply["interfaces"])) or ["none is filtered"],
            "waiting for": reply.get("waiting", []),
            "entries": [
                f"{_counted(entries['ipv4'], 'IPv4 address', 'es')}, "
                f"{_counted(entries['ipv6'], 'IPv6 address', 'es')}, "
                f"{_counted(entries['networks'], 'network or range', '', 'networks and ranges')}; "
                f"{count(entries['allowed'])} allowed"
                + (f"; {count(entries['monitored'])} only monitored" if entries.get("monitored") else "")
            ],
            "packets": [
                f"{name} {count(packets[key])} ({size(total[key])})"
                for key, name in (
                    ("dropped", verb),
                    ("malformed", "malformed"),
                    ("passed", "passed"),
                    ("replies", "replies"),
                )
                if key != "replies" or packets[key]
            ],
            "last reload": _reload(reply["reload"], now),
            "fetched": [_url(each, now) for each in reply.get("fetch", [])],
            "guard": reply["narrowed"],
            "callers": [
                f"{each['name']}: {_counted(each['entries'], 'entry', '', 'entries')}, tag {printable(each['tag'])}"
                for each in reply.get("sources", [])
            ],
        },
        screen,
    )


def _interface(each: Mapping[str, Any]) -> str:
    why = f": {each['why']}" if each.get("why") else ""
    return f"{each['name']}, {each['mode']} mode, program {each['program_id']}{why}"


def _url(each: Mapping[str, Any], now: datetime) -> str:
    when = ago(each["fetched_at"], now) if each["fetched_at"] else "not come yet"
    due = tables.moment(each["next_at"])
    then = "" if due is None else ", next time now" if due <= now else f", next time {until(each['next_at'], now)}"
    return f"{each['url']}: {when}{then}" + (f"; last time: {each['failure']}" if each["failure"] else "")


def fetched(outcomes: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """How it went, a line a URL."""
    for each in outcomes:
        went = "another content came" if each["changed"] else "nothing new"
        yield f"{each['url']}: {went if each['ok'] else each['failure']}"


def _reload(reload: Mapping[str, Any], now: datetime) -> list[str]:
    if reload["at"] is None:
        return ["none yet"]
    outcome = "ok" if reload["ok"] else "refused, what was in force before stays in force"
    return [f"{ago(reload['at'], now)}, {outcome}", *map(problem, reload["problems"])]


def problem(said: Mapping[str, Any]) -> str:
    """A problem as every message has it."""
    place = f"{said['file']}:{said['line']}:{said['column']}" if said["line"] else said["file"]
    return f"{place}: error: {said['message']}"


def lookup(reply: Mapping[str, Any], state: str, screen: Screen, now: datetime) -> Iterator[str]:
    """The whole story of an address. `state` is that of `status`."""
    address, keeper = reply["address"], reply["kept_by"]
    if reply["blocked"] and state == "monitoring":
        said, style = "is listed, and would be blocked: xdropd is monitoring and drops nothing", "warn"
    elif reply["blocked"] and state == "waiting":
        said, style = "is listed, and would be blocked: xdropd is waiting, no interface is filtered", "warn"
    elif reply["blocked"]:
        said, style = "is blocked", "bad"
    elif keeper:
        said, style = f"is not blocked, {_kept_by(keeper)}", "good"
    elif reply.get("action") == "monitor":
        said, style = "is not blocked: its packets pass, and are counted", "warn"
    else:
        said, style = "is not blocked: no entry lists it", "good"
    yield from _headline(f"{address} {said}", style, screen)
    if reply["entry"] is not None:
        yield from story(reply, screen, now, "by" if reply["blocked"] else "listed as")
    if place := _place_in_the_world(reply):
        yield from _fields({"databases": [place]}, screen)


def _place_in_the_world(reply: Mapping[str, Any]) -> str:
    """What databases say of an address."""
    said = {"country": "country", "continent": "continent", "AS": "asn"}
    return ", ".join(f"{name} {reply[key]}" for name, key in said.items() if reply.get(key) is not None)


def _kept_by(keeper: Mapping[str, Any]) -> str:
    if keeper["kind"] == "allow":
        return f"it is allowed: {keeper['entry']} in {tables.place(keeper['source'], keeper['line'])}"
    return f"the guard keeps it out: {keeper['entry']} is {_with_article(keeper['source'])} ('guard:' in xdropd.yaml)"


def _with_article(what: str) -> str:
    return what if what == "loopback" else f"an {what}" if what[0] in "aeiou" else f"a {what}"


def story(row: Mapping[str, Any], screen: Screen, now: datetime, what: str = "entry") -> Iterator[str]:
    """All that is known of one entry."""
    source, line = row["source"], row["line"]
    seen = f"{_counted(row['packets'], 'packet', 's')}, {size(row['bytes'])}"
    yield from _fields(
        {
            what: [row["entry"]],
            "from": [f"xdropctl block, source {source}" if "/" not in source else tables.place(source, line)],
            "action": ["monitor: it counts, and drops nothing"] if row.get("action") == "monitor" else [],
            "reason": [row["reason"] or "none given"],
            "since": [f"{row['since']}, {ago(row['since'], now)}" if row["since"] else "not in force by itself"],
            "until": [f"{row['until']}, {until(row['until'], now)}" if row["until"] else "for good"],
            "seen": [f"{seen}, last {row['last_seen']}, {ago(row['last_seen'], now)}" if row["last_seen"] else "never"],
        },
        screen,
    )


def _headline(text: str, style: str, screen: Screen) -> Iterator[str]:
    return (screen.styled(line, style) for line in tables.wrapped(printable(text), screen, 0))


def _fields(fields: Mapping[str, Sequence[str]], screen: Screen) -> Iterator[str]:
    """Labels with lines beside them; those without lines are left out."""
    width = max(map(len, fields)) + 2
    for label, texts in fields.items():
        lines = (line for text in texts for said in text.splitlines() for line in _lines(said, screen, width + 2))
        for at, line in enumerate(lines):
            shown = screen.styled((label if at == 0 else "").ljust(width), "head")
            yield f"  {shown}{line}".rstrip()


def _lines(text: str, screen: Screen, indent: int) -> Iterator[str]:
    """What belongs to the first line stands two columns further in."""
    for at, line in enumerate(tables.wrapped(printable(text), screen, indent + 2)):
        yield f"  {line}" if at else line


def _counted(number: int, thing: str, plural_end: str, plural: str = "") -> str:
    return f"{count(number)} {thing if number == 1 else plural or thing + plural_end}"


def event(said: Mapping[str, Any]) -> str:
    """What `watch` tells of one event."""
    entry, source = said["entry"], said["source"]
    if said["event"] == "end":
        return f"{entry} of {source} has ended"
    if said["event"] == "unblock":
        return f"{said['at']} {entry} taken back by {source}"
    until = f" until {said['until']}" if said["until"] else ""
    reason = f": {said['reason']}" if said["reason"] else ""
    return f"{said['at']} {entry} blocked by {source}{until}{reason}"
