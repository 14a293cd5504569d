"""The manual tells the truth: man pages, --help, schema, documents and code agree, and every example works."""

import ast
import functools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from xdropd import errors
from xdropd.commands import arguments, exits, exporter, xdropd, xdropd_fetch
from xdropd.control import fields as request_fields
from xdropd.control import operations
from xdropd.host import control, fetched, log, spool
from xdropd.sources import blocks
from xdropd.sources.catalogue import Catalogue
from xdropd.text import addresses, blocklist, includes, settings
from xdropd.text.settings import Settings

REPOSITORY = Path(__file__).parents[2]
README = REPOSITORY / "README.md"
SOURCE = REPOSITORY / "src" / "xdropd"
MANUAL = REPOSITORY / "docs" / "man"
PAGES = ("xdropd.8", "xdropctl.8", "xdropd-fetch.8", "xdropd.yaml.5", "xdrop-blocklist.5")
STATUSES = {name: value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}


@functools.cache
def page(name: str) -> str:
    """What a reader sees, unfolded and without overstriking."""
    done = subprocess.run(["mandoc", "-T", "ascii", "-O", "width=1000", MANUAL / name], capture_output=True, check=True)
    return re.sub(r".\x08", "", done.stdout.decode())


def section(name: str, title: str) -> str:
    """One section of a page."""
    return re.split(r"^(?=\S)", page(name).partition(f"\n{title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def tags(text: str) -> set[str]:
    """The words that a list explains: those at the start of an item."""
    return {match[1] for match in re.finditer(r"^ +([^\s,:]+)", text, re.MULTILINE)}


def source_of(name: str) -> str:
    return (MANUAL / name).read_text(encoding="utf-8")


# ---- the pages themselves ----


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_well_formed(name: str) -> None:
    lint = ("mandoc", "-T", "lint", "-W", "style", MANUAL / name)
    said = subprocess.run(lint, capture_output=True, text=True, check=False).stdout.splitlines()
    assert [line for line in said if "referenced manual not found" not in line] == []
    groff = ("man", "--warnings", "--local-file", MANUAL / name)
    done = subprocess.run(groff, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", PAGES)
def test_pages_have_the_sections_that_readers_look_for(name: str) -> None:
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "FILES", "EXAMPLES", "SEE ALSO", "BUGS"):
        assert section(name, title).strip(), title


def test_pages_refer_to_each_other() -> None:
    for name in PAGES:
        others = {other.rpartition(".") for other in PAGES} - {name.rpartition(".")}
        assert [title for title, _, number in others if f"{title}({number})" not in page(name)] == []


# ---- commands ----


def test_every_verb_and_option_of_xdropctl() -> None:
    synopsis = " ".join(section("xdropctl.8", "SYNOPSIS").split()).replace(" ...", "...")
    description = section("xdropctl.8", "DESCRIPTION")
    for verb in arguments.VERBS.values():
        assert verb.usage in synopsis
        assert re.search(rf"^ +{verb.name}\b", description, re.MULTILINE), verb.name
        for option in verb.options.values():
            assert (
                re.search(rf"^ +{re.escape(option.usage)}(  |$)", description, re.MULTILINE)
                or option.must
                or (
                    option.name == "source" and verb.name in ("list", "unblock")  # told in the text of the verb
                )
            ), (verb.name, option.usage)
    told = set(re.findall(r"--[a-z]+", page("xdropctl.8"))) - {"--check", "--arg"}  # of xdropd and jq
    there = {f"--{name}" for verb in arguments.VERBS.values() for name in verb.options}
    assert told == there | {"--socket", "--json", "--help", "--version"}


def test_every_verb_has_an_example() -> None:
    shown = re.findall(r"xdropctl (?:--\w+ )*(\w+)", section("xdropctl.8", "EXAMPLES"))
    assert set(shown) == set(arguments.VERBS)


def test_defaults_of_xdropctl() -> None:
    for text in (arguments.SOCKET, arguments.LISTEN, "Default: 20", "1 to 1000", "five seconds"):
        assert text in page("xdropctl.8"), text


def test_every_option_of_xdropd() -> None:
    help_text = xdropd.parser().format_help()
    there = set(re.findall(r"--[a-z]+", help_text))
    assert set(re.findall(r"--[a-z]+", section("xdropd.8", "SYNOPSIS"))) == there - {"--help"}
    assert there <= tags(section("xdropd.8", "DESCRIPTION")) | {"--help"}
    for default in (xdropd.SETTINGS, xdropd.BLOCKLIST, f"{xdropd.RUNTIME}/control.sock", "STATE_DIRECTORY"):
        assert default in page("xdropd.8")


def test_every_option_of_xdropd_fetch() -> None:
    there = set(re.findall(r"--[a-z]+", xdropd_fetch.parser().format_help()))
    assert set(re.findall(r"--[a-z]+", section("xdropd-fetch.8", "SYNOPSIS"))) == there - {"--help"}
    assert there <= tags(section("xdropd-fetch.8", "DESCRIPTION")) | {"--help"}
    for text in (fetched.WANTED_FILE, fetched.FETCHED_FOLDER):
        assert text in page("xdropd-fetch.8")
    there = {exits.DONE, exits.WRONG_USAGE, exits.UNAVAILABLE, exits.BUG, exits.NOT_PERMITTED, exits.BAD_INPUT}
    assert {int(tag) for tag in tags(section("xdropd-fetch.8", "EXIT STATUS")) if tag.isdigit()} == there


def test_every_exit_status() -> None:
    assert {int(tag) for tag in tags(section("xdropctl.8", "EXIT STATUS")) if tag.isdigit()} == set(STATUSES.values())
    daemon = {int(tag) for tag in tags(section("xdropd.8", "EXIT STATUS")) if tag.isdigit()}
    assert daemon == set(STATUSES.values()) - {exits.NO}  # nobody asks the daemon a question
    assert [status for status in STATUSES.values() if not re.search(rf"\b{status}\b", arguments.help_text())] == []


def test_every_kind_of_error_has_an_exit_status_on_purpose() -> None:
    kinds = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert {kind for kind in exits._CODES if kind != "Bug"} <= kinds


# ---- the log ----


_EVENT_STANDS_AT = {
    "info": 0,
    "notice": 0,
    "warning": 0,
    "error": 0,
    "event": 1,
    "trouble": 2,
    "once": 2,
    "each_once": 2,
}


def _events() -> Iterator[str]:
    """Every event that the daemon logs, read from syntax trees; for the fleet's, see test_fleet_manual.py."""
    for file in SOURCE.rglob("*.py"):
        if "fleet" in file.relative_to(SOURCE).parts or file.stem == "xdropd_crowdsec":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                at = _EVENT_STANDS_AT.get(node.func.attr)
                if at is None:
                    continue
                found = node.args[at] if at < len(node.args) else None
                if isinstance(found, ast.Constant) and isinstance(found.value, str):
                    yield found.value


def test_every_event_is_explained() -> None:
    """`trouble` is what `Telling.trouble` says where it is not told otherwise; four are named by a variable."""
    explained = {event.strip() for line in _event_tags() for event in line.split(",")}
    assert set(_events()) | {"trouble", "block", "unblock", "replace", "change"} == explained


def _event_tags() -> list[str]:
    text = source_of("xdropd.8").partition("The events:")[2].partition(".El")[0]
    return [line.removeprefix(".It ") for line in text.splitlines() if line.startswith(".It ")]


def test_levels_and_fields() -> None:
    text = section("xdropd.8", "DIAGNOSTICS")
    for level in ("error", "warning", "notice", "info"):
        meaning = re.search(rf"{level}, ([^;.]+)", " ".join((log.Log.__doc__ or "").split()))
        assert meaning
        shown = re.search(rf"^ +{level} +(.*)$", text, re.MULTILINE)
        assert shown
        assert shown[1].lower().startswith(meaning[1].lower())
    fields_logged = {
        keyword.arg.upper()
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("info", "notice", "warning", "error", "once")
        for keyword in node.keywords
        if keyword.arg in ("interface", "entry", "source", "file", "line")
    }
    assert set(re.findall(r"XDROPD_([A-Z]+)", text)) == fields_logged | {
        "EVENT",
        "PORT",
    }  # the port stands in samples.py


# ---- files ----


def _schema(name: str) -> dict[str, dict[str, object]]:
    found = json.loads((SOURCE / "schema" / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def _items(name: str) -> dict[str, str]:
    """The keys that a page explains, with their source text."""
    parts = re.split(r"^\.It Ic ([a-z0-9_]+)", source_of(name), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _literal(text: str) -> list[str]:
    return [match[1].replace("\\e", "\\") for match in re.finditer(r"\.Bd -literal[^\n]*\n(.*?)\.Ed", text, re.DOTALL)]


def test_every_setting() -> None:
    explained = _items("xdropd.yaml.5")
    assert set(explained) == set(settings._KEYS) == set(_schema("xdropd")["properties"])
    assert len(explained) == len(fields(Settings))
    for name, text in explained.items():
        assert "Default:" in text, name
        assert "Takes effect when saved" in text, name
        (example,) = _literal(text)[:1]
        assert settings.read(example.encode(), "example") is not None
        assert example.startswith(f"{name}:")
        for word in settings._WORDS.get(name, ()):
            assert word in text, (name, word)


def test_defaults_of_settings() -> None:
    (example,) = _literal(source_of("xdropd.yaml.5").partition(".Sh EXAMPLES")[2])[:1]
    assert settings.read(example.encode(), "example") == Settings()
    for line in example.splitlines():
        name, _, default = line.partition(": ")
        shown = " ".join(page("xdropd.yaml.5").split())
        assert re.search(rf" {name}: .*?Default: {re.escape(default)}\.", shown), name


def test_every_key_of_the_blocklist() -> None:
    explained = set(_items("xdrop-blocklist.5"))
    assert explained == {*blocklist._KEYS, *blocklist._ENTRY_KEYS, *includes._KEYS}
    assert set(blocklist._KEYS) == set(_schema("blocklist")["properties"])
    for name, text in _items("xdrop-blocklist.5").items():
        assert "Default:" in text or "Must be there" in text, name


def test_every_blocklist_in_the_manual_is_one() -> None:
    found = [text for text in _literal(source_of("xdrop-blocklist.5")) if text.startswith("block:")]
    assert len(found) == 6
    for text in found:
        blocklist.read(text.encode(), "example")


def test_the_readmes_blocklist_can_be_pasted(tmp_path: Path) -> None:
    """All of it is in force then: no file is missing, and what it allows is not all of what it blocks."""
    (text,) = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "blocklist.yaml"
    file.write_text(text)
    reading = Catalogue(str(file), None).read()
    assert (reading.troubles, reading.warnings) == ((), ())
    shown = re.findall(r"^ +- (?:address: )?([0-9a-f.:/-]+) ", text.partition("allow:")[0], re.MULTILINE)
    (allowed,) = re.findall(r"^allow:.*\n  - (\S+)", text, re.MULTILINE)
    assert len(shown) == 5
    assert allowed not in shown
    assert addresses.parse_span(allowed).is_address, "it leaves something of every entry"


def test_the_readmes_packages_are_those_of_the_debian_package() -> None:
    control = (REPOSITORY / "debian" / "control").read_text(encoding="utf-8")
    depends = control.partition("\nDepends: ")[2].partition("\nRecommends:")[0]
    (installed,) = re.findall(r"^sudo apt install (python3-venv .*)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(installed.split()) - {"python3-venv"} == set(re.findall(r"^ *([a-z][\w-]+)", depends, re.MULTILINE))


# ---- JSON, metrics, protocol ----


def test_every_key_of_json() -> None:
    text = section("xdropctl.8", "JSON")
    assert [key for key in _keys_that_are_sent() if not re.search(rf"\b{key}\b", text)] == []
    protocol = (REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8")
    sent = [*_keys_that_are_sent(), *_keys_that_are_sent("metrics")]
    assert [key for key in sent if f"`{key}`" not in protocol and key not in ("ipv4", "ipv6")] == []


def _keys_that_are_sent(*methods: str) -> list[str]:
    """Keys of the objects that the control socket answers with; of the metrics only where asked for."""
    files = [SOURCE / "control" / name for name in ("answers.py", "fetches.py", "operations.py", "rows.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    operations = ("_do_block", "_do_unblock", "_do_flush", "reload")
    wanted = methods or ("status", "lookup", "described", "_counts", "_fetched", "_outcome", *operations)
    assert set(wanted) <= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return [
        key.value
        for function in nodes
        if isinstance(function, ast.FunctionDef) and function.name in wanted
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and key.value not in ("result", "row", "progress")
    ]


def test_every_metric() -> None:
    reply = {
        "version": "1",
        "state": "waiting",
        "degraded": False,
        "interfaces": [],
        "families": {},
        "reloads": {},
        "reload_seconds": 1.0,
        "last_success": 1.0,
        "sources": [],
        "fetch": [],
    }
    served = {family.name + ("_total" if family.type == "counter" else "") for family in exporter.families(reply)}
    text = section("xdropctl.8", "METRICS")
    assert set(re.findall(r"xdropd_[a-z_]+", text)) == served
    dashboard = (REPOSITORY / "docs" / "grafana" / "xdropd.json").read_text(encoding="utf-8")
    assert set(re.findall(r"xdropd_[a-z_]+", dashboard)) <= served


def test_the_dashboard_is_what_its_generator_makes() -> None:
    generator = REPOSITORY / "scripts" / "dashboard"
    done = subprocess.run([sys.executable, generator, "--print"], capture_output=True, text=True, check=True)
    assert done.stdout == (REPOSITORY / "docs" / "grafana" / "xdropd.json").read_text(encoding="utf-8")
    pins = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    assert re.findall(r"grafana_foundation_sdk==[\w!.]+", generator.read_text()) == [pins[0]] * 2


def test_every_verb_of_the_protocol() -> None:
    protocol = (REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8")
    tree = ast.parse((SOURCE / "control" / "requests.py").read_text(encoding="utf-8"))
    verbs = {
        key.value: value.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if isinstance(key, ast.Constant) and isinstance(value, ast.Attribute) and value.attr == key.value
    }
    table = protocol.partition("## Verbs")[2].partition("\n## ")[0]
    assert {match[1] for match in re.finditer(r"^\| `([a-z]+)` \|", table, re.MULTILINE)} == set(verbs)
    assert set(verbs) == {name for name in arguments.VERBS if name not in ("check", "exporter")} | {"metrics", "change"}
    assert f"a printable text of at most {request_fields.TAG_CHARACTERS_AT_MOST} characters" in protocol
    assert f"At most {blocks.TAGGED_AT_MOST}\n  sources have one" in protocol
    assert f" {blocks._HISTORY_BYTES >> 10} KiB of the log" in protocol
    assert f"at most {request_fields._CHARACTERS_AT_MOST} characters" in protocol
    assert request_fields._CHARACTERS_AT_MOST == arguments._CHARACTERS_AT_MOST


def test_the_bounds_of_the_protocol() -> None:
    told = " ".join((REPOSITORY / "docs" / "protocol.md").read_text(encoding="utf-8").partition("## Bounds")[2].split())
    assert f"at most {control._REQUEST_BYTES_AT_MOST >> 20} MiB" in told
    assert f"that entries follow {control._LARGE_BYTES >> 10} KiB" in told
    assert f"a line of an entry {spool._PIECE_BYTES >> 10} KiB" in told
    assert f"{control._FOLLOWING_BYTES_AT_MOST >> 20} MiB may follow" in told
    assert control._FOLLOWING_SECONDS == 30
    assert f"There are {control._CONNECTIONS_AT_MOST} places" in told
    assert f"Requests over {control._LARGE_BYTES >> 10} KiB are taken one after the other" in told
    assert f"may have {control._RECEIVED_BYTES_AT_MOST >> 20} MiB together" in told
    assert f"at most {operations._SOURCES_AT_MOST:,} sources of blocks" in told
    assert f"Up to {operations._SOURCES_AT_MOST:,} names" in section("xdropctl.8", "DESCRIPTION")
    assert (control._SILENCE_SECONDS, control._PATIENCE_SECONDS) == (10, 600)
    assert "after ten seconds of silence is hung up on; who does not read its answer, after ten minutes" in told


def test_every_document_that_the_manual_names_is_installed() -> None:
    """In /usr/share/doc/xdropd, where debhelper compresses what is larger than 4 KiB, and in examples/ below it."""
    debian = REPOSITORY / "debian"
    documents = [REPOSITORY / line for line in (debian / "xdropd.docs").read_text().split()]
    installed = {f"{file.name}.gz" if file.stat().st_size > 4096 else file.name for file in documents}
    installed |= {f"examples/{Path(line).name}" for line in (debian / "xdropd.examples").read_text().split()}
    texts = [page(name) for name in PAGES] + [(REPOSITORY / "docs" / "coming-from.md").read_text(encoding="utf-8")]
    named = {match[1] for text in texts for match in re.finditer(r"/usr/share/doc/xdropd/([\w./-]*\w)", text)}
    assert len(named) >= 3
    assert named <= installed


def test_every_link_of_the_documents_leads_somewhere() -> None:
    files = [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")]
    links = [
        (file, link) for file in files for link in re.findall(r"\]\(([\w./-]+)\)", file.read_text(encoding="utf-8"))
    ]
    assert sum(link.endswith(".svg") for _, link in links) >= 3
    assert [(file.name, link) for file, link in links if not (file.parent / link).exists()] == []


# ---- every command line that we show ----


def _command_lines() -> list[str]:
    """Every `xdropctl ...` in documents and man pages that is meant to be typed."""
    found = []
    for file in (
        *(REPOSITORY / "docs").glob("*.md"),
        *(REPOSITORY / "docs").glob("*/*.conf"),
        REPOSITORY / "README.md",
    ):
        text = file.read_text(encoding="utf-8")
        found += re.findall(r"`(?:sudo )?(xdropctl [^`]+)`", text)
        found += re.findall(r"^(?:.*\| )?(?:\$ )?(?:sudo )?(?:action\w+ += )?(xdropctl [a-z-].*)$", text, re.MULTILINE)
    for name in PAGES:
        for text in _literal(source_of(name)):
            found += re.findall(r"^(xdropctl .*)$", text, re.MULTILINE)
    return sorted(set(found))


def test_there_are_command_lines_to_look_at() -> None:
    assert len(_command_lines()) > 15


@pytest.mark.parametrize("line", _command_lines())
def test_every_command_line_that_we_show_is_one(line: str) -> None:
    line = re.sub(r"<name>|<ip>", "x", line).replace("<bantime>", "600")
    words = shlex.split(re.split(r" (?:\||\|\||&&|<|#)", line)[0].split(" <")[0].rstrip("\\"))
    if words[1:] in ([verb] for verb in arguments.VERBS):
        return  # the verb as such, in running text
    chosen = arguments.read(words[1:])
    assert chosen.verb or chosen.asks_for
