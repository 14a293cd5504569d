"""Lines that follow a request: up to the empty one, in whatever pieces they come."""

from random import Random

import pytest

from xdropd.host.spool import Spool

_LINES = b"192.0.2.1\t5\tssh\n192.0.2.2\n\xc3\xa4\n"


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("lines", [b"", b"x\n", _LINES, _LINES * 30_000])
def test_lines_in_any_pieces(lines: bytes, seed: int) -> None:
    rng, at = Random(seed), 0
    data = lines + b"\n" + b"behind the end\n\n"
    with Spool() as spool:
        while not spool.is_whole:
            size = rng.choice((1, 2, 3, 1 << 10, 1 << 20)) if len(lines) < 100 else 1 << rng.randrange(14, 20)
            spool.add(data[at : at + size])
            at += size
        assert spool.size == len(lines)
        pieces = list(spool.pieces())
    assert b"".join(pieces) == lines
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert spool.size == 0


def test_what_has_no_end_is_not_whole() -> None:
    with Spool() as spool:
        spool.add(_LINES)
        assert not spool.is_whole
        spool.add(b"\n")
        assert spool.is_whole


def test_a_line_without_an_end() -> None:
    with Spool() as spool:
        spool.add(b"x" * (1 << 20) + b"\n\n")
        with pytest.raises(ValueError, match="a line has over"):
            list(spool.pieces())


def test_once_closed_nothing_is_read() -> None:
    spool = Spool()
    spool.add(_LINES * 50_000)
    pieces = spool.pieces()
    next(pieces)
    spool.close()
    spool.close()
    assert list(pieces) == []
