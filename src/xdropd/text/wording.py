"""How a mistake is put into words: what was written, why it is wrong, what was probably meant.

Lives here: the sentences about texts that are no entry, as people really type them. Every sentence reads "what is
wrong, what would be right". Not here: places, and the decision whether something is wrong.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import IPv4Address
from socket import AF_INET, AF_INET6, inet_pton

_SHOWN_CHARACTERS = 60
_NAME = re.compile(r"(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
_NUMBERS = re.compile(r"[0-9]+(\.[0-9]+)*")
_MAC = re.compile(r"[0-9A-Fa-f]{1,2}([:-][0-9A-Fa-f]{1,2}){5}")
_WILDCARD = re.compile(r"([0-9]{1,3}\.){1,3}(\*\.)*\*")
_LAST_OCTET_RANGE = re.compile(r"(([0-9]+\.){3})([0-9]+) *- *([0-9]+)")
_HOST_OF_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/@]*@)?(\[[^]/]*\]|[^/:?#]*)")
_SEPARATORS = re.compile(r"[\s,;]+")
_QUOTES = "\"'`\u2018\u2019\u201a\u201c\u201d\u201e\u00ab\u00bb"
_KEY = re.compile(r"([a-z_]{1,20}):(\S.*)")
_DASHES = re.compile("\\s*[\u2010-\u2015\u2212]\\s*")  # what word processors make of a hyphen
_INVISIBLE = re.compile(
    "[\u00a0\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
)  # what comes along from web pages

ENTRY_FORMS = "an address, a network such as 203.0.113.0/24 or a range such as 198.51.100.7-198.51.100.29"


def quoted(text: str) -> str:
    """The text in single quotes, on one line, cut to a length that a log line bears."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return f"'{safe}'"


def did_you_mean(text: str, known: Iterable[str]) -> str:
    """The known word that looks most like the text; "" if none does."""
    return next(iter(get_close_matches(text.lower(), tuple(known), n=1, cutoff=0.6)), "")


def either(words: Iterable[str]) -> str:
    """A list for reading: "a", "a or b", "a, b or c"."""
    *rest, last = words
    return f"{', '.join(rest)} or {last}" if rest else last


def _is_address(text: str) -> bool:
    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return False
    return True


def is_entry(text: str) -> bool:
    """Whether the text looks like an entry at first sight; a network may still have host bits."""
    head, slash, length = text.partition("/")
    if slash:
        return _is_address(head) and length.isascii() and length.isdecimal()
    parts = text.split("-")
    return len(parts) <= 2 and all(map(_is_address, parts))


def why_no_prefix_length(text: str, address: str, length: str, version: int) -> str:
    """What is wrong with `length`, that stands after an address and a slash and is not a plain number."""
    if not length:
        return f"{quoted(text)} ends in a slash, write a prefix length after it, or {address} for the address alone"
    if version == 4 and _is_address(length) and (bits := _bits_of_netmask(length)) is not None:
        return f"{quoted(text)} has a netmask, write the length of the prefix: {address}/{bits}"
    if length.isascii() and length.isdecimal() and length[0] == "0" and len(length) < 10:
        return f"{quoted(text)} has a zero before its prefix length, write {address}/{length.lstrip('0') or '0'}"
    most = 32 if version == 4 else 128
    return f"{quoted(text)} has no number after its slash, write a prefix length of 0 to {most}"


def _bits_of_netmask(text: str) -> int | None:
    mask = int(IPv4Address(text))
    for number in (mask, mask ^ 0xFFFFFFFF):  # as ifconfig writes it, and as routers write wildcards
        inverse = number ^ 0xFFFFFFFF
        if inverse & (inverse + 1) == 0:
            return 32 - inverse.bit_length()
    return None


def why_no_entry(text: str) -> str:
    """What is wrong with a text that is neither address nor network nor range, and what would be right."""
    shown = quoted(text)
    if not text.strip():
        return f"there is nothing here, write {ENTRY_FORMS}"
    if url := _HOST_OF_URL.match(text):
        host = url[1].strip("[]")
        what = f"write the address alone: {host}" if _is_address(host) else "write the addresses that it stands for"
        return f"{shown} is a URL, {what}"
    if (plain := _DASHES.sub("-", text)) != text and is_entry(plain):
        return f"{shown} has a typographic dash, write {plain}"
    if (plain := _INVISIBLE.sub("", text)) != text and is_entry(plain):
        return f"{shown} has an invisible character in it, write {plain}"
    if (plain := text.strip(_QUOTES)) != text and is_entry(plain):
        return f"{shown} has quotes in it that are none for YAML, write {plain}"
    if text != text.strip() and is_entry(text.strip()):
        return f"{shown} has white space around it, write {text.strip()}"
    if is_entry(text[1:]) and text[0] == "-":
        return f"{shown} starts with a dash, write a space between the dash and the entry: '- {text[1:]}'"
    if "#" in text and is_entry(text.partition("#")[0].strip()):
        return f"{shown} has a comment in it, leave a space before the # and take it out of the quotes"
    if is_entry(joined := text.replace(" - ", "-")):
        return (
            f"{shown} has spaces in it, write {joined} for a range, or each entry on a line of its own, indented alike"
        )
    words = [word.lstrip("-") for word in _SEPARATORS.split(text.strip())]
    words = [word for word in words if word]
    if len(words) > 1 and all(map(is_entry, words)):
        return f"{shown} holds {len(words)} entries, write each on a line of its own after '- '"
    if (plain := text.strip(" -,;/.()<>")) != text and is_entry(plain):
        return f"{shown} has a character too many, write {plain}"
    if (key := _KEY.fullmatch(text)) and is_entry(key[2].split()[0]):
        return f"{shown} has no space after its colon, write '{key[1]}: {key[2].split()[0]}'"
    if words and is_entry(words[0]):
        return f"{shown} has more than an entry in it, write {words[0]} and put the rest into a '# comment' or a reason"
    if text[0] == "[" and "]" in text:
        inside, _, port = text[1:].partition("]")
        if is_entry(inside) and not port.startswith("/"):
            return f"{shown} has brackets{' and a port' if port else ''}, write {inside}"
    if text.count(":") == 1 and _is_address(text.partition(":")[0]):
        return f"{shown} has a port, write {text.partition(':')[0]}, for every port is blocked"
    if "%" in text and _is_address(text.partition("%")[0]):
        return f"{shown} names an interface, write {text.partition('%')[0]}"
    if _MAC.fullmatch(text):
        return f"{shown} is a hardware address, write IP addresses"
    if ":" in text and not set(text) - set("0123456789abcdefABCDEF:./-"):
        return _why_no_ipv6(text)
    if wildcard := _WILDCARD.fullmatch(text):
        known = [part for part in wildcard[0].split(".") if part != "*"]
        network = f"{'.'.join(known + ['0'] * (4 - len(known)))}/{8 * len(known)}"
        if is_entry(network):
            return f"{shown} has a wildcard, write {network}"
    if (octets := _LAST_OCTET_RANGE.fullmatch(text)) and _is_address(full := octets[1] + octets[4]):
        return f"{shown} has half an address after the dash, write {octets[1]}{octets[3]}-{full}"
    return _why_no_ipv4(text) or _why_no_name(text)


def _why_no_ipv6(text: str) -> str:
    shown = quoted(text)
    head, slash, _ = text.partition("/")
    parts = [part.strip() for part in head.split("-")] if not slash else [head]
    wrong = next((part for part in parts if not _is_address(part)), head)
    if wrong.count("::") > 1 or ":::" in wrong:
        return f"{shown} has '::' more than once, write the zeros out in one of the places"
    groups = wrong.split(":")
    long = next((group for group in groups if len(group) > 4 and "." not in group), None)
    if long is not None:
        return f"{shown} has more than four digits between colons ({quoted(long)}), check them"
    if "::" not in wrong and len(groups) != 8:
        return f"{shown} has {len(groups)} of the 8 parts of an IPv6 address, write all, or '::' for a run of zeros"
    return f"{shown} is not an IPv6 address, write it as in 2001:db8::7"


def _why_no_ipv4(text: str) -> str:
    """The same for what consists of digits and dots, alone or in a network or range; "" for anything else."""
    shown = quoted(text)
    head, slash, length = text.partition("/")
    parts = [part.strip() for part in head.split("-")] if not slash else [head]
    if len(parts) > 2 or not all(map(_NUMBERS.fullmatch, parts)):
        return ""
    wrong = next((part for part in parts if not _is_address(part)), "")
    if not wrong:
        return ""
    octets = wrong.split(".")
    if len(octets) != 4:
        few = f"{len(octets)} of the 4 numbers" if len(octets) < 4 else f"{len(octets)} numbers instead of the 4"
        remedy = "write all four"
        if len(octets) < 4 and len(parts) == 1 and all(octet == str(int(octet[:4])) for octet in octets):
            network = ".".join(octets + ["0"] * (4 - len(octets)))
            remedy += f", or a network: {network}/{length if length.isdecimal() else 8 * len(octets)}"
        return f"{shown} has {few} of an IPv4 address, {remedy}"
    if any(len(octet) > 3 or int(octet) > 255 for octet in octets):
        large = next(octet for octet in octets if len(octet) > 3 or int(octet) > 255)
        return f"{shown} has {quoted(large)} in it, the numbers of an IPv4 address go up to 255"
    plain = re.sub(r"(?<![0-9])0+(?=[0-9])", "", text)
    return f"{shown} has numbers that start with a zero, which others read as octal, write {plain}"


def _why_no_name(text: str) -> str:
    shown = quoted(text)
    if _NAME.fullmatch(text) and not text.lower().startswith("0x"):
        return f"{shown} looks like a host name, write its addresses, for names are not looked up"
    return f"{shown} is not an entry, write {ENTRY_FORMS}"
