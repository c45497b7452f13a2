"""The tree against RFC 6962's own words, and against the vectors of its reference implementations."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.merkle import (
    WIDTH,
    Growing,
    Node,
    Tile,
    edge,
    folded,
    inner,
    leaf,
    node_hash,
    path_nodes,
    root_by_path,
    tile_of,
)

#: The leaves that the tests of Certificate Transparency use, and the roots over the first n of them.
LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243")]
LEAVES += [bytes.fromhex("5051525354555657"), bytes.fromhex("606162636465666768696a6b6c6d6e6f")]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def of_rfc(data: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word by word."""
    if not data:
        return hashlib.sha256(b"").digest()
    if len(data) == 1:
        return hashlib.sha256(b"\0" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return hashlib.sha256(b"\1" + of_rfc(data[:k]) + of_rfc(data[k:])).digest()


Rows = dict[Tile, list[list[bytes]]]


def grown(data: list[bytes]) -> tuple[Growing, dict[Tile, bytes]]:
    tree, tiles = Growing(), dict[Tile, bytes]()
    for each in data:
        tiles.update(tree.append(leaf(each)))
    tiles.update(tree.tiles())
    return tree, tiles


def worked_out(tiles: dict[Tile, bytes]) -> Rows:
    return {tile: inner(data) for tile, data in tiles.items()}


def path_of(index: int, size: int, rows: Rows) -> list[bytes]:
    return [
        folded([node_hash(node, rows[tile_of(node, size)]) for node in nodes])
        for nodes in path_nodes(index, size)
    ]


@pytest.mark.parametrize("size", ROOTS)
def test_the_roots_are_those_of_the_reference(size: int) -> None:
    assert grown(LEAVES[:size])[0].root().hex() == ROOTS[size]
    assert of_rfc(LEAVES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 255, 256, 257, 300, 511, 512, 513, 700])
def test_every_leaf_of_a_tree_has_a_path_and_no_other_goes_by_it(size: int) -> None:
    data = [index.to_bytes(4, "big") for index in range(size)]
    tree, tiles = grown(data)
    root, rows = of_rfc(data), worked_out(tiles)
    assert tree.root() == root
    for index in range(size):
        path = path_of(index, size, rows)
        assert root_by_path(index, size, leaf(data[index]), path) == root
        assert root_by_path(index, size, leaf(b"other"), path) != root
        assert root_by_path(index, size, leaf(data[index]), [*path, bytes(32)]) is None
        if path:
            assert root_by_path(index, size, leaf(data[index]), path[:-1]) != root
            assert root_by_path(index ^ 1, size, leaf(data[index]), path) != root


def test_a_tree_of_three_levels_of_tiles() -> None:
    size = WIDTH**2 + 3 * WIDTH + 5
    data = [index.to_bytes(4, "big") for index in range(size)]
    tree, tiles = grown(data)
    root, rows = of_rfc(data), worked_out(tiles)
    assert tree.root() == root
    assert edge(size) == [Tile(0, 259, 5), Tile(1, 1, 3), Tile(2, 0, 1)]
    for index in (0, 1, 255, 256, WIDTH**2 - 1, WIDTH**2, size - 6, size - 1):
        assert root_by_path(index, size, leaf(data[index]), path_of(index, size, rows)) == root


@settings(max_examples=40)
@given(first=st.integers(0, 700), more=st.integers(0, 600))
def test_a_tree_that_goes_on_from_its_edge_is_the_same(first: int, more: int) -> None:
    data = [index.to_bytes(4, "big") for index in range(first + more)]
    _, tiles = grown(data[:first])
    tree = Growing(first, {tile: tiles[tile] for tile in edge(first)})
    for each in data[first:]:
        tree.append(leaf(each))
    assert (tree.size, tree.root()) == (first + more, of_rfc(data))


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(1, 999), "tile/1/999"),
        (Tile(0, 1000), "tile/0/x001/000"),
        (Tile(0, 1234067, 8), "tile/0/x001/x234/067.p/8"),
    ],
)
def test_tiles_are_named_as_others_name_them(tile: Tile, path: str) -> None:
    assert tile.path == path


def test_a_leaf_that_is_not_there_has_no_path() -> None:
    with pytest.raises(ValueError, match="no leaf 3"):
        path_nodes(3, 3)
    assert root_by_path(3, 3, bytes(32), []) is None
    assert tile_of(Node(9, 1), 2000) == Tile(1, 0, 7)
