"""Who asks: the files that the configuration names, or that the service manager hands over as credentials.

A name without a slash is one of $CREDENTIALS_DIRECTORY (LoadCredential=, systemd.exec(5)); without a service manager it
stands beside the configuration, so that `--check` finds what the service is handed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from xdropd.errors import Problem, RefusedFile
from xdropd.fleet.localapi import Identity
from xdropd.host.files import read_file
from xdropd.text import crowdsec, names
from xdropd.text.crowdsec import Configuration, Machine

CONFIGURATION = "crowdsec.yaml"
API_KEY = "api_key"
"""Names of credentials."""

_LIMIT_BYTES = 1 << 20


def read_configuration(path: str, environment: Mapping[str, str]) -> tuple[Configuration, Identity, Machine | None]:
    """A configuration with all that it names. Raises RefusedFile with every problem.

    The file itself may be a credential of that name, so that only root needs to read it where it stands.
    """
    handed = _credential(environment, CONFIGURATION)
    shown = names.shown(path)
    configuration = crowdsec.read(_content(handed if handed and handed.exists() else Path(path), shown), shown)
    problems: list[Problem] = []
    found = {
        name: _path(environment, path, getattr(configuration, name))
        for name in ("cert_path", "key_path", "ca_cert_path")
    }
    for name, file in found.items():
        if file:
            _named(configuration, name, file, shown, problems)
    key = configuration.api_key
    given = _credential(environment, API_KEY)
    if not key and given and given.exists():
        key = _content(given, shown).decode(errors="replace").strip()
        if not key.isascii() or not key.isprintable():
            problems.append(Problem(shown, 0, 0, f"the credential {API_KEY} holds no key"))
    if not key and not found["cert_path"]:
        what = "there is no 'api_key:' here, write the one that 'cscli bouncers add NAME' prints"
        problems.append(Problem(shown, 0, 0, what))
    machine = None
    if configuration.report:
        file = _path(environment, path, configuration.credentials_path)
        content = _named(configuration, "credentials_path", file, shown, problems)
        if content is not None:
            try:
                machine = crowdsec.read_credentials(content, names.shown(file))
            except RefusedFile as refusal:
                problems += refusal.problems
    if problems:
        raise RefusedFile(problems)
    return configuration, Identity(key, **found), machine


def _credential(environment: Mapping[str, str], name: str) -> Path | None:
    folder = environment.get("CREDENTIALS_DIRECTORY")
    return Path(folder, name) if folder else None


def _path(environment: Mapping[str, str], configuration: str, path: str) -> str:
    if not path or path.startswith("/"):
        return path
    return os.fspath(_credential(environment, path) or Path(configuration).with_name(path))


def _named(configuration: Configuration, name: str, file: str, shown: str, problems: list[Problem]) -> bytes | None:
    """What a file holds that a key names. None where it cannot be read, which is a problem of the key's value."""
    try:
        return _content(Path(file), shown)
    except RefusedFile as refusal:
        place, what = configuration.places[name], f"{name}, {names.shown(file)}"
        problems += [Problem(shown, *place, f"{what}: {each.message}") for each in refusal.problems]
    return None


def _content(path: Path, shown: str) -> bytes:
    try:
        return read_file(path, _LIMIT_BYTES)[0]
    except FileNotFoundError:
        raise RefusedFile([Problem(shown, 0, 0, "there is no such file")]) from None
    except OSError as failure:
        raise RefusedFile([Problem(shown, 0, 0, f"cannot be read: {failure.strerror}")]) from failure
