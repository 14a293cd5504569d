"""The manual of the fleet tells the truth: man pages, --help, schema, the shipped file and code agree."""

# ruff: noqa: E501 - samples by the dozen

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from xdropd.commands import exits, xdropd_crowdsec
from xdropd.errors import RefusedFile
from xdropd.text import crowdsec
from xdropd.text.crowdsec import Configuration

REPOSITORY = Path(__file__).parents[2]
MANUAL = REPOSITORY / "docs" / "man"
PAGES = ("xdropd-crowdsec.8", "crowdsec.yaml.5")
SCHEMA = jsonschema.Draft7Validator(
    json.loads((REPOSITORY / "src" / "xdropd" / "schema" / "crowdsec.schema.json").read_text(encoding="utf-8"))
)


def source_of(name: str) -> str:
    return (MANUAL / name).read_text(encoding="utf-8")


def examples(name: str) -> list[str]:
    return re.findall(r"\.Bd -literal[^\n]*\n(.*?)\.Ed", source_of(name), re.DOTALL)


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_well_formed(name: str) -> None:
    lint = ("mandoc", "-T", "lint", "-W", "style", MANUAL / name)
    said = subprocess.run(lint, capture_output=True, text=True, check=False).stdout.splitlines()
    assert [line for line in said if "referenced manual not found" not in line] == []
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "EXAMPLES", "SEE ALSO", "BUGS"):
        assert f"\n.Sh {title}\n" in source_of(name), title


def test_every_option_and_exit_status() -> None:
    there = {option for action in xdropd_crowdsec.parser()._actions for option in action.option_strings}
    text = source_of("xdropd-crowdsec.8")
    assert {f"-{option}" for option in re.findall(r"^\.It Fl (\S+)", text, re.MULTILINE)} == there - {"--help"}
    told = {int(number) for number in re.findall(r"^\.It (\d+)", text, re.MULTILINE)}
    assert told == {
        exits.DONE, exits.WRONG_USAGE, exits.UNAVAILABLE, exits.BUG, exits.NOT_PERMITTED, exits.BAD_INPUT,
    }  # fmt: skip


def test_every_event_is_explained() -> None:
    source = REPOSITORY / "src" / "xdropd"
    files = [*(source / "fleet").glob("*.py"), source / "commands" / "xdropd_crowdsec.py"]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    said = set(re.findall(r"(?:log\.(?:info|notice|warning|error)|_trouble|_well)\(\s*\"(\w+)\"", text)) | {
        "bug",
        "log",
    }
    told = source_of("xdropd-crowdsec.8").partition("The events:")[2].partition(".El")[0]
    assert set(re.findall(r"^\.It (\w+)", told, re.MULTILINE)) == said


def test_every_key_is_explained() -> None:
    told = re.findall(r"^\.It Ic ([a-z0-9_ ,]+) :", source_of("crowdsec.yaml.5"), re.MULTILINE)
    explained = [name for names in told for name in names.split(" , ")]
    assert sorted(explained) == sorted(crowdsec._READERS) == sorted(SCHEMA.schema["properties"])


def test_defaults_are_told_as_they_are() -> None:
    told = dict(
        re.findall(
            r"^\.It Ic (\w+) :(?:(?!\n\.It).)*?Default:\n\.(?:Li|Cm) (\S+)",
            source_of("crowdsec.yaml.5"),
            re.DOTALL | re.MULTILINE,
        )
    )
    for name in ("api_url", "update_frequency", "resync", "timeout", "source", "usage_metrics"):
        assert crowdsec.read(f"{name}: {told[name]}".encode(), "man") == Configuration(), name


def test_examples_are_read() -> None:
    (example, _) = examples("crowdsec.yaml.5")
    assert crowdsec.read(example.encode(), "man").report == ("fail2ban-*", "xdropctl")


def test_the_shipped_file_says_no_more_than_the_defaults() -> None:
    text = (REPOSITORY / "etc" / "crowdsec.yaml").read_text(encoding="utf-8")
    assert text.startswith(
        "# yaml-language-server: $schema=file:///usr/share/xdropd/xdropd/schema/crowdsec.schema.json\n"
    )
    assert crowdsec.read(text.encode(), "etc") == Configuration()
    for line in re.findall(r"^# (\w+: .*)$", text, re.MULTILINE):
        if line.partition(":")[0] in crowdsec._READERS:
            assert yaml.safe_load(line)


SAMPLES = [
    "", "api_url: http://127.0.0.1:8080", "api_url: https://a/b/", "api_url: 127.0.0.1", "api_url: ftp://a/", "api_url: http://u@a/", "api_key: abc", "api_key: a b",
    "api_kye: a", "update_frequency: 10s", "update_frequency: 1m30s", "update_frequency: 10", "resync: 2h", "timeout: x", "scopes: [Ip, RANGE]", "scopes: [as]", "scopes: []",
    "scopes: ip", "origins: [CAPI]", "origins: []", "origins: ['a,b']", "supported_decisions_types: []", "supported_decisions_types: [Ban]", "disable_ipv4: true", "disable_ipv4: yes",
    "insecure_skip_verify: false", "source: a/b", "source: lapi", "usage_metrics: 0", "usage_metrics: 30m", "usage_metrics: off", "usage_metrics: 30", "usage_metrics:", "widest: 8", "widest: 33", "widest: 08", "widest: {ipv6: 128}", "widest: {ipv6: 129}", "widest: {ipv5: 1}", "report: [a]",
    "report: ['fail2ban-*']\ncredentials_path: a", "report: [a/b]\ncredentials_path: a", "cert_path: /a", "cert_path: /a\nkey_path: b", "cert_path: a/b\nkey_path: b", "- a", "a",
]  # fmt: skip


@pytest.mark.parametrize("text", SAMPLES)
def test_schema_and_reader_agree(text: str) -> None:
    try:
        crowdsec.read(text.encode(), "crowdsec.yaml")
        is_read = True
    except RefusedFile:
        is_read = False
    assert SCHEMA.is_valid(yaml.load(text, yaml.BaseLoader)) == is_read  # which makes texts of everything
