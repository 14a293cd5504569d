"""crowdsec.yaml: text to configuration, or to every problem in it.

Lives here: each key with its default and what it accepts, as crowdsec.yaml(5) has it. Keys that other remediation
components have mean here what they mean there. Not here: the files that paths name, and what a key does.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

from xdropd.text import godurations, wording, yamlnodes
from xdropd.text.widest import WIDEST, WIDTHS, length_in
from xdropd.text.yamlnodes import Alias, Document, Mapping, Node, Scalar, Sequence, Stopped

_SCOPES = ("ip", "range")
_BOOLEANS = {"true": True, "false": False}
_SAID_OTHERWISE = {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"}
_CHARACTERS_AT_MOST = 1000
_SOURCE_CHARACTERS_AT_MOST = 180  # behind it a colon and an origin; in front of it, in a tag, our name
_BOUNDS_S = {
    "update_frequency": (0.1, 86_400.0),
    "resync": (60.0, 7 * 86_400.0),
    "timeout": (0.1, 3600.0),
    "usage_metrics": (1.0, 86_400.0),
}
_BOUNDS = {
    "update_frequency": "100ms to 24h",
    "resync": "1m to 168h",
    "timeout": "100ms to 1h",
    "usage_metrics": "1s to 24h, or 0 for none",
}


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that crowdsec.yaml can say. Without arguments: the defaults."""

    api_url: str = "http://127.0.0.1:8080/"
    """With a slash at its end."""
    api_key: str = ""
    """Empty where a credential or a certificate stands for it."""
    cert_path: str = ""
    key_path: str = ""
    ca_cert_path: str = ""
    insecure_skip_verify: bool = False
    update_frequency: float = 10.0
    """Seconds, as all that follow."""
    resync: float = 3600.0
    timeout: float = 10.0
    scopes: tuple[str, ...] = _SCOPES
    origins: tuple[str, ...] = ()
    """Empty: all of them; so are the next two."""
    scenarios_containing: tuple[str, ...] = ()
    scenarios_not_containing: tuple[str, ...] = ()
    supported_decisions_types: tuple[str, ...] = ("ban",)
    """In lower case."""
    disable_ipv4: bool = False
    disable_ipv6: bool = False
    source: str = "crowdsec"
    widest: tuple[int, int] = WIDEST
    """The shortest prefix length that is taken, of IPv4 and of IPv6."""
    usage_metrics: float = 900.0
    """Seconds; 0 for none."""
    report: tuple[str, ...] = ()
    """Patterns of sources that are reported; empty: nothing is."""
    credentials_path: str = ""
    """Of the machine in whose name is reported, as cscli writes it."""
    places: dict[str, tuple[int, int]] = field(default_factory=dict, compare=False)
    """Line and column of each file's name, by its key: whether there is such a file is found out elsewhere."""


def read(data: bytes, file: str) -> Configuration:
    """Read a whole file; one without any key means the defaults. `file` is only the name for problems.

    Raises RefusedFile with every problem, up to and including the first one of YAML's own syntax.
    """
    return yamlnodes.whole(data, file, Configuration(), _configuration)


@dataclass(frozen=True, slots=True)
class Machine:
    """Who reports: what `cscli machines add` writes into a file."""

    url: str
    login: str
    password: str


def read_credentials(data: bytes, file: str) -> Machine:
    """Read such a file (local_api_credentials.yaml). Raises RefusedFile."""
    keys = ("url", "login", "password")
    data, unreadable = yamlnodes.decode(data, file)
    document = Document(data.decode(), file)
    found: dict[str, str] = {}
    with suppress(Stopped):
        start = document.root()
        root = document.node(start) if start is not None else None
        if isinstance(root, Mapping):
            for name, value in root.pairs:  # there may be more, such as a path of certificates
                if isinstance(name, Scalar) and isinstance(value, Scalar):
                    found[name.text] = value.text
        for key in keys[1:]:
            if not found.get(key):
                document.problem(1, 1, f"there is no '{key}:' here, have the file written by 'cscli machines add'")
    yamlnodes.refuse(document.problems, unreadable)
    return Machine(*(found.get(key, "") for key in keys))


def _configuration(document: Document, root: Node) -> Configuration:
    remedy = "write a line such as 'api_url: http://127.0.0.1:8080/'"
    mapping = yamlnodes.mapping_of(document, root, tuple(_READERS), "configuration", remedy)
    if mapping is None:
        return Configuration()
    found = yamlnodes.fields(document, mapping, tuple(_READERS), "crowdsec.yaml")
    changes: dict[str, Any] = {}
    for name, (key, value) in found.items():
        if isinstance(value, Scalar) and not value.text:
            document.problem(key.line, key.column, f"nothing follows '{name}:', remove the line to have the default")
        elif not isinstance(value, Alias):
            changes[name] = _READERS[name](document, name, value)
    given = {name: value for name, value in changes.items() if value is not None}
    for one, other in (("cert_path", "key_path"), ("key_path", "cert_path"), ("report", "credentials_path")):
        if given.get(one) and not given.get(other):
            key, _ = found[one]
            document.problem(key.line, key.column, f"'{one}' is of no use without '{other}', write both")
    if given.get("api_key") and given.get("cert_path"):
        key, _ = found["api_key"]
        document.problem(key.line, key.column, "'api_key' and 'cert_path' are two ways to say who asks, keep one")
    if given.get("disable_ipv4") and given.get("disable_ipv6"):
        key, _ = found["disable_ipv6"]
        document.problem(key.line, key.column, "with both families disabled there is nothing to do, keep one of them")
    places = {name: (found[name][1].line, found[name][1].column) for name in given if _READERS[name] is _FILE}
    return replace(Configuration(), **given, places=places)


_T = TypeVar("_T")
_Reader = Callable[[Document, str, Node], Any]


def _one(read: Callable[[str, str], _T]) -> _Reader:
    """A reader of one value, of a function that takes its key's name and its text, and raises ValueError."""

    def reader(document: Document, name: str, value: Node) -> _T | None:
        if not isinstance(value, Scalar):
            document.problem(value.line, value.column, f"'{name}' has one value, write it on this line")
            return None
        try:
            return read(name, value.text)
        except ValueError as error:
            document.problem(value.line, value.column, str(error))
            return None

    return reader


def _list(read: Callable[[str, str], str]) -> _Reader:
    """The same for a list of them."""

    def texts(document: Document, name: str, value: Node) -> Iterator[str]:
        items = value.items if isinstance(value, Sequence) else ()
        if not isinstance(value, Sequence):
            document.problem(value.line, value.column, f"'{name}' is a list, write one such as [{_EXAMPLES[name]}]")
        for item in items:
            if isinstance(item, Scalar):
                try:
                    yield read(name, item.text)
                except ValueError as error:
                    document.problem(item.line, item.column, str(error))
            elif not isinstance(item, Alias):
                document.problem(item.line, item.column, "this is a list of texts, write a text")

    def reader(document: Document, name: str, value: Node) -> tuple[str, ...] | None:
        if isinstance(value, Sequence) and not value.items and name in ("scopes", "supported_decisions_types"):
            document.problem(
                value.line, value.column, f"nothing is taken with an empty list, write [{_EXAMPLES[name]}]"
            )
        return tuple(dict.fromkeys(texts(document, name, value)))

    return reader


_EXAMPLES = {
    "scopes": "ip, range",
    "origins": "crowdsec, cscli, CAPI",
    "scenarios_containing": "ssh",
    "scenarios_not_containing": "http-probing",
    "supported_decisions_types": "ban",
    "report": "fail2ban-*, xdropctl",
}


def _url(_name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        sound = bool(parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0))
    except ValueError:
        sound = False
    if not sound or not text.isprintable() or " " in text or not text.isascii():
        raise ValueError(f"{wording.quoted(text)} is no URL of a server, write one such as http://127.0.0.1:8080/")
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"{wording.quoted(text)} has more than a server and a path, leave the rest out")
    return text if text.endswith("/") else f"{text}/"


def _key(_name: str, text: str) -> str:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("this is no key, write the one that 'cscli bouncers add' has printed")
    if text.startswith("${") or (text.startswith("<") and text.endswith(">")):
        raise ValueError(
            f"{wording.quoted(text)} stands for a key, write the one that 'cscli bouncers add' has printed"
        )
    return text


def _path(_name: str, text: str) -> str:
    if not text.isprintable() or (not text.startswith("/") and "/" in text):
        raise ValueError(
            f"{wording.quoted(text)} is neither a path from the root on nor the name of a credential, write one of them"
        )
    return text


def _boolean(name: str, text: str) -> bool:
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    guess = _SAID_OTHERWISE.get(text.lower()) or wording.did_you_mean(text, _BOOLEANS)
    remedy = f"did you mean '{guess}'?" if guess else "write true or false"
    raise ValueError(f"{wording.quoted(text)} is no value for '{name}', {remedy}")


def _duration(name: str, text: str) -> float:
    if text.isascii() and text.isdecimal() and text != "0":
        raise ValueError(f"{wording.quoted(text)} has no unit, write {text}s for seconds")
    seconds = godurations.go_seconds(text)
    least, most = _BOUNDS_S[name]
    if not least <= seconds <= most:
        raise ValueError(f"{wording.quoted(text)} is out of bounds, write {_BOUNDS[name]}")
    return seconds


def _duration_or_none(name: str, text: str) -> float:
    if text.lower() in ("off", "no", "false", "none"):
        raise ValueError(f"{wording.quoted(text)} is no duration, write 0 for none")
    return 0.0 if text == "0" else _duration(name, text)


def _scope(_name: str, text: str) -> str:
    if text.lower() in _SCOPES:
        return text.lower()
    guess = wording.did_you_mean(text, _SCOPES)
    remedy = f"did you mean '{guess}'?" if guess else "write ip or range, for only addresses and networks are blocked"
    raise ValueError(f"{wording.quoted(text)} is no scope that is taken here, {remedy}")


def _word(_name: str, text: str) -> str:
    if not text or not text.isprintable() or "," in text or len(text) > _CHARACTERS_AT_MOST:
        raise ValueError(f"{wording.quoted(text)} cannot be asked for, write a printable text without a comma")
    return text


def _type(name: str, text: str) -> str:
    return _word(name, text).lower()


def _pattern(_name: str, text: str) -> str:
    if not text or not text.isprintable() or "/" in text or len(text) > _CHARACTERS_AT_MOST:
        raise ValueError(f"{wording.quoted(text)} is no name of a source, write one such as fail2ban-* or xdropctl")
    return text


def _source(_name: str, text: str) -> str:
    if not text.isprintable() or "/" in text or len(text) > _SOURCE_CHARACTERS_AT_MOST:
        raise ValueError(f"{wording.quoted(text)} cannot be the name of a source, write a word without a slash")
    return text


def _widest(document: Document, name: str, value: Node) -> tuple[int, int] | None:
    """One length for both families, or a mapping with one each."""
    if isinstance(value, Mapping):
        found = yamlnodes.fields(document, value, tuple(WIDTHS), f"'{name}'")
        lengths = [
            _length(width)(document, family, found[family][1]) if family in found else usual
            for (family, width), usual in zip(WIDTHS.items(), WIDEST, strict=True)
        ]
        return None if None in lengths else (lengths[0], lengths[1])
    length = _length(WIDTHS["ipv4"])(document, name, value)
    return None if length is None else (length, length)


def _length(width: int) -> _Reader:
    return _one(lambda _name, text: length_in(text, width))


_FILE = _one(_path)
_READERS: dict[str, _Reader] = {
    "api_url": _one(_url),
    "api_key": _one(_key),
    "cert_path": _FILE,
    "key_path": _FILE,
    "ca_cert_path": _FILE,
    "insecure_skip_verify": _one(_boolean),
    "update_frequency": _one(_duration),
    "scopes": _list(_scope),
    "origins": _list(_word),
    "scenarios_containing": _list(_word),
    "scenarios_not_containing": _list(_word),
    "supported_decisions_types": _list(_type),
    "disable_ipv4": _one(_boolean),
    "disable_ipv6": _one(_boolean),
    "source": _one(_source),
    "resync": _one(_duration),
    "timeout": _one(_duration),
    "widest": _widest,
    "usage_metrics": _one(_duration_or_none),
    "report": _list(_pattern),
    "credentials_path": _FILE,
}
