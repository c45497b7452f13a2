"""The Merkle tree over the ledger, as RFC 6962 and RFC 9162 have it: pure arithmetic on hashes.

Leaf n (from 0) is the event at position n + 1, and its data are the event's 32-byte chain hash. So whoever
has one event, the hash before it, and a path can check it without seeing any other event.

The tree's inner hashes are kept in tiles of 256 (C2SP `tlog-tiles`): tile N of level L holds the hashes of
the full subtrees of 256**L leaves, from number 256 * N on. Sizes and positions count events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

#: How many hashes a full tile holds, and the height that it spans.
WIDTH = 256
_HEIGHT = 8
HASH_BYTES = 32


class Node(NamedTuple):
    """A full subtree: the `number`-th of 2**height leaves."""

    height: int
    number: int


class Tile(NamedTuple):
    """Which tile, and how many of its hashes there are (`WIDTH`: all)."""

    level: int
    number: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Its name below the log's folder: `tile/0/x001/234`, or `tile/0/x001/234.p/17` of a part."""
        digits = str(self.number)
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
        number = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        part = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{self.level}/{number}{part}"


def leaf(data: bytes) -> bytes:
    """The hash of a leaf, by its data: an event's chain hash."""
    return hashlib.sha256(b"\0" + data).digest()


def joined(left: bytes, right: bytes) -> bytes:
    """The hash of a node over two others."""
    return hashlib.sha256(b"\1" + left + right).digest()


def peaks(first: int, last: int) -> list[Node]:
    """The full subtrees that leaves `first` to before `last` consist of, from the left.

    `first` is a multiple of the largest of them.
    """
    found = []
    while first < last:
        height = (last - first).bit_length() - 1
        if first:
            height = min(height, (first & -first).bit_length() - 1)
        found.append(Node(height, first >> height))
        first += 1 << height
    return found


def folded(hashes: Sequence[bytes]) -> bytes:
    """The hash over full subtrees of falling size, from the left. Of none: that of the empty tree."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    found = hashes[-1]
    for each in reversed(hashes[:-1]):
        found = joined(each, found)
    return found


def path_nodes(index: int, size: int) -> list[list[Node]]:
    """What the audit path of a leaf in a tree of `size` is made of: for each step the full subtrees of its
    sibling, from the leaf up. Raises `ValueError` when there is no such leaf."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} has no leaf {index}")
    first, last, steps = 0, size, []
    while last - first > 1:
        middle = first + (1 << ((last - first - 1).bit_length() - 1))
        if index < middle:
            steps.append(peaks(middle, last))
            last = middle
        else:
            steps.append(peaks(first, middle))
            first = middle
    return steps[::-1]


def root_by_path(index: int, size: int, leaf_hash: bytes, path: Sequence[bytes]) -> bytes | None:
    """The root that a leaf and its audit path lead to (RFC 9162, 2.1.3.2), or None for a wrong length."""
    if not 0 <= index < size:
        return None
    at, last, found = index, size - 1, leaf_hash
    for sibling in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = joined(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = joined(found, sibling)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None


def tile_of(node: Node, size: int) -> Tile:
    """The tile that holds what a node is made of, as wide as a tree of `size` has it."""
    level = node.height // _HEIGHT
    number = (node.number << (node.height % _HEIGHT)) // WIDTH
    return Tile(level, number, min(WIDTH, (size >> (_HEIGHT * level)) - number * WIDTH))


def inner(tile: bytes) -> list[list[bytes]]:
    """The hashes of all full subtrees in a tile, by height; the first row is the tile itself."""
    rows = [[tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]]
    while len(rows[-1]) > 1:
        below = rows[-1]
        rows.append([joined(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)])
    return rows


def node_hash(node: Node, rows: list[list[bytes]]) -> bytes:
    """The hash of a node, from the `inner` hashes of its tile."""
    height = node.height % _HEIGHT
    return rows[height][node.number % (WIDTH >> height)]


def edge(size: int) -> list[Tile]:
    """The tiles that are not full in a tree of `size`: one a level at most, those without a hash left out."""
    found = []
    for level in range(-(-size.bit_length() // _HEIGHT)):
        entries = size >> (_HEIGHT * level)
        if entries % WIDTH:
            found.append(Tile(level, entries // WIDTH, entries % WIDTH))
    return found


class Growing:
    """A tree that grows by leaves. It holds its edge alone: at most 255 hashes a level."""

    def __init__(self, size: int = 0, tiles: Mapping[Tile, bytes] | None = None) -> None:
        """As it was at a size, by the tiles of `edge(size)`."""
        self.size = size
        self._levels: list[list[bytes]] = [[] for _ in range(-(-size.bit_length() // _HEIGHT))]
        for tile, data in (tiles or {}).items():
            self._levels[tile.level] = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]
        rows = [inner(b"".join(level)) for level in self._levels]
        #: The full subtrees that it consists of, from the left: what the root is made of.
        self._peaks = [node_hash(node, rows[node.height // _HEIGHT]) for node in peaks(0, size)]

    def append(self, leaf_hash: bytes) -> list[tuple[Tile, bytes]]:
        """Take one more leaf; the tiles that it fills."""
        filled: list[tuple[Tile, bytes]] = []
        peak, number = leaf_hash, self.size
        while number & 1:
            peak, number = joined(self._peaks.pop(), peak), number >> 1
        self._peaks.append(peak)
        self.size += 1
        level, entry = 0, leaf_hash
        while True:
            if level == len(self._levels):
                self._levels.append([])
            row = self._levels[level]
            row.append(entry)
            if len(row) < WIDTH:
                return filled
            number = (self.size >> (_HEIGHT * (level + 1))) - 1
            data = b"".join(row)
            filled.append((Tile(level, number), data))
            entry = inner(data)[_HEIGHT][0]
            row.clear()
            level += 1

    def root(self) -> bytes:
        """The root over all leaves that it has taken."""
        return folded(self._peaks)

    def tiles(self) -> list[tuple[Tile, bytes]]:
        """The tiles of its edge, as `edge(size)` names them."""
        return [(tile, b"".join(self._levels[tile.level])) for tile in edge(self.size)]
