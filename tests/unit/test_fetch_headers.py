"""Headers of HTTP: of a file, and of an answer."""

from pathlib import Path

import pytest

from xdropd.errors import NotFetched
from xdropd.fetch import headers

NOW_S = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ({}, 0),
        ({"Cache-Control": "max-age=600"}, 600),
        ({"Cache-Control": 'public, Max-Age = "600", must-revalidate'}, 600),
        ({"Cache-Control": "max-age=600", "Age": "100"}, 500),
        ({"Cache-Control": "max-age=600", "Age": "1000"}, 0),
        ({"Cache-Control": "s-maxage=600"}, 0),
        ({"Cache-Control": "max-age=-1"}, 0),
        ({"Cache-Control": "max-age=99999999999999"}, 0),
    ],
)
def test_how_long_an_answer_is_fresh(said: dict[str, str], seconds: int) -> None:
    assert headers.least_s(said) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120), ("Fri, 15 Jan 2027 08:10:00 GMT", 600), ("Fri, 15 Jan 1999 08:10:00 GMT", 0), ("soon", 0), ("", 0)],
)
def test_how_long_to_leave_a_server_alone(text: str, seconds: int) -> None:
    assert headers.retry_after_s({"Retry-After": text}, NOW_S) == seconds


def _file(folder: Path, text: str, mode: int = 0o640) -> str:
    path = folder / "headers"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_file_of_headers(tmp_path: Path) -> None:
    path = _file(tmp_path, "# of the feed\n\nAuthorization: Bearer t0ken\r\nX-Key:  a: b \n")
    assert headers.read_headers(path) == {"Authorization": "Bearer t0ken", "X-Key": "a: b"}


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("Authorization: t0ken\n", 0o644, "chmod o="),
        ("t0ken\n", 0o600, "line 1 is no header"),
        ("A: b\nX Y: t0ken\n", 0o600, "line 2 is no header"),
        ("A: t0ken\0\n", 0o600, "line 1 is no header"),
        ("Host: t0ken\n", 0o600, "line 1 has Host"),
    ],
)
def test_a_file_that_is_refused_keeps_its_secret(tmp_path: Path, text: str, mode: int, why: str) -> None:
    with pytest.raises(NotFetched) as refusal:
        headers.read_headers(_file(tmp_path, text, mode))
    assert why in refusal.value.message
    assert "t0ken" not in refusal.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match="No such file"):
        headers.read_headers(str(tmp_path / "none"))
