"""Files as trees of records (docs/protocol.md, section 11).

A reader believes no index node before its level, its total and its number of children are those of its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from .records import Content, Immutable, Network

MAX_CHUNK = 61440
MAX_LEVEL = 4
INDEX_VERSION = 1
INDEX_HEADER = 10
KEY_BYTES = 32

Fetch = Callable[[bytes], Awaitable[Immutable | None]]


class BadFile(Exception):
    """A part of the file is not there, or is not what belongs in its place."""


class Shape:
    """The sizes that all trees of a network have."""

    def __init__(self, network: Network) -> None:
        self.chunk = min(MAX_CHUNK, network.max_value)
        self.fan_out = (self.chunk - INDEX_HEADER) // KEY_BYTES

    def capacity(self, level: int) -> int:
        """The most bytes of the file in or below a node of a level; level 0 is a chunk."""
        return self.chunk * self.fan_out**level


def split(data: bytes, network: Network) -> list[Immutable]:
    """The records of a file. The last is its root: its key is the key of the file."""
    shape = Shape(network)
    cuts = range(0, max(len(data), 1), shape.chunk)
    level = [(Immutable(data[at : at + shape.chunk]), len(data[at : at + shape.chunk])) for at in cuts]
    records = [record for record, _ in level]
    height = 0
    while len(level) > 1:
        height += 1
        if height > MAX_LEVEL:
            raise ValueError("the file is too large")
        groups = [level[at : at + shape.fan_out] for at in range(0, len(level), shape.fan_out)]
        level = [(_index(height, group), sum(total for _, total in group)) for group in groups]
        records += [record for record, _ in level]
    return records


def _index(height: int, children: list[tuple[Immutable, int]]) -> Immutable:
    total = sum(total for _, total in children)
    header = bytes([INDEX_VERSION, height]) + total.to_bytes(8, "big")
    return Immutable(header + b"".join(record.key for record, _ in children), Content.FILE_INDEX)


async def read(key: bytes, fetch: Fetch, network: Network) -> bytes:
    """The bytes of a file. `fetch` returns the verified record of a key."""
    shape = Shape(network)
    root = await _fetched(key, fetch)
    if root.content == Content.PLAIN:
        return root.value
    level, total, keys = _opened(root, shape)
    if total <= shape.capacity(level - 1):
        raise BadFile("a root with a single child")
    return await _below(level, total, keys, fetch, shape)


async def _below(level: int, total: int, keys: list[bytes], fetch: Fetch, shape: Shape) -> bytes:
    data = b""
    for key in keys:
        expected = min(shape.capacity(level - 1), total - len(data))
        child = await _fetched(key, fetch)
        if level == 1:
            if child.content != Content.PLAIN or len(child.value) != expected:
                raise BadFile("not the chunk of this place")
            data += child.value
            continue
        child_level, child_total, child_keys = _opened(child, shape)
        if (child_level, child_total) != (level - 1, expected):
            raise BadFile("not the index node of this place")
        data += await _below(child_level, child_total, child_keys, fetch, shape)
    return data


async def _fetched(key: bytes, fetch: Fetch) -> Immutable:
    record = await fetch(key)
    if record is None:
        raise BadFile(f"{key.hex()} is not there")
    return record


def _opened(record: Immutable, shape: Shape) -> tuple[int, int, list[bytes]]:
    """Level, total and keys of an index node that agrees with itself."""
    value = record.value
    if record.content != Content.FILE_INDEX or len(value) < INDEX_HEADER or value[0] != INDEX_VERSION:
        raise BadFile("not an index node")
    level, total, keys = value[1], int.from_bytes(value[2:INDEX_HEADER], "big"), value[INDEX_HEADER:]
    if not 1 <= level <= MAX_LEVEL or not 1 <= total <= shape.capacity(level):
        raise BadFile("no index node has this level and total")
    count = -(-total // shape.capacity(level - 1))
    if len(keys) != count * KEY_BYTES:
        raise BadFile("not as many children as the total needs")
    return level, total, [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]
