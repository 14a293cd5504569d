"""What was sent, and the list in it: judged, unpacked, refused."""

import bz2
import gzip
import io
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from test_listfiles import FORMATS

from xdropd.errors import NotFetched
from xdropd.fetch import judging
from xdropd.fetch.judging import why_no_list
from xdropd.fetch.unpacking import list_in
from xdropd.text.formats import mmdb

LIST = b"# a list\n192.0.2.1\n198.51.100.0/24\n"
LIMIT_BYTES = 1 << 20
README = b"This is licensed to you.\n"


@pytest.mark.parametrize(
    "data",
    [
        LIST,
        b"\xef\xbb\xbf192.0.2.1\r\n",
        b"; Spamhaus DROP\n192.0.2.0/24 ; SBL1\n",
        b'{"cidr":"192.0.2.0/24","sblid":"SBL1"}\n{"type":"metadata"}\n',
        b"192.0.2.0\t192.0.2.255\t24\t100\n",
        b"Org:001.002.003.004-001.002.003.255\n",
        b"x:2a05:bb80::-2a05:bb87:ffff::\n",
        b"001.002.003.004 - 001.002.003.255 , 000 , Org\n",
        b"2001:db8::/32\n",
        b"192.0.2.0 /24\n",
        b"192.0.2.1 # it has been blocked\n",
        b"192.0.2.1 ; it has been blocked\n",
        b"192.0.2.1 // it has been blocked\n",
        b"192.0.2.0/24 hijacked by somebody unknown\n",
        b"192.0.2.1 brute force\n",
        b"192.0.2.1 2026-11-29 seen on ssh\n",
        b"# a list\n192.0.2.1 it has been blocked\n192.0.2.2 it has been blocked\n",
        b"rubbish\n" * 5000 + b"192.0.2.1\n",
        b"# nothing today\n",
        b"\xab\xcd\xefMaxMind.com and so on",
        b"x" * 200_000 + b"\xab\xcd\xefMaxMind.com and so on",
    ],
)
def test_a_list(data: bytes) -> None:
    assert why_no_list(io.BytesIO(data)) == ""


@pytest.mark.parametrize("name", FORMATS)
def test_the_daemons_formats_are_lists_to_the_fetcher(name: str) -> None:
    """Which cannot import them: an example of a new one wants its place in `_PLACES` of fetch/judging.py."""
    text, _ = FORMATS[name]
    assert why_no_list(io.BytesIO(text.encode())) == ""


def test_a_database_is_known_by_the_same_marker() -> None:
    assert judging._DATABASE == mmdb.MARKER
    assert judging._METADATA_BYTES == mmdb._METADATA_BYTES_AT_MOST


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"\xef\xbb\xbf \r\n\n", "it is empty"),
        (b"you can only fetch every 30 minutes\n", "its one line is no entry: 'you can only fetch every 30 minutes'"),
        (b"Your address 192.0.2.1 is banned.\nGo away.\n", "none of its 2 lines is an entry"),
        (b'{"error": "no such list", "ip": "192.0.2.1"}\n', "its one line is no entry"),
        (b"\n<!DOCTYPE html>\n<html><head><title>404\nNot Found</title>192.0.2.1\n", "it is a web page and no list"),
        (b"<html>\n192.0.2.1\n", "it is a web page"),
        (b"203.0.113.9 has been temporarily blocked.\n", "one line is no entry: '203.0.113.9 has been"),
        (b"203.0.113.9 has been temporarily blocked.\nCome back tomorrow.\n", "none of its 2 lines is an entry"),
        (b"\n# 429\n2001:db8::1 made too many requests, come back later", "its one line is no entry"),
        (b"999.0.2.1\n1.2.3\n", "none of its 2 lines"),
        (b"#" + b"x" * 100_000 + b" 192.0.2.1\nno\n" + b"y" * 100_000 + b"\n", "none of its 2 lines"),
        (b"\0" * 100_000, "its one line is no entry"),
    ],
)
def test_what_is_no_list(data: bytes, why: str) -> None:
    assert why in why_no_list(io.BytesIO(data))


def test_no_line_takes_long() -> None:
    begun = time.process_time()
    assert "none of its 100 lines" in why_no_list(io.BytesIO((b":" * 4095 + b"\n") * 100))
    assert why_no_list(io.BytesIO(b"x" * 4000 + b": 2001:db8::1 - 2001:db8::2\n")) == ""
    assert time.process_time() - begun < 2.0


def _tar(files: dict[str, bytes], mode: str = "w") -> bytes:
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode=mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("latest.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hosts"
        archive.addfile(link)
    return into.getvalue()


def _zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w", method) as archive:
        archive.mkdir("folder")
        for name, data in files.items():
            archive.writestr(name, data)
    return into.getvalue()


def _unpacked(folder: Path, data: bytes, limit_bytes: int = LIMIT_BYTES) -> bytes:
    sent = folder / "sent"
    sent.write_bytes(data)
    found = list_in(sent, limit_bytes)
    assert found.parent == folder
    return found.read_bytes()


def _tar_with_a_bad_map() -> bytes:
    """Sparse, with places that are no numbers."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("drop.txt")
        entry.size, entry.pax_headers = len(LIST), {"GNU.sparse.map": "x,y", "GNU.sparse.size": "8"}
        archive.addfile(entry, io.BytesIO(LIST))
    return into.getvalue()


def _zip_with_a_bad_name() -> bytes:
    """In what says that it is UTF-8."""
    data = bytearray(_zip({"drop.txt": LIST}))
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 9] |= 0x08  # APPNOTE.TXT, section 4.4.4, bit 11
    data[entry + 46 : entry + 54] = b"\xff" * 8
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        LIST,
        gzip.compress(LIST),
        gzip.compress(LIST[:9]) + gzip.compress(LIST[9:]),  # RFC 1952, section 2.2
        _zip({"drop.txt": LIST}),
        _zip({"COPYRIGHT.txt": README, "folder/drop.txt": LIST}, zipfile.ZIP_STORED),
        _tar({"README": README, "../../drop.txt": LIST}),
        _tar({"README": README, "drop.txt": LIST}, "w:gz"),
    ],
)
def test_unpacking(tmp_path: Path, data: bytes) -> None:
    assert _unpacked(tmp_path, data) == LIST


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gzip.compress(b"no list\n"), "its one line is no entry"),
        (gzip.compress(LIST)[:-10], "cannot be unpacked"),
        (gzip.compress(LIST)[:-8] + b"damaged!", "cannot be unpacked"),
        (gzip.compress(bytes(4 * LIMIT_BYTES)), "unpacks to more than 1 MiB"),
        (_zip({"bomb": bytes(4 * LIMIT_BYTES)}), "unpacks to more than 1 MiB"),
        (_tar({"bomb": bytes(4 * LIMIT_BYTES)}, "w:gz"), "unpacks to more than 1 MiB"),
        (_zip({str(number): bytes(LIMIT_BYTES // 2) for number in range(3)}), "unpacks to more than 1 MiB"),
        (_zip({"a.txt": LIST, "README": README, "b.txt": LIST}), "there are 2 lists in it, 'a.txt' and 'b.txt'"),
        (_tar({"a.txt": LIST, "b.txt": LIST, "c.txt": LIST}), "there are 3 lists in it, 'a.txt' and 'b.txt' among"),
        (_zip({"README": README}), "there is no list in it ('README': it is no list"),
        (_tar({}), "there is no list in it, nor any other file"),
        (_zip({str(number): README for number in range(1001)}), "more than 1000 files"),
        (_zip({"drop.txt": LIST}, zipfile.ZIP_LZMA), "'drop.txt' is not deflated"),
        (_zip({"drop.txt": LIST})[:-30], "cannot be unpacked"),
        (_tar({"drop.txt": LIST})[:600], "cannot be unpacked"),
        (_tar_with_a_bad_map(), "cannot be unpacked: 'invalid literal"),
        (_zip_with_a_bad_name(), "cannot be unpacked: "),
        (_zip({"drop.txt": LIST})[:-4] + b"\x80\0\0\0", "a place before its beginning"),
        (bz2.compress(LIST), "packed with bzip2"),
    ],
)
def test_what_cannot_be_unpacked(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(NotFetched) as failure:
        _unpacked(tmp_path, data)
    assert why in failure.value.message
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= len(data) + 2 * LIMIT_BYTES


def test_an_encrypted_archive_is_told(tmp_path: Path) -> None:
    data = bytearray(_zip({"drop.txt": LIST}))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the general purpose bit flag, APPNOTE 4.4.4
        data[data.rindex(header) + flags] |= 1
    with pytest.raises(NotFetched, match="cannot be unpacked.*encrypted"):
        _unpacked(tmp_path, bytes(data))
