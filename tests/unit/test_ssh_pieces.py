"""What waits on an SSH channel keeps its order and its kind, and takes no more room for coming in bits."""

from __future__ import annotations

from itertools import groupby, pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.ssh.pieces import PIECE_BYTES, Pieces

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


def _runs(pieces: list[tuple[bytes, int | None]]) -> list[tuple[int | None, bytes]]:
    groups = groupby(pieces, key=lambda piece: piece[1])
    return [(kind, b"".join(data for data, _ in each)) for kind, each in groups]
