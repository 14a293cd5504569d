"""xdropd.yaml: its defaults, what each key accepts, and in which words the rest is refused."""

# ruff: noqa: E501 - the tables have a case a line, with the sentence as the operator sees it

from pathlib import Path

import pytest

from xdropd.errors import RefusedFile
from xdropd.text import settings
from xdropd.text.settings import Settings

REPOSITORY = Path(__file__).parents[2]


def read(text):
    return settings.read(text if isinstance(text, bytes) else text.encode(), "xdropd.yaml")


def problems(text):
    """What is wrong with the text: LINE:COLUMN: sentence."""
    with pytest.raises(RefusedFile) as caught:
        read(text)
    found = caught.value.problems
    assert found == sorted(found)
    assert all(str(problem).startswith("xdropd.yaml:") and problem.severity == "error" for problem in found)
    return [f"{problem.line}:{problem.column}: {problem.message}" for problem in found]


DEFAULTS = Settings(
    interfaces=None,
    xdp_mode="auto",
    action="drop",
    guard=frozenset({"host"}),
    replies="drop",
    malformed="drop",
    log_drops_per_minute=60,
    next_program=None,
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'interfaces: [eth0, "wan*", "eth0.5"]\nxdp_mode: native\naction: monitor\nguard: false\nmalformed: pass\nlog_drops: 90/m',
        "replies: pass",
        "log_drops: 0",
        "guard: [private]",
        "guard: [private, connected]",
        "log_drops: 120/m",
        "next: /sys/fs/bpf/balancer",
        "next: '/sys/fs/bpf/a: b'",
    ],
)
def test_what_was_read_can_be_written(text):
    found = read(text)
    assert read("".join(f"{key}: {value}\n" for key, value in found.as_written().items())) == found


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "{}\n", "\ufeff# nothing\r\n"])
def test_an_empty_file_means_the_defaults(text):
    assert read(text) == DEFAULTS == Settings()


def test_the_shipped_settings_are_the_defaults_with_every_key():
    data = (REPOSITORY / "etc" / "xdropd.yaml").read_bytes()
    assert read(data) == DEFAULTS
    keys = {line.partition(":")[0] for line in data.decode().splitlines() if line and not line.startswith("#")}
    assert keys == set(settings._KEYS)


def test_everything_can_be_said():
    text = (
        'interfaces: [eth0, "wan*"]\nxdp_mode: native\naction: monitor\nguard: false\nreplies: pass\nmalformed: pass\n'
        "log_drops: 5/m\nnext: /sys/fs/bpf/balancer\n"
    )
    assert read(text) == Settings(
        ("eth0", "wan*"), "native", "monitor", frozenset(), "pass", "pass", 5, next_program="/sys/fs/bpf/balancer"
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("auto", None),
        ("'auto'", None),
        ("[eth0]", ("eth0",)),
        ("[wan*, 'e?h[0-9]']", ("wan*", "e?h[0-9]")),
        ("\n  - eth0\n  - br-0123456789ab", ("eth0", "br-0123456789ab")),
        ("\n- eth0.5\n- 'a-glob-may-be-long-*'", ("eth0.5", "a-glob-may-be-long-*")),
    ],
)
def test_interfaces(text, names):
    assert read(f"interfaces: {text}\n").interfaces == names


@pytest.mark.parametrize(
    ("text", "guard"),
    [
        ("true", {"host"}),
        ("false", set()),
        ("[connected]", {"host", "connected"}),
        ("\n  - private\n  - connected", {"host", "connected", "private"}),
    ],
)
def test_guard(text, guard):
    assert read(f"guard: {text}\n").guard == guard


@pytest.mark.parametrize(
    ("text", "per_minute"), [("0", 0), ("0/s", 0), ("1/s", 60), ("5/m", 5), ("'10/s'", 600), ("999999/s", 59_999_940)]
)
def test_log_drops(text, per_minute):
    assert read(f"log_drops: {text}\n").log_drops_per_minute == per_minute


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("interfaces: eth0\n", ["1:13: 'eth0' is neither 'auto' nor a list, write 'interfaces: [eth0]'"]),
        ("interfaces: eth0, eth1\n", ["1:13: 'eth0, eth1' is neither 'auto' nor a list, write 'interfaces: [eth0, eth1]'"]),
        ("interfaces: Auto\n", ["1:13: 'Auto' is neither 'auto' nor a list, write 'interfaces: auto'"]),
        ("interfaces: []\n", ["1:13: there is no interface in this list, write auto or a name"]),
        ("interfaces: {eth0: }\n", ["1:13: interfaces are names, write auto or a list such as [eth0, eth1]"]),
        ("interfaces: [auto]\n", ["1:14: 'auto' stands for itself, write 'interfaces: auto' without a list"]),
        ("interfaces: ['']\n", ["1:14: there is no name here, write the name of an interface, as in 'ip link'"]),
        ("interfaces: [a/b, 'a b', 'eth0:1', ..]\n", [f"1:{column}: '{name}' cannot be the name of an interface, write one as in 'ip link'" for column, name in ((14, "a/b"), (19, "a b"), (26, "eth0:1"), (36, ".."))]),
        (f"interfaces: [{'a-name-too-long-' * 8}]\n", [f"1:14: '{'a-name-too-long-' * 3}a-name-too-…' is too long for the name of an interface, write at most 127 characters"]),
        ("interfaces: [[eth0]]\n", ["1:14: an interface is a name, write it as text"]),
        ("interfaces: *\n", ["1:13: a text cannot start with '*', put it in quotes, or write '- ' where an entry starts"]),
        ("interfaces: &a [*b]\n", ["1:13: '&a' is an anchor, which is not accepted here, write the text itself", "1:17: '*b' is an alias, which is not accepted here, write the text itself"]),
        ("interface: [eth0]\n", ["1:1: unknown key 'interface', did you mean 'interfaces'?"]),
        ("log_level: debug\n", ["1:1: unknown key 'log_level', the settings file has interfaces, xdp_mode, action, guard, replies, malformed, log_drops or next"]),
        ("xdp_mode: skb\n", ["1:11: 'skb' is no value for 'xdp_mode', did you mean 'generic'?"]),
        ("xdp_mode: offload\n", ["1:11: 'offload' is no value for 'xdp_mode', write auto, native or generic"]),
        ("action: Drop\n", ["1:9: 'Drop' is no value for 'action', did you mean 'drop'?"]),
        ("action: [drop]\n", ["1:9: 'action' has one value, write drop or monitor"]),
        ("action:\n", ["1:1: nothing follows 'action:', remove the line to have the default"]),
        ("guard: yes\n", ["1:8: 'yes' is no value for 'guard', did you mean 'true'?"]),
        ("guard: 'False'\n", ["1:8: 'False' is no value for 'guard', did you mean 'false'?"]),
        ("guard: Connected\n", ["1:8: 'Connected' stands in a list, write 'guard: [connected]'"]),
        ("guard: []\n", ["1:8: there is nothing in this list, write 'guard: true' or 'guard: false'"]),
        ("guard: [privat, true, [private], private, private]\n", ["1:9: 'privat' is nothing to guard, did you mean 'private'?", "1:17: 'true' is nothing to guard, write connected or private", "1:23: this is a word, write connected or private", "1:43: 'private' is there twice, keep one"]),
        ("guard: {private: }\n", ["1:8: 'guard' has one value, write true, false, or a list such as [connected, private]"]),
        ("next: balancer\n", ["1:7: 'balancer' is no path from the root on, write one such as /sys/fs/bpf/balancer, or none"]),
        ("next:\n", ["1:1: nothing follows 'next:', remove the line to have the default"]),
        ("next: [/sys/fs/bpf/a]\n", ["1:7: 'next' has one value, write the path of a pinned XDP program, or none"]),
        ('next: "/sys/fs/bpf/a\\0"\n', ["1:7: '/sys/fs/bpf/a\\x00' holds a control character, leave it out"]),
        (f"next: /{'a' * 4095}\n", ["1:7: this path is too long, write at most 4095 characters"]),
        ("replies: established\n", ["1:10: 'established' is no value for 'replies', did you mean 'pass'?"]),
        ("malformed: accept\n", ["1:12: 'accept' is no value for 'malformed', did you mean 'pass'?"]),
        ("log_drops: 5\n", ["1:12: '5' is no rate, write N/s or N/m with N up to 999999, or 0 for none"]),
        ("log_drops: 1/h\n", ["1:12: '1/h' is no rate, write N/s or N/m with N up to 999999, or 0 for none"]),
        ("log_drops: {}\n", ["1:12: 'log_drops' has one value, write N/s, N/m or 0"]),
        ("guard: true\nguard: false\n", ["2:1: 'guard' is here a second time (first in line 1), keep one"]),
        ("action:drop\n", ["1:1: 'action:drop' has no space after its colon, write 'action: '"]),
        ("action drop\n", ["1:1: 'action drop' has no colon, write 'action: '"]),
        ("hello\n", ["1:1: 'hello' is no key with a value, write a line such as 'action: drop'"]),
        ("- action\n", ["1:1: this is a list and no setting, write a line such as 'action: drop'"]),
        ("*a\n", ["1:1: '*a' is an alias, which is not accepted here, write the text itself"]),
        ("action: drop\n\tguard: true\n", ["2:1: there is a tab here, use spaces"]),
        ("action: drop\n---\naction: drop\n", ["2:1: a second document starts here, keep everything in one and remove this line"]),
        ("action: x\nguard: y\nmalformed: z\nlog_drops: w\n", [
            "1:9: 'x' is no value for 'action', write drop or monitor",
            "2:8: 'y' is no value for 'guard', write true, false, or a list such as [connected, private]",
            "3:12: 'z' is no value for 'malformed', write drop or pass",
            "4:12: 'w' is no rate, write N/s or N/m with N up to 999999, or 0 for none",
        ]),
        (b"action: dr\xf6p\n", ["1:11: the byte 0xf6 here is not UTF-8, save the file as UTF-8"]),
        (b"action: drop\0\n", ["1:13: there is a control character (0x00) here, remove it"]),
        ("[" * 100_000, ["1:33: this is nested over 32 deep, write it without so many brackets or dashes"]),
    ],
)  # fmt: skip
def test_what_people_type(text, sentences):
    assert problems(text) == sentences
