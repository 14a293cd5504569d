"""Files with a few things wrong: what blocklists, settings and list files become when somebody slips, or means harm."""

# ruff: noqa: E501 - tokens by the dozen

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]

BLOCKLISTS = [
    (REPOSITORY / "etc" / "blocklist.yaml").read_bytes(),
    b"block:\n  - 192.0.2.1\n  - 203.0.113.0/24\n  - 198.51.100.7-198.51.100.29\n  - 2001:db8::\n  - address: 192.0.2.7\n"
    b"    reason: ssh brute force\n    until: 2026-12-01T00:00:00Z\nallow:\n  - 192.0.2.128/25\ninclude:\n"
    b"  - lists.d/*.netset\n  - path: lists.d/drop.txt\n    reason: Spamhaus DROP\n",
    b"block: [192.0.2.1, '::1', {address: \"2001:db8::\", reason: 'a: b'}]\nallow: []\n",
    b"block:\n" + b"".join(b"  - 192.0.2.%d\n" % number for number in range(30)) + b"allow:\n- 192.0.2.9\n",
    b"# first\r\nblock:\r\n- address: 192.0.2.1\r\n  reason: |\r\n    two\r\n    lines\r\n- 192.0.2.2 # x\r\n",
    '---\nblock:\n  - "192.0.2.1"\n  - {address: 192.0.2.2, reason: Ärger—“so”}\n...\n'.encode(),
    b"",
]
SETTINGS = [
    (REPOSITORY / "etc" / "xdropd.yaml").read_bytes(),
    b'interfaces: [eth0, "wan*"]\nxdp_mode: native\naction: monitor\nguard: false\nreplies: pass\nmalformed: pass\nlog_drops: 5/m\n',
    b"interfaces:\n  - eth0\n  - 'e?h[0-9]'\nlog_drops: 0\n",
]
LISTS = [
    b"# FireHOL\n10.0.0.0/8\n192.0.2.1\n2001:db8::/32\n",
    b"# IP\tnumber\n192.0.2.1\t10\n192.0.2.2\t9\n",
    b"".join(b"192.0.2.%d\n" % number for number in range(60)),
    b"; Spamhaus\n1.10.16.0/20 ; SBL256894\n",
    b'{"cidr":"1.10.16.0/20","sblid":"SBL1"}\n{"type":"metadata","records":2}\n',
    b"Start\tEnd\tNetmask\n192.0.2.0\t192.0.2.255\t24\t7\tNAME\n",
    b"Some, name:192.0.2.0-192.0.2.255\nother:198.51.100.7-198.51.100.29\n",
    b"001.002.003.004 - 001.002.003.255 , 000 , name\n010.000.000.000 - 010.255.255.255 , 128 , b\n",
    b"127.0.0.1 localhost\n0.0.0.0 ads.example.com\n",
    b"\xef\xbb\xbf192.0.2.1\r\n192.0.2.2-192.0.2.9\r\n",
]
TOKENS = [
    b"- ", b":", b": ", b"\n", b"\r", b"\t", b" ", b"  ", b"#", b" #", b"'", b'"', b"[", b"]", b"{", b"}", b",", b"&a ", b"*a", b"!", b"!!str ", b"|", b">", b"%", b"@", b"`", b"?", b"? ",
    b"---\n", b"...\n", b"<<: ", b"\\", b"\0", b"\x7f", b"\xff", b"\xfe\xff", b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"::", b"/", b"-", b".", b"0", b"9", b"/33",
    b"block:", b"block: []\n", b"allow:\n", b"address: ", b"until: ", b"reason: ", b"null", b"~", b"999999999999999999999", b"[" * 50, b"- " * 50, b"{a: " * 50, b"localhost",
]  # fmt: skip


def mutated(order, bases):
    """One of the texts, with one to five things done to it."""
    data = bytearray(order.choice(bases))
    for _ in range(order.choice([1, 1, 2, 3, 5])):
        at = order.randrange(len(data) + 1)
        to = min(len(data), at + order.choice([1, 1, 2, 5, 20, 200]))
        match order.randrange(8):
            case 0 | 1:
                data[at:at] = order.choice(TOKENS)
            case 2:
                data[at:to] = order.choice(TOKENS)
            case 3:
                del data[at:to]
            case 4:
                data[at:at] = data[at:to] * order.choice([1, 2, 8])
            case 5:
                del data[at:]
            case 6:
                data[at:to] = order.randbytes(to - at)
            case 7:
                data[at:at] = order.choice(bases)
    return bytes(data)
