"""xdropd.yaml: text to settings, or to every problem in it.

Lives here: each key with its default and what it accepts, as xdropd.yaml(5) has it. Not here: which interfaces there
are, and what a setting does.
"""

import os
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from xdropd.text import names, wording, yamlnodes
from xdropd.text.yamlnodes import Alias, Document, Node, Scalar, Sequence

_KEYS = ("interfaces", "xdp_mode", "action", "guard", "replies", "malformed", "log_drops", "next")
_WORDS = {
    "xdp_mode": ("auto", "native", "generic"),
    "action": ("drop", "monitor"),
    "guard": ("true", "false"),  # or a list of _GUARDED
    "replies": ("drop", "pass"),
    "malformed": ("drop", "pass"),
}
_GUARDED = ("connected", "private")
_FORMS = {
    "guard": "true, false, or a list such as [connected, private]",
    "log_drops": "N/s, N/m or 0",
    "next": "the path of a pinned XDP program, or none",
}
# What others call the same thing.
_SYNONYMS = {
    "xdp_mode": {"skb": "generic", "xdpgeneric": "generic", "drv": "native", "driver": "native", "xdpdrv": "native"},
    "action": {"block": "drop", "deny": "drop", "log": "monitor", "dry-run": "monitor", "count": "monitor"},
    "guard": {"yes": "true", "on": "true", "1": "true", "no": "false", "off": "false", "0": "false"},
    "replies": {"accept": "pass", "allow": "pass", "established": "pass", "deny": "drop", "block": "drop"},
    "malformed": {"accept": "pass", "allow": "pass", "deny": "drop", "block": "drop"},
}
_NAME_BYTES_AT_MOST = 127  # ALTIFNAMSIZ without its NUL, linux/if.h: of a device's further names
_PATH_BYTES_AT_MOST = 4095  # PATH_MAX without its NUL, linux/limits.h
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./-]+")
_SEPARATOR = re.compile(r"[\s,]+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.*?-]{1,20}")
_GLOB = re.compile(r"[*?\[]")
_RATE = re.compile(r"(0|[1-9][0-9]{0,5})/([sm])")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that xdropd.yaml can say. Without arguments: the defaults."""

    interfaces: tuple[str, ...] | None = None
    """Names and globs as they were written; None: auto, those with a default route."""
    xdp_mode: Literal["auto", "native", "generic"] = "auto"
    action: Literal["drop", "monitor"] = "drop"
    guard: frozenset[str] = frozenset({"host"})
    """What is never blocked: "host", what no host can do without; "connected", "private"; nothing without a guard."""
    replies: Literal["drop", "pass"] = "drop"
    """Whether packets to connections that this host opened pass although their source is listed."""
    malformed: Literal["drop", "pass"] = "drop"
    log_drops_per_minute: int = 60
    """At most so many sampled lines on dropped packets; 0 for none."""
    next_program: str | None = None
    """Where the XDP program is pinned that passed packets go on to."""

    def as_written(self) -> dict[str, str]:
        """Each key with its value, as a file could have them."""
        seconds, rest = divmod(self.log_drops_per_minute, 60)
        rate = f"{self.log_drops_per_minute}/m" if rest else f"{seconds}/s" if seconds else "0"
        names = "auto" if self.interfaces is None else f"[{', '.join(map(_quoted, self.interfaces))}]"
        more = ", ".join(sorted(self.guard - {"host"}))
        guard = f"[{more}]" if more else str(bool(self.guard)).lower()
        drops = (self.replies, self.malformed, rate)
        values = (names, self.xdp_mode, self.action, guard, *drops, _path_written(self.next_program))
        return dict(zip(_KEYS, values, strict=True))


def _quoted(name: str) -> str:
    if name.isalnum():
        return name
    return "'" + name.replace("'", "''") + "'" if set(name) & {'"', "\\"} else f'"{name}"'


def _path_written(path: str | None) -> str:
    return "none" if path is None else path if _PLAIN_PATH.fullmatch(path) else _quoted(path)


def read(data: bytes, file: str) -> Settings:
    """Read a whole settings file; one without any setting means the defaults. `file` is only the name for problems.

    Raises RefusedFile with every problem, up to and including the first one of YAML's own syntax.
    """
    return yamlnodes.whole(data, file, Settings(), _settings)


def _settings(document: Document, root: Node) -> Settings:
    mapping = yamlnodes.mapping_of(document, root, _KEYS, "setting", "write a line such as 'action: drop'")
    if mapping is None:
        return Settings()
    changes: dict[str, Any] = {}
    for name, (key, value) in yamlnodes.fields(document, mapping, _KEYS, "the settings file").items():
        if isinstance(value, Scalar) and not value.text:
            document.problem(key.line, key.column, f"nothing follows '{name}:', remove the line to have the default")
        elif name == "interfaces":
            changes["interfaces"] = _interfaces(document, value)
        elif name == "guard" and isinstance(value, Sequence):
            changes["guard"] = _guarded(document, value)
        elif not isinstance(value, Scalar):
            if not isinstance(value, Alias):
                document.problem(value.line, value.column, f"'{name}' has one value, write {_choice(name)}")
        elif name == "log_drops":
            changes["log_drops_per_minute"] = _rate(document, value)
        elif name == "next":
            changes["next_program"] = _path(document, value)
        elif value.text in _WORDS[name]:
            changes[name] = value.text
            if name == "guard":
                changes["guard"] = frozenset({"host"} if value.text == "true" else ())
        else:
            document.problem(value.line, value.column, _why_not(name, value.text))
    return replace(Settings(), **changes)


def _choice(name: str) -> str:
    return _FORMS.get(name) or wording.either(_WORDS[name])


def _guarded(document: Document, value: Sequence) -> frozenset[str]:
    """What the guard protects beside this host."""
    found = {"host"}
    if not value.items:
        document.problem(
            value.line, value.column, "there is nothing in this list, write 'guard: true' or 'guard: false'"
        )
    for item in value.items:
        if not isinstance(item, Scalar):
            if not isinstance(item, Alias):
                document.problem(item.line, item.column, f"this is a word, write {wording.either(_GUARDED)}")
        elif item.text not in _GUARDED:
            guess = wording.did_you_mean(item.text, _GUARDED)
            remedy = f"did you mean '{guess}'?" if guess else f"write {wording.either(_GUARDED)}"
            document.problem(item.line, item.column, f"{wording.quoted(item.text)} is nothing to guard, {remedy}")
        elif item.text in found:
            document.problem(item.line, item.column, f"'{item.text}' is there twice, keep one")
        else:
            found.add(item.text)
    return frozenset(found)


def _why_not(name: str, text: str) -> str:
    if name == "guard" and text.lower() in _GUARDED:
        return f"{wording.quoted(text)} stands in a list, write 'guard: [{text.lower()}]'"
    guess = _SYNONYMS[name].get(text.lower()) or wording.did_you_mean(text, _WORDS[name])
    remedy = f"did you mean '{guess}'?" if guess else f"write {_choice(name)}"
    return f"{wording.quoted(text)} is no value for '{name}', {remedy}"


def _rate(document: Document, value: Scalar) -> int:
    """Lines a minute."""
    if value.text == "0":
        return 0
    match = _RATE.fullmatch(value.text)
    if match is None:
        document.problem(
            value.line,
            value.column,
            f"{wording.quoted(value.text)} is no rate, write N/s or N/m with N up to 999999, or 0 for none",
        )
        return 0
    return int(match[1]) * (60 if match[2] == "s" else 1)


def _path(document: Document, value: Scalar) -> str | None:
    if value.text == "none":
        return None
    shown = wording.quoted(value.text)
    what = ""
    if not value.text.startswith("/"):
        what = f"{shown} is no path from the root on, write one such as /sys/fs/bpf/balancer, or none"
    elif _CONTROL.search(value.text):
        what = f"{shown} holds a control character, leave it out"
    elif len(os.fsencode(names.actual(value.text))) > _PATH_BYTES_AT_MOST:
        what = f"this path is too long, write at most {_PATH_BYTES_AT_MOST} characters"
    if what:
        document.problem(value.line, value.column, what)
        return None
    return value.text


def _interfaces(document: Document, value: Node) -> tuple[str, ...] | None:
    if isinstance(value, Scalar):
        if value.text != "auto":
            names = _SEPARATOR.split(value.text)
            guess = f"[{', '.join(names)}]" if all(map(_PLAIN_NAME.fullmatch, names)) else "[eth0]"
            if value.text.lower() == "auto":
                guess = "auto"
            document.problem(
                value.line,
                value.column,
                f"{wording.quoted(value.text)} is neither 'auto' nor a list, write 'interfaces: {guess}'",
            )
        return None
    if not isinstance(value, Sequence):
        if not isinstance(value, Alias):
            document.problem(
                value.line, value.column, "interfaces are names, write auto or a list such as [eth0, eth1]"
            )
        return None
    if not value.items:
        document.problem(value.line, value.column, "there is no interface in this list, write auto or a name")
    names = []
    for item in value.items:
        if isinstance(item, Scalar):
            what = _why_no_interface(item.text)
            if what:
                document.problem(item.line, item.column, what)
            names.append(item.text)
        elif not isinstance(item, Alias):
            document.problem(item.line, item.column, "an interface is a name, write it as text")
    return tuple(names)


def _why_no_interface(text: str) -> str:
    """What the kernel would say of an interface of this name (dev_valid_name), globs aside; "" if nothing."""
    shown = wording.quoted(text)
    if not text:
        return "there is no name here, write the name of an interface, as in 'ip link'"
    if text == "auto":
        return "'auto' stands for itself, write 'interfaces: auto' without a list"
    if "/" in text or ":" in text or any(c.isspace() or not c.isprintable() for c in text) or text in (".", ".."):
        return f"{shown} cannot be the name of an interface, write one as in 'ip link'"
    if not _GLOB.search(text) and len(os.fsencode(names.actual(text))) > _NAME_BYTES_AT_MOST:
        return f"{shown} is too long for the name of an interface, write at most {_NAME_BYTES_AT_MOST} characters"
    return ""
