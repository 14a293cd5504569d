"""The search tree of a database in MaxMind's format as prefixes, read a level at a time. Pure.

https://maxmind.github.io/MaxMind-DB/, "Binary Search Tree Section": a node has two records, for a bit that is 0 and one
that is 1. A record is a further node, nothing (the number of nodes), or, above that, a place in the data. In a tree of
IPv6, IPv4 addresses stand at ::/96, and other networks that embed them (2002::/16) lead to the same node: aliases.

Whoever made the file is not trusted: each node is met once at the most, so that no tree takes longer than its bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xdropd.columns.prefixes import FAMILIES, Column

RECORD_BITS = (24, 28, 32)
GAP_BYTES = 16
"""Zeros between the tree and the data, which a record that leads to data steps over as well."""

_NETWORKS_AT_MOST = 6_000_000  # GeoIP2 City has some five million
_NODES_AT_ONCE = 1 << 20
_IPV4_AT = 96  # bits, all 0, before an IPv4 address
_NIBBLE, _BYTE, _THREE_BYTES, _LOW_NIBBLE = (np.uint32(each) for each in (4, 8, 24, 15))
_MAPPED = 0xFFFF  # the 96 bits before an IPv4-mapped address


class Broken(ValueError):
    """A tree that is none, with a sentence."""


class Tree(NamedTuple):
    """Where to find it. `nodes`: its bytes, a row for each node."""

    nodes: Column
    record_bits: int
    version: int

    @classmethod
    def of(cls, data: bytes, node_count: int, record_bits: int, version: int) -> Tree:
        """The tree at the beginning of a file. Raises Broken."""
        if record_bits not in RECORD_BITS:
            raise Broken(f"its records have {record_bits} bits, not 24, 28 or 32")
        if version not in FAMILIES:
            raise Broken(f"it is of IP version {version}")
        size = record_bits // 4
        if not 0 < node_count <= len(data) // size:
            raise Broken(f"it has no room for the {node_count} nodes that it announces")
        nodes = np.frombuffer(data, np.uint8, node_count * size).reshape(node_count, size)
        return cls(nodes, record_bits, version)

    def records(self, rows: Column) -> tuple[Column, Column]:
        """Both records of some nodes, uint32."""
        octets = self.nodes[rows].astype(np.uint32)
        half = self.record_bits // 8
        left, right = (_number(octets[:, part]) for part in (slice(half), slice(-half, None)))
        if self.record_bits == 28:  # the byte in the middle has the upper four bits of both
            upper = octets[:, 3]
            left, right = left | upper >> _NIBBLE << _THREE_BYTES, right | (upper & _LOW_NIBBLE) << _THREE_BYTES
        return left, right

    def record(self, node: int, bit: int) -> int:
        """One record of one node."""
        octets = self.nodes[node].tobytes()
        half = self.record_bits // 8
        value = int.from_bytes(octets[-half:] if bit else octets[:half], "big")
        if self.record_bits == 28:
            value |= (octets[3] & 15 if bit else octets[3] >> 4) << 24
        return value


def _number(octets: Column) -> Column:
    """Of rows of octets."""
    value = octets[:, 0]
    for at in range(1, octets.shape[1]):
        value = value << _BYTE | octets[:, at]
    return value


class Found(NamedTuple):
    """Of one family: keys of prefixes in no order, each once, and where in the data the record of each begins."""

    keys: Column
    places: Column


def prefixes(tree: Tree) -> dict[int, Found]:
    """All networks with data, by version: IPv4 as IPv4 alone. Raises Broken."""
    met = np.zeros(len(tree.nodes), bool)
    if tree.version == 4:
        return {4: _walk(tree, met, 4, 0), 6: Found(FAMILIES[6].empty_keys(), np.zeros(0, np.uint32))}
    top = _top_of_ipv4(tree)
    if top < len(tree.nodes):
        four = _walk(tree, met, 4, top)
    else:  # one network holds all of IPv4, or none does
        places = np.full(int(top > len(tree.nodes)), top, np.uint32)
        four = Found(FAMILIES[4].key(0, 0)[: len(places)], _checked(tree, places))
    return _with_mapped(four, _walk(tree, met, 6, 0))


def place_of(tree: Tree, version: int, address: int) -> int | None:
    """Where the record of one address begins, in the data; None where there is none. Raises Broken."""
    width = FAMILIES[version].width
    node = 0
    if version != tree.version:
        if version == 6:
            return None
        node = _top_of_ipv4(tree)
    for bit in range(width - 1, -1, -1):
        if node >= len(tree.nodes):
            break
        node = tree.record(node, address >> bit & 1)
    if node < len(tree.nodes):
        raise Broken(f"its tree is deeper than an IPv{version} address is long")
    return None if node == len(tree.nodes) else int(_checked(tree, np.array([node], np.uint32))[0])


def _top_of_ipv4(tree: Tree) -> int:
    """The record at ::/96, or the one that holds it."""
    node = 0
    for _ in range(_IPV4_AT):
        if node >= len(tree.nodes):
            break
        node = tree.record(node, 0)
    return node


def _walk(tree: Tree, met: Column, version: int, top: int) -> Found:
    """All below one node. What was met before, IPv4 below IPv6, is passed over."""
    family, count = FAMILIES[version], len(tree.nodes)
    before = met.copy()
    met[top] = True
    left = _NETWORKS_AT_MOST
    keys, places = [family.empty_keys()], [np.zeros(0, np.uint32)]
    # Nodes of one depth, and the address of each so far, in words of 32 bits.
    pending = [(0, np.array([top], np.uint32), np.zeros((family.width // 32, 1), np.uint32))]
    while pending:
        depth, rows, words = pending.pop()
        if len(rows) > _NODES_AT_ONCE:
            half = len(rows) // 2
            pending += ((depth, rows[part], words[:, part]) for part in (slice(half), slice(half, None)))
            continue
        if depth == family.width:
            raise Broken(f"its tree is deeper than an IPv{version} address is long")
        zeros, ones = tree.records(rows)
        records = np.concatenate((zeros, ones))
        words = np.concatenate((words, words), axis=1)
        words[depth // 32, len(zeros) :] |= np.uint32(1 << 31 - depth % 32)
        is_leaf = records > count
        if is_leaf.any():
            packed = np.ascontiguousarray(words[:, is_leaf].T, ">u4").tobytes()
            keys.append(family.keys(family.addresses(packed), depth + 1))
            places.append(_checked(tree, records[is_leaf]))
            left -= len(keys[-1])
            if left < 0:
                raise Broken(f"it has more than {_NETWORKS_AT_MOST} networks")
        is_node = records < count
        is_node[is_node] = ~before[records[is_node]]
        rows = records[is_node]
        if len(rows):
            if met[rows].any() or len(np.unique(rows)) < len(rows):
                raise Broken("its tree meets a node twice")
            met[rows] = True
            pending.append((depth + 1, rows, words[:, is_node]))
    return Found(np.concatenate(keys), np.concatenate(places))


def _checked(tree: Tree, records: Column) -> Column:
    """Places in the data of records that lead there. Raises Broken."""
    if len(records) and int(records.min()) < len(tree.nodes) + GAP_BYTES:
        raise Broken("its tree leads to the gap before the data")
    places: Column = records - np.uint32(len(tree.nodes) + GAP_BYTES)
    return places


def _with_mapped(four: Found, six: Found) -> dict[int, Found]:
    """With IPv4-mapped networks, where they have a tree of their own, among those of IPv4 as well."""
    family = FAMILIES[6]
    words = family.words(family.firsts(six.keys))
    is_mapped = (words[0] == 0) & (words[1] >> np.uint64(32) == _MAPPED) & (family.lengths(six.keys) > _IPV4_AT)
    if is_mapped.any():
        low = words[1][is_mapped] & np.uint64(0xFFFF_FFFF)
        keys = FAMILIES[4].keys(low, family.lengths(six.keys[is_mapped]) - np.uint8(_IPV4_AT))
        is_new = ~np.isin(keys, four.keys)
        four = Found(
            np.concatenate((four.keys, keys[is_new])),
            np.concatenate((four.places, six.places[is_mapped][is_new])),
        )
        six = Found(six.keys[~is_mapped], six.places[~is_mapped])
    return {4: four, 6: six}
