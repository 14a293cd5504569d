r"""Names of files and interfaces, which are any bytes to the kernel, as text that can be shown anywhere.

Python hands over a byte that is not UTF-8 as a lone surrogate (PEP 383), which no journal, terminal, JSON parser or
metric takes. So names go by another form inside the daemon and in all that it tells: each byte of what is not
printable UTF-8 as \xNN, in lower case, and a backslash as \x5c where it would read like the beginning of one.
Different names have different forms, and `actual` leads back. Knows no file and no interface.
"""

import re

_LIKE_ESCAPED = re.compile(r"\\(?=x[0-9a-f]{2})")
_ESCAPED = re.compile(r"(?:\\x[0-9a-f]{2})+")


def shown(name: str) -> str:
    """A name as it is told."""
    return printable(_LIKE_ESCAPED.sub(r"\\x5c", name))


def actual(text: str) -> str:
    """The name that is shown like this, for system calls."""
    return _ESCAPED.sub(_unescaped, text)


def given(text: str) -> str:
    """A name as it is told, of what a person wrote: the name itself, or a copy of what was told."""
    return text if text.isprintable() else shown(text)


def printable(text: str) -> str:
    """One line without anything that a terminal or a log would take for more than text. Any text will do."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "".join(f"\\x{byte:02x}" for byte in _bytes_of(c)) for c in text)


def _bytes_of(character: str) -> bytes:
    if "\udc80" <= character <= "\udcff":  # what PEP 383 makes of a byte
        return bytes([ord(character) - 0xDC00])
    return character.encode(errors="surrogatepass")


def _unescaped(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("\\x", "")).decode(errors="surrogateescape")
