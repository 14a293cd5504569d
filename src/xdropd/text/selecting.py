"""What `select:` takes of a database, "country=KP", "continent=AN", "asn=64496": as text, and as a number.

The number is how columns and the kernel name the entry that a selection is: the word above, its value in the lower 32
bits. It is never 0, and has 34 bits.
"""

import re

WORDS = ("country", "continent", "asn")

_VALUE = (1 << 32) - 1
_TEXT = re.compile(r"(?:country|continent)=[A-Z]{2}|asn=(?:0|[1-9][0-9]{0,9})")


def code_of(text: str) -> int:
    """The number of a selection in its canonical form, as includes.py has it. Raises ValueError with a sentence."""
    word, _, value = text.partition("=")
    if not _TEXT.fullmatch(text) or (word == "asn" and int(value) > _VALUE):
        raise ValueError(f"{text!r} is no selection, which reads country=KP, continent=AN or asn=64496")
    return code(word, int(value) if word == "asn" else value)


def code(word: str, value: str | int) -> int:
    """The number of what a word and its value select: two upper-case letters, or a number of 32 bits."""
    number = value if isinstance(value, int) else int.from_bytes(value.encode("ascii"), "big")
    return WORDS.index(word) + 1 << 32 | number


def text_of(number: int) -> str:
    """The inverse."""
    word, value = WORDS[(number >> 32) - 1], number & _VALUE
    return f"{word}={value if word == 'asn' else value.to_bytes(2, 'big').decode('ascii')}"
