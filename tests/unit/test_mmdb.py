"""Databases in MaxMind's format: what they say is what maxminddb says, and bad ones end in a sentence."""

import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import maxminddb
import numpy as np
import pytest

from databases import Writer, database, pointer
from xdropd.columns import searchtree
from xdropd.columns.listing import Listing, Row
from xdropd.columns.nesting import holding
from xdropd.columns.packing import packed, unpacked
from xdropd.columns.prefixes import FAMILIES, Column
from xdropd.columns.versions import SELECTED
from xdropd.text import listfiles, selecting
from xdropd.text.addresses import Span
from xdropd.text.formats import mmdb
from xdropd.text.formats.mmdb import Database, Facts, Unfit
from xdropd.text.listfiles import How


def selected(data: bytes, *selections: str) -> dict[str, set[str]]:
    """Networks by selection."""
    listing = Database(data).select(selections).listing
    found: dict[str, set[str]] = {selecting.text_of(code): set() for code in listing.selections.table.keys.tolist()}
    codes = listing.selections.table.keys.tolist()
    for version, (keys, rows) in listing.selections.members.items():
        for (first, length), row in zip(prefixes_in(version, keys), rows.tolist(), strict=True):
            found[selecting.text_of(codes[row])].add(str(ip_network((first, length))))
    return found


def prefixes_in(version: int, keys: Column) -> Iterator[tuple[int, int]]:
    family = FAMILIES[version]
    firsts, lengths = family.ints(family.firsts(keys)), family.lengths(keys).tolist()
    for first, length in zip(firsts, lengths, strict=True):
        yield (first if version == 4 else ip_address(first.to_bytes(16, "big"))), length  # type: ignore[misc]


def asked_of_the_library(data: bytes, folder: Path, address: str) -> Facts:
    path = folder / "asked.mmdb"
    path.write_bytes(data)
    with maxminddb.open_database(str(path), maxminddb.MODE_MEMORY) as reader:
        return mmdb.facts_in(reader.get(address))


@pytest.mark.parametrize("bits", [24, 28, 32])
@pytest.mark.parametrize("version", [4, 6])
def test_what_is_selected_is_what_was_written(version: int, bits: int) -> None:
    records = {
        "192.0.2.0/24": {"country": {"iso_code": "KP"}},
        "198.51.100.0/25": {"country": {"iso_code": "XX"}},
        "203.0.113.9/32": {"country": {"iso_code": "KP"}, "registered_country": {"iso_code": "XX"}},
    }
    if version == 6:
        records["2001:db8::/32"] = {"country": {"iso_code": "XX"}}
        records["2001:db9::1/128"] = {"country": {"iso_code": "KP"}}
    found = selected(database(records, version, bits), "country=XX", "country=KP")
    for code in ("KP", "XX"):
        assert found[f"country={code}"] == {net for net, said in records.items() if said["country"]["iso_code"] == code}


@pytest.mark.parametrize(
    ("record", "facts"),
    [
        ({"country": {"iso_code": "KP"}, "continent": {"code": "AS"}}, Facts("KP", "AS")),
        ({"country_code": "kp", "continent_code": "AS", "country": "North Korea"}, Facts("KP", "AS")),
        ({"country": "KP", "continent": "AS", "asn": "AS64496"}, Facts("KP", "AS", 64496)),
        ({"autonomous_system_number": 64496}, Facts(asn=64496)),
        ({"traits": {"autonomous_system_number": 64496}}, Facts(asn=64496)),
        ({"asn": 64496}, Facts(asn=64496)),
        ({"registered_country": {"iso_code": "KP"}, "country": {"names": {"en": "KP"}}}, Facts()),
        ({"country": "North Korea", "asn": "64496 and more", "continent": ["AS"]}, Facts()),
        ({"asn": "AS99999999999"}, Facts()),
        ("KP", Facts()),
    ],
)
def test_what_makers_call_things_is_found_out(record: object, facts: Facts) -> None:
    assert mmdb.facts_in(record) == facts
    data = database({"192.0.2.0/24": record})  # type: ignore[dict-item]
    assert Database(data).facts(4, int(ip_address("192.0.2.7"))) == facts
    assert Database(data).facts(4, int(ip_address("192.0.3.7"))) == Facts()


def test_ipv4_is_found_once_wherever_an_alias_leads_there() -> None:
    writer = Writer()
    writer.put("192.0.2.0/24", {"country_code": "KP"})
    writer.put("2001:db8::/32", {"country_code": "KP"})
    for alias in ("::ffff:0:0/96", "2002::/16", "2001::/32"):
        writer.lead(alias, ("node", writer.node_at("0.0.0.0/0")))
    assert selected(writer.written(), "country=KP") == {"country=KP": {"192.0.2.0/24", "2001:db8::/32"}}


def test_ipv4_mapped_networks_are_what_they_mean() -> None:
    data = database({"::ffff:192.0.2.0/120": {"country_code": "KP"}})
    assert selected(data, "country=KP") == {"country=KP": {"192.0.2.0/24"}}


def test_a_network_that_holds_all_of_ipv4_is_all_of_ipv4(tmp_path: Path) -> None:
    data = database({"::/64": {"country_code": "KP"}})
    assert selected(data, "country=KP") == {"country=KP": {"0.0.0.0/0", "::/64"}}
    assert Database(data).facts(4, 1) == asked_of_the_library(data, tmp_path, "0.0.0.1") == Facts("KP")


def test_each_selection_is_an_entry_as_large_as_all_of_it() -> None:
    data = database(
        {
            "192.0.2.0/24": {"country_code": "KP", "asn": 64496},
            "198.51.100.0/24": {"country_code": "KP"},
            "2001:db8::/127": {"country_code": "KP"},
            "2001:db8:1::/128": {"asn": "AS64496"},
        }
    )
    listing = Database(data).select(("country=KP", "asn=64496", "country=XX")).listing
    assert listing.count == 3
    assert [str(Span(*row[:3])) for row in listing.rows()] == ["country=KP", "country=XX", "asn=64496"]
    assert listing.selections.sizes == (514, 0, 257)
    address = int(ip_address("192.0.2.9"))
    held = [(str(Span(*row[:3])), listing.rank_of(row)) for row in holding(listing, 4, address, address)]
    assert held == [("country=KP", (514, 1)), ("asn=64496", (257, 2))]
    code = selecting.code_of("asn=64496")
    assert listing.row(SELECTED, code, code) == Row(SELECTED, code, code)


def test_a_listing_with_selections_goes_through_memory() -> None:
    data = database({"192.0.2.0/24": {"country_code": "KP"}, "2001:db8::/127": {"country_code": "XX"}})
    listing = Database(data).select(("country=XX", "country=KP")).listing
    head, columns = packed(listing)
    parts = iter(columns)
    again = unpacked(head, lambda kind, count: np.frombuffer(next(parts).tobytes(), kind, count))
    assert list(again.rows()) == list(listing.rows())
    assert again.selections.sizes == listing.selections.sizes


def codes() -> list[int]:
    rng = random.Random(1)
    texts = ("country=AA", "country=ZZ", "continent=AN", "asn=0", "asn=4294967295")
    return [*map(selecting.code_of, texts), *(selecting.code("asn", rng.randrange(1 << 32)) for _ in range(100))]


@pytest.mark.parametrize("version", FAMILIES)
def test_a_selection_has_a_key_among_those_of_ranges(version: int) -> None:
    family, some = FAMILIES[version], np.array(codes(), np.uint64)
    assert family.selections_in(family.selection_keys(some)).tolist() == some.tolist()
    ends = (0, 1, 5, (1 << family.width) - 2, (1 << family.width) - 1)
    keys = np.concatenate([family.range_key(first, last) for first in ends for last in ends if first <= last])
    assert not family.selections_in(keys).any()


@pytest.mark.parametrize("text", ["country=KP", "continent=AN", "asn=0", "asn=4294967295"])
def test_a_selection_is_text_again(text: str) -> None:
    assert selecting.text_of(selecting.code_of(text)) == text


@pytest.mark.parametrize(
    "text", ["country=kp", "country=KPX", "asn=4294967296", "asn=01", "asn=", "planet=EA", "KP", "="]
)
def test_what_is_no_selection_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is no selection"):
        selecting.code_of(text)


# ---- list files ----


def test_a_database_is_recognised_by_its_content() -> None:
    data = database({"192.0.2.0/24": {"country_code": "KP"}})
    found = listfiles.read(data, "some.list", How(select=("country=KP", "country=XX")))
    assert found.unfit == ""
    assert found.listing.count == 2
    assert [str(each) for each in found.warnings] == ["some.list: warning: there is nothing in it for country=XX"]


@pytest.mark.parametrize(
    ("data", "select", "says"),
    [
        (database({"192.0.2.0/24": {"country_code": "KP"}}), (), "say what is blocked of it"),
        (b"192.0.2.0/24\n", ("country=KP",), "no database in MaxMind's format"),
        (database({"192.0.2.0/24": {"country_code": "KP"}}), ("asn=64496",), "it is of type 'Test' and has no asn"),
    ],
)
def test_what_cannot_be_selected_is_told(data: bytes, select: tuple[str, ...], says: str) -> None:
    found = listfiles.read(data, "some.list", How(select=select))
    assert says in found.unfit
    assert found.listing.count == 0


def test_without_the_library_databases_are_refused_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "maxminddb.decoder", None)
    found = listfiles.read(database({"192.0.2.0/24": {"country_code": "KP"}}), "a.mmdb", How(select=("country=KP",)))
    assert "apt install python3-maxminddb" in found.unfit


def test_a_country_in_text_and_in_a_database_are_the_same_set(maxminds: Path) -> None:
    data = (maxminds / "test-data" / "GeoLite2-Country-Test.mmdb").read_bytes()
    networks = selected(data, "country=CN")["country=CN"]
    text = listfiles.read("\n".join(networks).encode(), "cn.txt", How(widest=(0, 0))).listing
    from_database = Database(data).select(("country=CN",)).listing
    assert "2001:250::/31" in networks
    for version in FAMILIES:
        assert text.prefixes[version].keys.tolist() == from_database.selections.members[version].keys.tolist()


def real_database(cache: Path) -> Path:
    """A million prefixes, which are not ours to ship."""
    path = cache / "geo-whois-asn-country.mmdb"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            command = ["npm", "pack", "--silent", "@ip-location-db/geo-whois-asn-country-mmdb"]
            packed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
            subprocess.run(["tar", "--extract", "--file", packed], cwd=folder, check=True)
            (Path(folder) / "package" / path.name).rename(path)
    return path


def test_sampled_addresses_are_selected_as_the_library_says(maxminds: Path, cache: Path, full: bool) -> None:
    """Of a small database, or in a full run of a real one."""
    path = real_database(cache) if full else maxminds / "test-data" / "GeoLite2-Country-Test.mmdb"
    countries = {"US", "CN", "RU", "DE", "GB", "FR", "IN", "BR", "JP", "AU"}
    listing = Database(path.read_bytes()).select(tuple(f"country={code}" for code in countries)).listing
    rng, outcomes = random.Random(1), Counter[str | None]()
    with maxminddb.open_database(str(path), maxminddb.MODE_MEMORY) as reader:
        for version, (keys, _) in listing.selections.members.items():
            family = FAMILIES[version]
            ends = (*family.ints(family.firsts(keys)), *family.ints(family.lasts(keys)))
            near = (rng.choice(ends) + rng.choice((-1, 0, 1)) & (1 << family.width) - 1 for _ in range(2000))
            for address in (*near, *(rng.getrandbits(32) << family.width - 32 for _ in range(2000))):
                packed = address.to_bytes(family.width // 8, "big")
                country = mmdb.facts_in(reader.get(str(ip_address(packed)))).country
                held = [str(Span(*row[:3])) for row in holding(listing, version, address, address)]
                if version == 4 or (address >> 32 not in (0, 0xFFFF) and not is_alias(address)):
                    assert held == ([f"country={country}"] if country in countries else []), ip_address(packed)
                    outcomes[country if country in countries else None] += 1
    assert outcomes.keys() > {None, "GB", "US"}


def is_alias(address: int) -> bool:
    """Whether an address of IPv6 stands for one of IPv4 in such databases: 6to4 and Teredo."""
    return address >> 112 == 0x2002 or address >> 96 == 0x2001_0000


# ---- whoever made it ----


def test_every_database_of_maxmind_says_what_its_library_says(maxminds: Path) -> None:
    found = sorted((maxminds / "test-data").glob("*.mmdb"))
    assert len(found) > 30
    for path in found:
        must_say_what_the_library_says(path)


def must_say_what_the_library_says(path: Path) -> None:
    data = path.read_bytes()
    if "roken" in path.stem or "Invalid" in path.stem:
        with pytest.raises(Unfit):
            Database(data).select(("country=GB",))
        return
    reader = maxminddb.open_database(str(path), maxminddb.MODE_MEMORY)
    ours = Database(data)
    metadata = reader.metadata()
    found = searchtree.prefixes(
        searchtree.Tree.of(data, metadata.node_count, metadata.record_size, metadata.ip_version)
    )
    listed = 0
    for version, (keys, places) in found.items():
        for (first, length), _ in zip(prefixes_in(version, keys), places, strict=True):
            network = ip_network((first, length))
            record, prefix_length = reader.get_with_prefix_len(str(network[0]))
            assert record is not None
            assert version == 4 or prefix_length == length
            assert ours.facts(version, int(network[0])) == mmdb.facts_in(record)
            listed += 1
    assert listed


@pytest.mark.threat_model
def test_databases_made_to_break_readers_end_in_a_sentence(maxminds: Path) -> None:
    paths = sorted((maxminds / "bad-data").rglob("*.mmdb"))
    assert len(paths) > 20
    for path in paths:
        found = listfiles.read(path.read_bytes(), path.name, How(select=("country=KP",)))
        assert found.unfit, path
        assert found.listing.count == 0


def bombs() -> Iterator[tuple[str, bytes]]:
    """What would take for ever, or all memory, to read through."""
    writer = Writer()
    lists = [writer.place("x")]
    for _ in range(40):  # a list of two lists of two lists ...
        lists.append(writer.place([pointer(lists[-1]), pointer(lists[-1])]))
    writer.lead("192.0.2.0/24", ("data", lists[-1]))
    yield "a list of lists", writer.written()

    writer = Writer()
    text = writer.place("x" * 10_000_000)
    writer.put("192.0.2.0/24", [pointer(text)] * 10_000)
    yield "ten thousand long texts", writer.written()

    writer = Writer()
    place = writer.place(["x"])
    writer.data = writer.data[:-2] + pointer(place)
    writer.lead("192.0.2.0/24", ("data", place))
    yield "a list in itself", writer.written()

    writer = Writer()
    writer.nodes = [[("node", 0), ("node", 0)]]
    yield "a node in itself", writer.written()

    writer = Writer()
    writer.nodes = [[("node", at + 1), ("node", at + 1)] for at in range(127)] + [[("data", writer.place("x"))] * 2]
    yield "all addresses there are", writer.written()

    writer = Writer(4)
    writer.nodes = [[("node", at + 1), None] for at in range(40)] + [[None, None]]
    yield "a tree deeper than addresses", writer.written()

    writer = Writer()
    writer.lead("192.0.2.0/24", ("data", 1 << 20))
    yield "data behind the end", writer.written()

    writer = Writer()
    writer.put("192.0.2.0/24", {"country_code": "KP"})
    yield "more nodes than bytes", writer.written(node_count=1 << 31)
    yield "no version", writer.written(ip_version=5)
    yield "no size", writer.written(record_size=25)
    yield "a text for a number", writer.written(node_count="1")
    yield "cut in its metadata", writer.written()[:-120]
    yield "cut in its tree", b"\0" * 3 + writer.written()[-120:]


@pytest.mark.threat_model
@pytest.mark.parametrize(("what", "data"), [pytest.param(*each, id=each[0]) for each in bombs()])
def test_what_would_take_for_ever_ends_in_a_sentence(what: str, data: bytes) -> None:
    found = listfiles.read(data, what, How(select=("country=KP",)))
    assert found.unfit
    assert found.listing.count == 0


def test_one_with_too_many_large_records_is_told_from_one_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmdb, "_LOOKS", 1000)
    writer = Writer()
    for at in range(100):
        writer.put(f"192.0.2.{at}/32", {"country_code": "KP", "city": {"name": f"city {at}"}})
    with pytest.raises(Unfit, match="of countries rather than of cities"):
        Database(writer.written()).select(("country=KP",))


@pytest.mark.threat_model
def test_more_networks_than_any_database_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = database({f"192.0.2.{at}/32": {"country_code": "KP"} for at in range(0, 40, 2)})
    monkeypatch.setattr(searchtree, "_NETWORKS_AT_MOST", 20)
    assert len(selected(data, "country=KP")["country=KP"]) == 20
    monkeypatch.setattr(searchtree, "_NETWORKS_AT_MOST", 19)
    with pytest.raises(Unfit, match="more than 19 networks"):
        Database(data).select(("country=KP",))


def _full_tree(networks: int) -> bytes:
    """A database of IPv4 with so many networks, all with one record."""
    writer, count = Writer(4), networks - 1
    place = writer.place({"country_code": "KP"})
    metadata = writer.written(node_count=count, record_size=32).rpartition(mmdb.MARKER)[2]
    records = np.arange(1, 2 * count + 1)
    records[records >= count] = count + searchtree.GAP_BYTES + place
    return records.astype(">u4").tobytes() + bytes(searchtree.GAP_BYTES) + bytes(writer.data) + mmdb.MARKER + metadata


READ_WITH_LITTLE = """
import resource, sys
from pathlib import Path
from xdropd.text import listfiles
data = Path(sys.argv[1]).read_bytes()
pages = int(Path("/proc/self/statm").read_bytes().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (640 << 20),) * 2)
found = listfiles.read(data, "x.mmdb", listfiles.How(select=("country=KP",)))
print(found.listing.count, found.unfit)
"""


@pytest.mark.parametrize(
    ("networks", "said"), [(6_000_000, "1 \n"), (1 << 23, "0 it has more than 6000000 networks\n")]
)
def test_the_largest_takes_no_gigabyte(tmp_path: Path, networks: int, said: str) -> None:
    (tmp_path / "large.mmdb").write_bytes(_full_tree(networks))
    command = [sys.executable, "-c", READ_WITH_LITTLE, str(tmp_path / "large.mmdb")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == said


def test_a_tree_read_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch, maxminds: Path) -> None:
    data = (maxminds / "test-data" / "GeoLite2-Country-Test.mmdb").read_bytes()
    whole = selected(data, "continent=EU", "country=CN")
    monkeypatch.setattr(searchtree, "_NODES_AT_ONCE", 3)
    assert selected(data, "continent=EU", "country=CN") == whole


@pytest.mark.threat_model
def test_any_byte_of_a_database_may_be_wrong() -> None:
    data = bytearray(
        database({f"192.0.2.{at}/32": {"country": {"iso_code": "KP"}, "asn": at} for at in range(0, 40, 3)}, bits=28)
    )
    rng = random.Random(1)
    outcomes = set()
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(rng.choice((1, 1, 3))):
            broken[rng.randrange(len(broken))] = rng.choice((0, 255, rng.randrange(256)))
        if rng.random() < 0.2:
            del broken[rng.randrange(len(broken)) :]
        found = listfiles.read(bytes(broken), "broken.mmdb", How(select=("country=KP",)))
        outcomes.add(bool(found.unfit))
        assert isinstance(found.listing, Listing)
    assert outcomes == {True, False}
