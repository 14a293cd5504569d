"""crowdsec.yaml: its defaults, what each key accepts, and in which words the rest is refused."""

# ruff: noqa: E501 - the tables have a case a line, with the sentence as the operator sees it

import dataclasses
from pathlib import Path

import pytest

from xdropd.errors import RefusedFile
from xdropd.fleet.identity import read_configuration
from xdropd.fleet.localapi import Identity
from xdropd.text import crowdsec
from xdropd.text.crowdsec import Configuration, Machine

REPOSITORY = Path(__file__).parents[2]


def read(text):
    return crowdsec.read(text.encode(), "crowdsec.yaml")


def problems(text):
    with pytest.raises(RefusedFile) as caught:
        read(text)
    return [f"{problem.line}:{problem.column}: {problem.message}" for problem in caught.value.problems]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "{}\n"])
def test_an_empty_file_means_the_defaults(text):
    assert read(text) == Configuration()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("api_url: http://192.0.2.1:8080", "api_url", "http://192.0.2.1:8080/"),
        ("api_url: https://lapi.example/crowdsec/", "api_url", "https://lapi.example/crowdsec/"),
        ("api_url: 'http://[2001:db8::1]:8080'", "api_url", "http://[2001:db8::1]:8080/"),
        ("api_key: 0123", "api_key", "0123"),
        ("insecure_skip_verify: true", "insecure_skip_verify", True),
        ("update_frequency: 1m30s", "update_frequency", 90.0),
        ("update_frequency: 100ms", "update_frequency", 0.1),
        ("resync: 2h", "resync", 7200.0),
        ("timeout: 3s", "timeout", 3.0),
        ("usage_metrics: 30m", "usage_metrics", 1800.0),
        ("usage_metrics: 0", "usage_metrics", 0.0),
        ("scopes: [Ip]", "scopes", ("ip",)),
        ("origins: [CAPI, cscli, CAPI]", "origins", ("CAPI", "cscli")),
        ("origins: []", "origins", ()),
        ("scenarios_containing: [ssh]", "scenarios_containing", ("ssh",)),
        ("scenarios_not_containing: [http-probing]", "scenarios_not_containing", ("http-probing",)),
        ("supported_decisions_types: [Ban, captcha]", "supported_decisions_types", ("ban", "captcha")),
        ("disable_ipv6: true", "disable_ipv6", True),
        ("source: lapi", "source", "lapi"),
        ("widest: 0", "widest", (0, 0)),
        ("widest: {ipv6: 24}", "widest", (8, 24)),
        ("report: ['fail2ban-*', xdropctl]\ncredentials_path: /etc/xdrop/machine.yaml", "report", ("fail2ban-*", "xdropctl")),
        ("cert_path: cert.pem\nkey_path: /etc/xdrop/key.pem", "cert_path", "cert.pem"),
    ],
)  # fmt: skip
def test_a_key_says_what_other_components_mean_by_it(text, name, value):
    assert getattr(read(text), name) == value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- x", "1:1: this is a list and no configuration, write a line such as 'api_url: http://127.0.0.1:8080/'"),
        ("api_url", "1:1: 'api_url' has no colon, write 'api_url: '"),
        ("api_ulr: http://a/", "1:1: unknown key 'api_ulr', did you mean 'api_url'?"),
        ("api_key:", "1:1: nothing follows 'api_key:', remove the line to have the default"),
        ("api_url: 127.0.0.1:8080", "1:10: '127.0.0.1:8080' is no URL of a server, write one such as http://127.0.0.1:8080/"),
        ("api_url: http://a:b/", "1:10: 'http://a:b/' is no URL of a server, write one such as http://127.0.0.1:8080/"),
        ("api_url: http://u:p@a/", "1:10: 'http://u:p@a/' has more than a server and a path, leave the rest out"),
        ("api_key: ${API_KEY}", "1:10: '${API_KEY}' stands for a key, write the one that 'cscli bouncers add' has printed"),
        ("api_key: a b", "1:10: this is no key, write the one that 'cscli bouncers add' has printed"),
        ("update_frequency: 10", "1:19: '10' has no unit, write 10s for seconds"),
        ("update_frequency: ten", "1:19: 'ten' is no duration, write one such as 10s, 1m30s or 1h"),
        ("update_frequency: 1ms", "1:19: '1ms' is out of bounds, write 100ms to 24h"),
        ("resync: 1s", "1:9: '1s' is out of bounds, write 1m to 168h"),
        ("timeout: 2h", "1:10: '2h' is out of bounds, write 100ms to 1h"),
        ("usage_metrics: 0s", "1:16: '0s' is out of bounds, write 1s to 24h, or 0 for none"),
        ("usage_metrics: off", "1:16: 'off' is no duration, write 0 for none"),
        ("insecure_skip_verify: yes", "1:23: 'yes' is no value for 'insecure_skip_verify', did you mean 'true'?"),
        ("scopes: [ip, country]", "1:14: 'country' is no scope that is taken here, write ip or range, for only addresses and networks are blocked"),
        ("scopes: []", "1:9: nothing is taken with an empty list, write [ip, range]"),
        ("scopes: ip", "1:9: 'scopes' is a list, write one such as [ip, range]"),
        ("origins: ['a,b']", "1:11: 'a,b' cannot be asked for, write a printable text without a comma"),
        ("origins: [[a]]", "1:11: this is a list of texts, write a text"),
        ("report: [a/b]\ncredentials_path: /a", "1:10: 'a/b' is no name of a source, write one such as fail2ban-* or xdropctl"),
        ("report: [xdropctl]", "1:1: 'report' is of no use without 'credentials_path', write both"),
        ("cert_path: /a", "1:1: 'cert_path' is of no use without 'key_path', write both"),
        ("api_key: a\ncert_path: /a\nkey_path: /b", "1:1: 'api_key' and 'cert_path' are two ways to say who asks, keep one"),
        ("key_path: a/b\ncert_path: /a", "1:11: 'a/b' is neither a path from the root on nor the name of a credential, write one of them"),
        ("source: a/b", "1:9: 'a/b' cannot be the name of a source, write a word without a slash"),
        ("widest: 33", "1:9: '33' is no prefix length, write 0 to 32"),
        ("disable_ipv4: true\ndisable_ipv6: true", "2:1: with both families disabled there is nothing to do, keep one of them"),
        ("api_url: [a]", "1:10: 'api_url' has one value, write it on this line"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(text, expected):
    assert expected in problems(text)


def test_all_mistakes_are_told_at_once():
    assert len(problems("api_url: x\nresync: 1s\nscopes: [as]\nfoo: bar\n")) == 4


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "crowdsec.yaml").write_text("api_key: abc\n")
    return tmp_path


def refusals(path, environment=None):
    with pytest.raises(RefusedFile) as caught:
        read_configuration(str(path), environment or {})
    return [str(problem).replace(str(path.parent), "F") for problem in caught.value.problems]


def test_a_key_stands_in_the_file_or_is_a_credential(folder):
    path = folder / "crowdsec.yaml"
    assert read_configuration(str(path), {}) == (Configuration(api_key="abc"), Identity("abc"), None)
    path.write_text("disable_ipv6: true\n")
    assert refusals(path) == ["F/crowdsec.yaml: error: there is no 'api_key:' here, write the one that 'cscli bouncers add NAME' prints"]  # fmt: skip
    (folder / "api_key").write_text("def\n")
    handed = {"CREDENTIALS_DIRECTORY": str(folder)}
    assert read_configuration(str(path), handed)[1] == Identity("def")
    (folder / "api_key").write_bytes(b"\xff")
    assert refusals(path, handed) == ["F/crowdsec.yaml: error: the credential api_key holds no key"]


def test_the_whole_file_may_be_a_credential_and_goes_by_its_own_name(folder, tmp_path):
    own = tmp_path / "elsewhere" / "crowdsec.yaml"
    handed = {"CREDENTIALS_DIRECTORY": str(folder)}
    assert read_configuration(str(own), handed)[1] == Identity("abc")
    (folder / "crowdsec.yaml").write_text("api_kye: abc\n")
    assert refusals(own, handed) == ["F/crowdsec.yaml:1:1: error: unknown key 'api_kye', did you mean 'api_key'?"]


def test_files_that_are_named_must_be_there(folder):
    path = folder / "crowdsec.yaml"
    path.write_text(f"cert_path: {folder}/cert\nkey_path: {folder}/key\nca_cert_path: {folder}\n")
    (folder / "key").write_text("")
    assert refusals(path) == [
        "F/crowdsec.yaml:1:12: error: cert_path, F/cert: there is no such file",
        "F/crowdsec.yaml:3:15: error: ca_cert_path, F: cannot be read: Is a directory",
    ]
    assert refusals(folder / "none.yaml") == ["F/none.yaml: error: there is no such file"]


def test_who_reports_is_what_cscli_has_written(folder):
    path = folder / "crowdsec.yaml"
    path.write_text(f"api_key: abc\nreport: [xdropctl]\ncredentials_path: {folder}/machine.yaml\n")
    assert refusals(path) == ["F/crowdsec.yaml:3:19: error: credentials_path, F/machine.yaml: there is no such file"]
    (folder / "machine.yaml").write_text("url: http://127.0.0.1:8080\nlogin: host1\n")
    assert refusals(path) == ["F/machine.yaml:1:1: error: there is no 'password:' here, have the file written by 'cscli machines add'"]  # fmt: skip
    (folder / "machine.yaml").write_text("url: http://127.0.0.1:8080\nlogin: host1\npassword: 0123\nca_cert_path: x\n")
    assert read_configuration(str(path), {})[2] == Machine("http://127.0.0.1:8080", "host1", "0123")


def test_a_name_alone_is_a_credential_or_a_file_beside_the_configuration(folder, tmp_path_factory):
    path = folder / "crowdsec.yaml"
    path.write_text("api_key: abc\nreport: [xdropctl]\ncredentials_path: machine.yaml\n")
    (folder / "machine.yaml").write_text("login: host1\npassword: 0123\n")
    assert read_configuration(str(path), {})[2] == Machine("", "host1", "0123")
    other = tmp_path_factory.mktemp("credentials")
    handed = {"CREDENTIALS_DIRECTORY": str(other)}
    assert [line.replace(str(other), "C") for line in refusals(path, handed)] == ["F/crowdsec.yaml:3:19: error: credentials_path, C/machine.yaml: there is no such file"]  # fmt: skip
    (other / "machine.yaml").write_text("login: host2\npassword: 0123\n")
    assert read_configuration(str(path), handed)[2] == Machine("", "host2", "0123")


def test_each_key_of_the_configuration_can_be_written():
    assert set(crowdsec._READERS) == {field.name for field in dataclasses.fields(Configuration)} - {"places"}
