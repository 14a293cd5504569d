"""Addresses, networks and ranges, checked against Python's own ipaddress module."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdropd.text.addresses import (
    HostBits,
    Span,
    pack,
    parse_address,
    parse_as_written,
    parse_leniently,
    parse_span,
)

versions = st.sampled_from([4, 6])


@st.composite
def spans(draw):
    version = draw(versions)
    most = 2 ** (32 if version == 4 else 128) - 1
    # Small differences and round numbers are where prefixes begin and end.
    shift = draw(st.integers(0, 128 if version == 6 else 32))
    first = draw(st.integers(0, most)) >> shift << shift
    length = draw(
        st.one_of(st.integers(0, 300), st.integers(0, most), st.integers(0, 128).map(lambda bits: 2**bits - 1))
    )
    return Span(version, first, min(first + length, most))


@given(versions, st.data())
def test_addresses_are_what_ipaddress_says(version, data):
    address = data.draw(st.ip_addresses(v=version))
    meant = getattr(address, "ipv4_mapped", None) or address
    span = parse_span(str(address))
    assert span == (meant.version, int(meant), int(meant))
    assert span.is_address
    assert str(span) == str(meant) or meant.version == 6  # inet_ntop writes some addresses with dots
    assert int(ipaddress.ip_address(str(span))) == int(meant)
    assert pack(version, int(address)) == address.packed


@given(st.ip_addresses(v=6))
def test_ipv6_may_be_written_out(address):
    assert parse_as_written(address.exploded).first == int(address)
    assert parse_as_written(address.exploded.upper()).first == int(address)


@given(spans())
def test_the_canonical_form_reads_back(span):
    assert parse_as_written(str(span)) == span
    assert parse_span(str(parse_span(str(span)))) == parse_span(str(span))


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.integers(1, 32))
def test_mapped_addresses_networks_and_ranges_are_those_of_ipv4(one, other, length):
    first, last = sorted((one, other))
    network = ipaddress.ip_network((first, length), strict=False)
    for plain, mapped in (
        (f"{first}", f"::ffff:{first}"),
        (f"{first}", f"0:0:0:0:0:FFFF:{int(first) >> 16:x}:{int(first) & 0xFFFF:x}"),
        (f"{first}-{last}", f"::ffff:{first}-::ffff:{last}"),
        (f"{network}", f"::ffff:{network.network_address}/{96 + length}"),
    ):
        span = parse_span(plain)
        if span.size < 1 << 32:
            assert parse_span(mapped) == span
            assert parse_leniently(mapped) == (span, f"'{mapped}' is IPv4-mapped, it is taken as {span}")


@pytest.mark.parametrize("text", ["::/0", "::/80", "::/95", "::ffff:0:0/96", "::fffe:0:0/95", "::1-::ffff:1.2.3.4"])
def test_what_is_wider_than_mapped_addresses_is_what_it_says(text):
    span = parse_span(text)
    assert span.version == 6
    assert parse_leniently(text) == (span, "")
    assert parse_span(str(span)) == span


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("::ffff:192.0.2.1/120", "192.0.2.0/24"),
        ("192.0.2.1/0", "0.0.0.0/0"),
    ],
)
def test_host_bits_are_an_error_or_a_remark(text, network):
    with pytest.raises(HostBits, match="has bits set behind its prefix, write "):
        parse_span(text)
    remark = f"'{text}' has bits set behind its prefix, it is taken as {network}"
    assert parse_leniently(text) == (parse_span(network), remark)


@pytest.mark.parametrize("text", ["10.0.0.1/33", "10.0", "example.com", "::ffff:1.2.3.4-1.2.3.5", "::ffff:1.2.3.400"])
def test_lenience_is_for_nothing_else(text):
    with pytest.raises(ValueError, match="'"):
        parse_leniently(text)


@given(spans())
def test_the_canonical_form_is_a_prefix_where_there_is_one(span):
    kind = ipaddress.IPv4Address if span.version == 4 else ipaddress.IPv6Address
    cover = list(ipaddress.summarize_address_range(kind(span.first), kind(span.last)))
    text = str(span)
    assert ("/" in text) == (len(cover) == 1 and not span.is_address)
    assert ("-" in text) == (len(cover) > 1)


@given(st.one_of(st.text(), st.text("0123456789abcdefx.:/-[]%*# \n"), st.text("0123456789./-"), st.text("0:f/-%")))
def test_whatever_ipaddress_takes_or_refuses_so_do_we(text):
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        network = None
    # ipaddress also takes netmasks, zone identifiers and padded prefix lengths.
    _, _, length = text.partition("/")
    if "%" in text or "." in length or (length.startswith("0") and length != "0"):
        network = None
    if network is None and "-" not in text:
        with pytest.raises(ValueError, match="."):
            parse_span(text)
        return
    try:
        span = parse_span(text)
    except ValueError:
        assert network is None
        return
    if "-" in text:
        first, last = map(ipaddress.ip_address, text.split("-"))
        assert span == (first.version, int(first), int(last))
    else:
        assert span == (network.version, int(network.network_address), int(network.broadcast_address))


def test_the_size_of_everything():
    assert parse_span("0.0.0.0/0").size == 2**32
    assert parse_span("::/0").size == 2**128
    assert str(parse_span("0.0.0.0-255.255.255.255")) == "0.0.0.0/0"


@pytest.mark.parametrize("text", ["1.2.3.4\0", "\ud800", "1.2.3.4 ", "1.2.3", "", "01.2.3.4", "::1%lo", "a" * 100_000])
def test_no_address(text):
    assert parse_address(text) is None


FORMS = "write an address, a network such as 203.0.113.0/24 or a range such as 198.51.100.7-198.51.100.29"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "10.0.0.1/8",
            "'10.0.0.1/8' has bits set behind its prefix, write 10.0.0.0/8 for the network or 10.0.0.1 for the address",
        ),
        ("::1/64", "'::1/64' has bits set behind its prefix, write ::/64 for the network or ::1 for the address"),
        (
            "10.0.0.0/33",
            "'10.0.0.0/33' has a prefix length over 32, an IPv4 network has 0 to 32 and a single address has none",
        ),
        ("::/129", "'::/129' has a prefix length over 128, an IPv6 network has 0 to 128 and a single address has none"),
        ("10.0.0.0/255.0.0.0", "'10.0.0.0/255.0.0.0' has a netmask, write the length of the prefix: 10.0.0.0/8"),
        ("10.0.0.0/0.0.0.255", "'10.0.0.0/0.0.0.255' has a netmask, write the length of the prefix: 10.0.0.0/24"),
        ("10.0.0.0/", "'10.0.0.0/' ends in a slash, write a prefix length after it, or 10.0.0.0 for the address alone"),
        ("10.0.0.0/08", "'10.0.0.0/08' has a zero before its prefix length, write 10.0.0.0/8"),
        ("10.0.0.0/x", "'10.0.0.0/x' has no number after its slash, write a prefix length of 0 to 32"),
        ("010.1.2.3", "'010.1.2.3' has numbers that start with a zero, which others read as octal, write 10.1.2.3"),
        (
            "1.2.3.04-1.2.3.09",
            "'1.2.3.04-1.2.3.09' has numbers that start with a zero, which others read as octal, write 1.2.3.4-1.2.3.9",
        ),
        ("10.0.0", "'10.0.0' has 3 of the 4 numbers of an IPv4 address, write all four, or a network: 10.0.0.0/24"),
        ("10.0", "'10.0' has 2 of the 4 numbers of an IPv4 address, write all four, or a network: 10.0.0.0/16"),
        ("10/8", "'10/8' has 1 of the 4 numbers of an IPv4 address, write all four, or a network: 10.0.0.0/8"),
        ("3232235521", "'3232235521' has 1 of the 4 numbers of an IPv4 address, write all four"),
        ("1.2.3.4.5", "'1.2.3.4.5' has 5 numbers instead of the 4 of an IPv4 address, write all four"),
        ("1.2.3.400", "'1.2.3.400' has '400' in it, the numbers of an IPv4 address go up to 255"),
        ("1.2.3.4-1.2.3.1", "'1.2.3.4-1.2.3.1' runs backwards, write 1.2.3.1-1.2.3.4"),
        ("1.2.3.4-9", "'1.2.3.4-9' has half an address after the dash, write 1.2.3.4-1.2.3.9"),
        ("1.2.3.4-::1", "'1.2.3.4-::1' mixes IPv4 and IPv6, write a range for each"),
        (
            "1.2.3.4 - 1.2.3.9",
            "'1.2.3.4 - 1.2.3.9' has spaces in it, write 1.2.3.4-1.2.3.9 for a range, "
            "or each entry on a line of its own, indented alike",
        ),
        ("1.2.3.4\u20131.2.3.9", "'1.2.3.4\u20131.2.3.9' has a typographic dash, write 1.2.3.4-1.2.3.9"),
        ("\u200b1.2.3.4", "'\\u200b1.2.3.4' has an invisible character in it, write 1.2.3.4"),
        ("“1.2.3.4”", "'“1.2.3.4”' has quotes in it that are none for YAML, write 1.2.3.4"),
        ("1.2.3.4\n", "'1.2.3.4\\n' has white space around it, write 1.2.3.4"),
        ("-1.2.3.4", "'-1.2.3.4' starts with a dash, write a space between the dash and the entry: '- 1.2.3.4'"),
        (
            "1.2.3.4#note",
            "'1.2.3.4#note' has a comment in it, leave a space before the # and take it out of the quotes",
        ),
        ("1.2.3.4, 5.6.7.8", "'1.2.3.4, 5.6.7.8' holds 2 entries, write each on a line of its own after '- '"),
        (
            "1.2.3.0/24 - 1.2.4.0/24",
            "'1.2.3.0/24 - 1.2.4.0/24' holds 2 entries, write each on a line of its own after '- '",
        ),
        ("1.2.3.4,", "'1.2.3.4,' has a character too many, write 1.2.3.4"),
        ("1.2.3.0/24/", "'1.2.3.0/24/' has a character too many, write 1.2.3.0/24"),
        (
            "1.2.3.4 ssh",
            "'1.2.3.4 ssh' has more than an entry in it, write 1.2.3.4 and put the rest into a '# comment' or a reason",
        ),
        ("1.2.3.4:22", "'1.2.3.4:22' has a port, write 1.2.3.4, for every port is blocked"),
        ("[2001:db8::1]:22", "'[2001:db8::1]:22' has brackets and a port, write 2001:db8::1"),
        ("fe80::1%eth0", "'fe80::1%eth0' names an interface, write fe80::1"),
        ("10.0.*.*", "'10.0.*.*' has a wildcard, write 10.0.0.0/16"),
        ("http://192.0.2.1/x", "'http://192.0.2.1/x' is a URL, write the address alone: 192.0.2.1"),
        ("https://example.com/", "'https://example.com/' is a URL, write the addresses that it stands for"),
        ("example.com", "'example.com' looks like a host name, write its addresses, for names are not looked up"),
        ("00:11:22:33:44:55", "'00:11:22:33:44:55' is a hardware address, write IP addresses"),
        ("2001:db8::1::2", "'2001:db8::1::2' has '::' more than once, write the zeros out in one of the places"),
        ("2001:db8", "'2001:db8' has 2 of the 8 parts of an IPv6 address, write all, or '::' for a run of zeros"),
        ("2001:db8:12345::", "'2001:db8:12345::' has more than four digits between colons ('12345'), check them"),
        ("::1.2.3.400", "'::1.2.3.400' is not an IPv6 address, write it as in 2001:db8::7"),
        ("address:1.2.3.4", "'address:1.2.3.4' has no space after its colon, write 'address: 1.2.3.4'"),
        ("0x7f000001", f"'0x7f000001' is not an entry, {FORMS}"),
        ("1.2.3.4-1.2.3.5-1.2.3.6", f"'1.2.3.4-1.2.3.5-1.2.3.6' is not an entry, {FORMS}"),
        ("", f"there is nothing here, {FORMS}"),
        ("?" * 100, f"'{'?' * 59}…' is not an entry, {FORMS}"),
    ],
)
def test_what_people_type(text, sentence):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole sentence is compared
        parse_span(text)
    assert str(caught.value) == sentence
