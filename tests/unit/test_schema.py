"""The JSON Schemas that editors use, kept in agreement with the readers.

A schema cannot see everything: what only a reader can know is listed here, and everything else they judge alike.
"""

# ruff: noqa: E501 - samples by the dozen

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from xdropd.errors import RefusedFile
from xdropd.text import blocklist, settings

REPOSITORY = Path(__file__).parents[2]
SCHEMAS = REPOSITORY / "src" / "xdropd" / "schema"
READERS = {"blocklist": blocklist.read, "xdropd": settings.read}
VALIDATORS = {
    name: jsonschema.Draft7Validator(json.loads((SCHEMAS / f"{name}.schema.json").read_text())) for name in READERS
}


def reader_accepts(name, text):
    try:
        READERS[name](text.encode(), f"{name}.yaml")
    except RefusedFile:
        return False
    return True


def schema_accepts(name, text):
    return VALIDATORS[name].is_valid(yaml.load(text, yaml.BaseLoader))


def entry(text):
    return f"block:\n  - {text}\n"


def more(text):
    return f"block:\n  - address: 192.0.2.1\n    {text}\n"


ADDRESSES = [
    "0.0.0.0", "255.255.255.255", "192.0.2.1", "192.0.2.0/24", "0.0.0.0/0", "192.0.2.1/32", "192.0.2.1-192.0.2.9", "'::'", "::1", "2001:db8::", "::", "'::/0'",
    "2001:db8::/32", "1:20:30:40:50:10:20:30", "1:2:3:4:5:6:7::", "'::2:3:4:5:6:7:8'", "2001:DB8:0:0::1/128", "2001:db8::1-2001:db8::ff", "2001:db8::1-2001:db8:1::",
    "::ffff:192.0.2.1", "::192.0.2.1", "1:2:3:4:5:6:192.0.2.1", "'192.0.2.1'",
]  # fmt: skip
NO_ADDRESSES = [
    "192.0.2", "10", "192.0.2.256", "192.0.2.1.1", "010.0.0.1", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/024", "192.0.2.0/255.255.255.0", "'192.0.2.1 '", "example.com",
    "http://192.0.2.1", "192.0.2.1:80", "192.0.2.1-9", "192.0.2.1 - 192.0.2.9", "192.0.2.1-", "-192.0.2.1", "192.0.2.1, 192.0.2.2", "192.0.2.*", "2001:db8", "2001:db8::/129",
    "2001:db8::g", "12345::", "fe80::1%eth0", "'[::1]'", "192.0.2.1-::1", "192.0.2.0/24-192.0.3.0/24", "''", "", "~", "true", "192.0.2.1:",
]  # fmt: skip
URLS = [
    "https://example.com/list",
    "http://a",
    "http://a/",
    "'https://[2001:db8::1]:8443/a?b=c@d&e'",
    "'https://a.b-c_d.example:80?x'",
    "https://example.com/a%20b//'",
]
NO_URLS = ["ftp://example.com/a", "HTTPS://example.com/a", "https://", "https:///a", "https://user@example.com/a", "https://u:p@a/", "'https://a/#b'", "https://a b/", "https://ä.example/",
    "https://a/ü", "https://a:b/", "https://-a/", "https://a-/", "'https://a/\t'", "file:///etc/passwd"]  # fmt: skip
INCLUDE_KEYS = [
    "every: 12h", "every: 300", "every: 0h", "every: 1.5h", "every: h", "every: [1h]", "every:", "*every: 12h", "*sha256: " + "0a" * 32, "*headers: a", "headers: a", "headers: [a]", "headers: 192.0.2.1",
    "headers:", "sha256: " + "0a" * 32, "sha256: " + "AF" * 32, "sha256: " + "0a" * 31, "sha256: " + "0g" * 32, *(prefix + key for prefix in ("", "*") for key in (
        "action: block", "action: monitor", "action: allow", "action: drop", "action: Block", "action:", "action: []", "widest: 0", "widest: 32", "widest: 33", "widest: 08", "widest: -1", "widest: x", "widest:",
        "widest: []", "widest: {}", "widest: {ipv4: 4}", "widest: {ipv6: 128}", "widest: {ipv4: 33}", "widest: {ipv6: 129}", "widest: {ipv5: 1}", "widest: {ipv4: []}", "select: [country=KP]",
        "select: [country=kp, continent=an, asn=64496, asn=AS64497, asn=0]", "select: []", "select:", "select: country=KP", "select: [country=KPX]", "select: [country=]", "select: [continent=XX]",
        "select: [asn=-1]", "select: [asn=x]", "select: [asn=012]", "select: [city=x]", "select: [[country=KP]]", "select: [country=KP, country=KP]"))]  # fmt: skip
SAMPLES = {
    "blocklist": [
        "block: []\n", "block: [192.0.2.1]\nallow: [192.0.2.1]\ninclude: [a]\n", "block: {}\n", "block:\n", "block: 192.0.2.1\n", "allow: []\n", "bock: []\n", "[]\n", "x\n",
        "block: []\nallow:\n", "block: []\ninclude:\n", "block: []\ninclude: a\n", "block: [[]]\n", "block: [[192.0.2.1]]\n", "block: [{}]\n", "block: []\ndeny: []\n",
        *map(entry, ADDRESSES), *map(entry, NO_ADDRESSES),
        *(entry(f"address: {text}") for text in ADDRESSES + NO_ADDRESSES if not text.endswith(":")),  # that is bad syntax
        "block:\n  - reason: x\n", more("reason: x"), more("reason:"), more("reason: 404"), more("reason: [x]"), more("reason: {}"), more("reson: x"), more('reason: "a\\0"'),
        more('reason: "a\\nb\\tc\\x1c"'), more("reason: Grüße"), more('reason: "\\x80"'), more("address2: x"),
        more("until: 2026-12-01T00:00:00Z"), more("until: 2026-12-01t00:00:00z"), more("until: 2026-12-01 00:00+02:00"), more("until: 2026-12-01T00:00:00.25 -0330"),
        more("until: 2026-12-01T00:00:00"), more("until: 2026-12-01"), more("until: 2026-13-01T00:00:00Z"), more("until: 2026-12-32T00:00:00Z"), more("until: 2026-12-01T24:00:00Z"),
        more("until: 2026-12-01T00:60:00Z"), more("until: 2026-12-01T00:00:00+24:00"), more("until: 2026-12-01T00:00:60Z"), more("until: 7d"), more("until:"), more("until: []"),
        *(f"block: []\ninclude: [{text}]\n" for text in ("a", "lists.d/*.netset", "/srv/a b", "'a\\b'", "''", "' '", "lists.d/", "https://example.com/a", "192.0.2.1", "192.0.2.0/24", '"a\\n"', "[a]", "{}")),
        *(f"block: []\ninclude:\n  - {text}\n" for text in ("path: a", "path: a\n    reason: b", "path: a\n    reson: b", "reason: b", "path:", "path: [a]", "path: a\n    url: http://b", "path: a/", "path: '::1'", "path: 404")),
        *(f"block: []\ninclude:\n  - {text}\n" for text in URLS + NO_URLS), *(f"block: []\ninclude:\n  - url: {text}\n" for text in URLS + NO_URLS),
        *(f"block: []\ninclude:\n  - {'path: a' if more.startswith('*') else 'url: http://a'}\n    {more.strip('* ')}\n" for more in INCLUDE_KEYS),
    ],
    "xdropd": [
        "", "{}\n", "[]\n", "x\n", "x: y\n", "action: drop\n", "action: monitor\n", "action: Drop\n", "action:\n", "action: [drop]\n", "xdp_mode: auto\n", "xdp_mode: native\n",
        "xdp_mode: generic\n", "xdp_mode: skb\n", "guard: true\n", "guard: false\n", "guard: 'true'\n", "guard: yes\n", "guard: True\n", *(f"guard: {text}\n" for text in ("[]", "[connected]", "[private, connected]", "[private, private]", "[true]", "connected", "[[private]]", "{}", "[Private]")), "malformed: drop\n", "malformed: pass\n",
        "replies: drop\n", "replies: pass\n", "replies: Pass\n", "replies: true\n", "replies:\n", "replies: [pass]\n",
        *(f"next: {text}\n" for text in ("none", "None", "/sys/fs/bpf/a", "'/a b'", "balancer", "", "''", "[/a]", "{}", "/", '"/a\\n"', '"/a\\0"', f"/{'a' * 4094}", f"/{'a' * 4095}")),
        "malformed: x\n", *(f"log_drops: {text}\n" for text in ("0", "0/s", "1/s", "999999/m", "1000000/s", "01/s", "1", "1/h", "-1/s", "''", '"1/s\\n"', "[1/s]", "'0'")),
        *(f"interfaces: {text}\n" for text in ("auto", "Auto", "eth0", "[]", "[auto]", "[eth0]", "[eth0, 'wan*']", "['']", "[a/b]", "['a b']", "['a:b']", "[.]", "[..]", "[...]", "{}",
            "[an-altname-may-be-long]", f"[{'long' * 31}abc]", f"[{'long' * 32}]", f"[{'long' * 32}*]", "[abcdefghijklmno]", "[[a]]", "[eth0, eth0]")),
    ],
}  # fmt: skip

# Well-formed, and wrong all the same.
READER_ONLY = {
    "blocklist": [
        entry("10.0.0.1/8"), entry("192.0.2.9-192.0.2.1"), entry("1:2:3"), entry("1::2::3"), entry("1:2:3:4:5:6:7:8:9"), entry("::192.0.2.999"), more("until: 2026-02-30T00:00:00Z"),
        more("until: 0000-01-01T00:00:00Z"), "block: []\nblock: []\n", more("reason: a\n    reason: b"), "block: [!!str 192.0.2.1]\n", "block: &a []\n",
        *(f"block: []\ninclude:\n  - url: http://a\n    {more}\n" for more in ("every: 299", "every: 4m", "every: 31d", "select: [asn=4294967296]", "select: [asn=1, asn=AS1]", "select: [country=kp, country=KP]")),
    ],
    "xdropd": ["guard: true\nguard: true\n", "action: &a drop\n", f"interfaces: ['{'ⓧ' * 43}']\n"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in READERS for text in SAMPLES[name]])
def test_schema_and_reader_agree(name, text):
    assert schema_accepts(name, text) == reader_accepts(name, text)


@pytest.mark.parametrize("name", READERS)
def test_the_samples_show_both(name):
    judged = [reader_accepts(name, text) for text in SAMPLES[name]]
    assert judged.count(True) > 10
    assert judged.count(False) > 10


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in READERS for text in READER_ONLY[name]])
def test_what_only_the_reader_sees(name, text):
    assert schema_accepts(name, text)
    assert not reader_accepts(name, text)


@pytest.mark.parametrize("name", READERS)
def test_the_schemas_are_schemas(name):
    jsonschema.Draft7Validator.check_schema(VALIDATORS[name].schema)


@pytest.mark.parametrize("name", READERS)
def test_the_shipped_file_names_its_schema_and_fits_it(name):
    text = (REPOSITORY / "etc" / f"{name}.yaml").read_text()
    place = f"file:///usr/share/xdropd/xdropd/schema/{name}.schema.json"
    assert text.splitlines()[0] == f"# yaml-language-server: $schema={place}"
    assert (SCHEMAS / Path(place).name).is_file()
    # An editor resolves numbers, booleans and dates as YAML 1.2 has them, and a loader of 1.1 nearly so.
    assert VALIDATORS[name].is_valid(yaml.safe_load(text))
    assert schema_accepts(name, text)


def test_the_settings_schema_knows_the_keys_and_their_defaults():
    properties = VALIDATORS["xdropd"].schema["properties"]
    assert tuple(properties) == settings._KEYS
    shipped = yaml.safe_load((REPOSITORY / "etc" / "xdropd.yaml").read_text())
    assert shipped == {key: value["default"] for key, value in properties.items()}


def test_the_blocklist_schema_knows_the_keys():
    assert tuple(VALIDATORS["blocklist"].schema["properties"]) == blocklist._KEYS
