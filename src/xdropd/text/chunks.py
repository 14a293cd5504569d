"""A text in pieces of whole lines, so that no step over a long one holds other threads up. Knows no syntax."""

from collections.abc import Iterator

CHUNK_BYTES = 1 << 17  # some 8,000 lines: large enough to be quick, small enough to be no weight in memory


def chunks(data: bytes) -> Iterator[bytes]:
    """Whole lines of about CHUNK_BYTES, together the whole text."""
    return (data[start:stop] for start, stop in spans(data, 0, len(data)))


def spans(data: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Where each chunk begins and ends, from the start of a line to the end of one."""
    while start < end:
        stop = data.rfind(b"\n", start, min(end, start + CHUNK_BYTES)) + 1
        if not stop:
            stop = data.find(b"\n", start, end) + 1 or end
        yield start, stop
        start = stop
