"""What waits on an SSH channel keeps its order and its kind, and takes no more room for coming in bits."""

from __future__ import annotations

import tracemalloc
from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.ssh.pieces import PIECE_BYTES, PIECE_COST_BYTES, Pieces

SIZES = st.one_of(st.just(1), st.integers(1, 3 * PIECE_BYTES // 2))


@given(st.lists(st.tuples(SIZES, st.sampled_from((None, None, 1))), max_size=60))
def test_pieces(sizes: list[tuple[int, int | None]]) -> None:
    pieces = Pieces()
    said = [(bytes([number]) * size, kind) for number, (size, kind) in enumerate(sizes)]
    for piece in said:
        pieces.append(piece)
    count = len(pieces)
    taken = [pieces.pop() for _ in range(count)]
    assert not pieces
    assert _runs(taken) == _runs(said)
    for (one, kind), (other, next_kind) in pairwise(taken):
        assert kind != next_kind or len(one) + len(other) > PIECE_BYTES


def test_what_is_taken_off_the_front_is_gone() -> None:
    pieces = Pieces()
    for text in (b"ab", b"cd"):
        pieces.append((text, None))
    data, _ = pieces[0]
    del data[:3]
    pieces.append((b"e", None))
    assert pieces.pop() == (b"de", None)
    pieces.append((b"f", None))
    del pieces[0]
    assert len(pieces) == 0


@given(st.lists(st.one_of(st.tuples(SIZES, st.sampled_from((None, 1))), st.integers(0, 40_000)), max_size=60))
def test_its_size_is_that_of_what_is_in_it(steps: list[tuple[int, int | None] | int]) -> None:
    """However it is taken: whole pieces in either way, or bytes off the first one's front."""
    pieces = Pieces()
    for step in steps:
        if isinstance(step, tuple):
            pieces.append((bytes(step[0]), step[1]))
        elif pieces and step < len(pieces[0][0]):
            del pieces[0][0][:step]
        elif pieces and step % 2:
            del pieces[0]
        elif pieces:
            pieces.pop()
        inside = sum(len(data) + PIECE_COST_BYTES for data, _ in pieces._pieces)
        assert pieces.size_bytes == inside


def test_pieces_that_cannot_be_joined_are_no_larger_than_they_say() -> None:
    pieces = Pieces()
    tracemalloc.start()
    try:
        for number in range(10_000):
            pieces.append((b"x", number % 2))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(pieces) == 10_000
    assert taken <= pieces.size_bytes <= 1.5 * taken


def _runs(pieces: list[tuple[bytes, int | None]]) -> list[tuple[int | None, bytes]]:
    groups = groupby(pieces, key=lambda piece: piece[1])
    return [(kind, b"".join(data for data, _ in each)) for kind, each in groups]
