"""The command line of xdropctl(8): every verb and option as data, how they are read, and the help made from them.

Not argparse, because a script runs `xdropctl block` for every ban: a Python that loads nothing starts in 12 ms, with
argparse, json and socket in 25. So this file imports nothing either, not even for its annotations, until something is
wrong.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SOCKET = "/run/xdropd/control.sock"
LISTEN = "127.0.0.1:9792"

_DAYS_AT_MOST = 36500
_ROWS_AT_MOST = 1000
_CHARACTERS_AT_MOST = 1000  # of a source or reason; the daemon insists on it
_HELP_COLUMN = 26


def duration(text: str) -> int | None:
    """Seconds, or None for "for good": 90s, 15m, 2h, 7d, plain seconds; -1 or none. Raises ValueError."""
    if text in ("-1", "none"):
        return None
    from xdropd.text import durations

    seconds = durations.seconds(text)
    if seconds is None:
        raise ValueError(f"{_quoted(text)} is no duration, write 90s, 15m, 2h, 7d, plain seconds, or none for good")
    if seconds > _DAYS_AT_MOST * 86400:
        raise ValueError(f"{_quoted(text)} is over {_DAYS_AT_MOST} days, write none for good")
    return seconds


def source(text: str) -> str:
    """The name of a caller of `block`. Raises ValueError."""
    if not text or "/" in text or not _is_plain(text):
        raise ValueError(f"{_quoted(text)} cannot be the name of a source, write a word without a slash")
    return text


def reason(text: str) -> str:
    """Why something is blocked. Raises ValueError."""
    if not _is_plain(text):
        raise ValueError(f"{_quoted(text)} is no reason, write at most {_CHARACTERS_AT_MOST} printable characters")
    return text


def _is_plain(text: str) -> bool:
    return text.isprintable() and len(text) <= _CHARACTERS_AT_MOST


def _quoted(text: str) -> str:
    from xdropd.text import wording

    return wording.quoted(text)


def rows(text: str) -> int:
    """How many rows of a table. Raises ValueError."""
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text[:9]) <= _ROWS_AT_MOST:
        raise ValueError(f"{_quoted(text)} is no number of rows, write 1 to {_ROWS_AT_MOST}")
    return int(text)


def order(text: str) -> str:
    """What `top` sorts by. Raises ValueError."""
    if text not in ("packets", "bytes", "rate"):
        raise ValueError(f"{_quoted(text)} is nothing to sort by, write packets, bytes or rate")
    return text


class Option:
    """--NAME VALUE, or a switch where `value` is "". `read` makes something of the text, or raises ValueError."""

    def __init__(
        self, name: str, value: str, says: str, read: Callable[[str], object] = str, *, must: bool = False
    ) -> None:
        self.name = name
        self.value = value
        self.says = says
        self.read = read
        self.must = must

    @property
    def usage(self) -> str:
        """As in a synopsis."""
        return f"--{self.name} {self.value}" if self.value else f"--{self.name}"


class Verb:
    """One verb. `operands` as in a synopsis, `least` to `most` of them."""

    def __init__(
        self, name: str, does: str, operands: str = "", least: int = 0, most: int = 0, options: Sequence[Option] = ()
    ) -> None:
        self.name = name
        self.does = does
        self.operands = operands
        self.least = least
        self.most = most
        self.options = {option.name: option for option in options}

    @property
    def usage(self) -> str:
        """As in a synopsis."""
        told = [self.name, *filter(None, [self.operands])]
        return " ".join(told + [each.usage if each.must else f"[{each.usage}]" for each in self.options.values()])


_MANY = 1 << 30
_COMMON = {
    "socket": Option("socket", "PATH", f"control socket of the daemon (default: {SOCKET})"),
    "json": Option("json", "", "print JSON: one object, for list, top --once and watch one a line"),
}
_BY_WHOM = Option("source", "NAME", "who blocks: keeps callers apart (default: xdropctl)", source)

VERBS = {
    verb.name: verb
    for verb in (
        Verb("status", "state, interfaces, totals, the last reload and its problems"),
        Verb(
            "list",
            "the entries in force",
            options=[Option("source", "NAME", "only those of one file (a path) or of one caller of block")],
        ),
        Verb("lookup", "is an address blocked, by what, and what keeps it out", "ADDRESS", 1, 1),
        Verb(
            "block",
            "block entries now, and after a restart",
            "ENTRY...",
            1,
            _MANY,
            [
                Option(
                    "for", "DURATION", "90s, 15m, 2h, 7d or seconds; none or -1: for good (default: none)", duration
                ),
                Option("reason", "TEXT", "why, shown by list and lookup", reason),
                _BY_WHOM,
            ],
        ),
        Verb("unblock", "take back a block", "ENTRY...", 1, _MANY, [_BY_WHOM]),
        Verb(
            "replace",
            "make what a source blocks exactly what standard input says",
            "-",
            1,
            1,
            [
                Option("source", "NAME", "whose blocks to replace", source, must=True),
                Option("empty", "", "take back everything where standard input says nothing"),
            ],
        ),
        Verb(
            "flush",
            "take back every block of one source",
            options=[Option("source", "NAME", "whose blocks to take back", source, must=True)],
        ),
        Verb(
            "watch",
            "print what callers block and take back, as it happens",
            options=[
                Option("source", "PATTERN", "only those of these callers, such as 'fail2ban-*'", reason),
                Option("cursor", "CURSOR", "from there on, as --json told it (default: from now on)", reason),
            ],
        ),
        Verb("check", "print every problem of the settings and of the blocklist (or of FILE)", "[FILE]", 0, 1),
        Verb(
            "reload",
            "read the files again, return when that is done",
            options=[Option("accept", "FILE", "take this list file (or URL) as it is, emptied or shrunken")],
        ),
        Verb("fetch", "have the lists with a URL fetched now, and tell how each went", "[URL...]", 0, _MANY),
        Verb(
            "top",
            "the busiest entries, live",
            options=[
                Option("once", "", "print one table and exit"),
                Option("by", "KEY", "sort by packets, bytes or rate (default: packets)", order),
                Option("count", "N", "at most so many rows (default: 20; live: what fits the terminal)", rows),
            ],
        ),
        Verb(
            "exporter",
            "serve metrics for Prometheus",
            options=[Option("listen", "ADDRESS:PORT", f"where (default: {LISTEN})")],
        ),
    )
}

_ENTRIES = """\
ENTRY is an address, a network (203.0.113.0/24) or a range (198.51.100.7-198.51.100.29);
- reads entries from standard input, one a line, and applies all of them or none. A line may
be a JSON object with "entry" and, where they apply, "until" or "for", and "reason".
"""

_STATUSES = """\
Exit status: 0 done, 1 a plain no, 2 wrong usage, 69 the daemon does not answer, 70 a bug, 71 this kernel is too old,
77 not permitted, 78 bad configuration, blocklist or input. See xdropctl(8).
"""


class WrongLine(Exception):
    """A command line makes no sense; the text says why. Not in xdropd.errors, which takes longer to load than a ban."""

    def __init__(self, sentence: str, verb: str = "") -> None:
        super().__init__(sentence)
        self.verb = verb


class Chosen:
    """What a command line says. `options` holds those that were given, read; `asks_for` is "help", "version" or ""."""

    def __init__(self) -> None:
        self.socket = SOCKET
        self.json = False
        self.verb = ""
        self.operands: list[str] = []
        self.options: dict[str, object] = {}
        self.asks_for = ""


def read(line: Sequence[str]) -> Chosen:
    """Read what follows the program's name, options and operands in any order as getopt_long(3) takes them.

    Raises WrongLine.
    """
    chosen = Chosen()
    waiting = list(reversed(line))
    only_operands = False
    while waiting and not chosen.asks_for:
        word = waiting.pop()
        if only_operands or word == "-" or not word.startswith("-"):
            _take_word(chosen, word)
        elif word == "--":
            only_operands = True
        elif word in ("-h", "--help"):
            chosen.asks_for = "help"
        elif word == "--version":
            chosen.asks_for = "version"
        else:
            _take_option(chosen, word, waiting)
    if not chosen.asks_for:
        _insist_on_enough(chosen)
    return chosen


def _take_word(chosen: Chosen, word: str) -> None:
    if chosen.verb:
        chosen.operands.append(word)
        if len(chosen.operands) > VERBS[chosen.verb].most:
            raise WrongLine(f"{chosen.verb} does not take {_quoted(word)}", chosen.verb)
    elif word in VERBS:
        chosen.verb = word
    else:
        raise WrongLine(_no_such("there is no verb", word, VERBS))


def _no_such(what: str, word: str, known: Iterable[str]) -> str:
    from xdropd.text import wording

    meant = wording.did_you_mean(word, known)
    better = f"did you mean {meant}?" if meant else f"there are {', '.join(known)}"
    return f"{what} {wording.quoted(word)}, {better}"


def _take_option(chosen: Chosen, word: str, waiting: list[str]) -> None:
    name, has_value, text = word[2:].partition("=")
    own = VERBS[chosen.verb].options if chosen.verb else {}
    option = own.get(name) or _COMMON.get(name)
    if option is None or not word.startswith("--"):
        whose = f"{chosen.verb} has no option" if chosen.verb else "there is no option"
        known = [f"--{each}" for each in (*own, *_COMMON, "help")]
        raise WrongLine(_no_such(whose, word.partition("=")[0], known), chosen.verb)
    if not option.value:
        if has_value:
            raise WrongLine(f"--{name} takes no value", chosen.verb)
        value: object = True
    else:
        if not has_value:
            if not waiting:
                raise WrongLine(f"--{name} wants a value: {option.usage}", chosen.verb)
            text = waiting.pop()
        try:
            value = option.read(text)
        except ValueError as problem:
            raise WrongLine(f"--{name}: {problem}", chosen.verb) from None
    if name == "json":
        chosen.json = True
    elif name == "socket":
        chosen.socket = text
    else:
        chosen.options[name] = value


def _insist_on_enough(chosen: Chosen) -> None:
    if not chosen.verb:
        raise WrongLine("a verb is missing")
    verb = VERBS[chosen.verb]
    if len(chosen.operands) < verb.least:
        raise WrongLine(f"{verb.name} wants {verb.operands}", verb.name)
    for option in verb.options.values():
        if option.must and option.name not in chosen.options:
            raise WrongLine(f"{verb.name} wants {option.usage}", verb.name)


def usage(verb: str = "") -> str:
    """One line."""
    return f"usage: xdropctl [--socket PATH] [--json] {VERBS[verb].usage if verb else 'VERB ...'}\n"


def help_text(verb: str = "") -> str:
    """All that `--help` prints, with a verb or without."""
    if not verb:
        told = [usage(), "\nAsk and command xdropd.\n\nVerbs:\n"]
        told += [_explained(each.usage.partition(" [--")[0], each.does) for each in VERBS.values()]
        told += ["\nOptions:\n", *(_explained(option.usage, option.says) for option in _COMMON.values())]
        told += [_explained("--version", "print the version"), _explained("-h, --help", "this, or help for a verb")]
        return "".join([*told, "\n", _ENTRIES, "\n", _STATUSES])
    what = VERBS[verb]
    does = what.does[0].upper() + what.does[1:]
    told = [usage(verb), f"\n{does}.\n\nOptions:\n"]
    options = [*what.options.values(), *_COMMON.values()]
    told += [_explained(option.usage, option.says) for option in options]
    if "ENTRY" in what.operands or what.operands == "-":
        told += ["\n", _ENTRIES]
    return "".join(told)


def _explained(term: str, text: str) -> str:
    gap = " " * (_HELP_COLUMN - len(term) - 2)
    return f"  {term}{gap}{text}\n" if gap else f"  {term}\n{' ' * _HELP_COLUMN}{text}\n"
