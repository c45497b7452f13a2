"""What waits on a channel, to go or to be taken: its size is that of the bytes, however small they came."""

from __future__ import annotations

from collections import deque

#: Neighbours are joined up to here: as much as a packet carries.
PIECE_BYTES = 32 * 1024

#: What Python keeps for a piece beside its bytes: output that changes between two streams cannot be joined.
PIECE_COST_BYTES = 160

#: What asyncssh's queues hold: bytes, and their datatype (None for plain input and output).
Piece = tuple[bytearray, int | None]


class Pieces:
    """First in, first out, in the place of asyncssh's lists.

    Those take a hundred bytes for each that came alone, and the longer they are, the longer for each that is
    taken off their front. Here neighbours of one datatype have more than `PIECE_BYTES` together, or are one.
    """

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._behind_bytes = 0  # all but the first, off whose front others take without a word

    @property
    def size_bytes(self) -> int:
        """What it takes of memory."""
        first = len(self._pieces[0][0]) if self._pieces else 0
        return first + self._behind_bytes + len(self._pieces) * PIECE_COST_BYTES

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, _first: int) -> Piece:
        """The first one. Whoever takes something off its front takes it out of the queue."""
        return self._pieces[0]

    def __delitem__(self, _first: int) -> None:
        self._take()

    def append(self, piece: tuple[bytes | bytearray, int | None]) -> None:
        data, datatype = piece
        if self._pieces:
            last, of_last = self._pieces[-1]
            if datatype == of_last and len(last) + len(data) <= PIECE_BYTES:
                last += data
                self._behind_bytes += len(data) if len(self._pieces) > 1 else 0
                return
            self._behind_bytes += len(data)
        self._pieces.append((bytearray(data), datatype))

    def pop(self, _first: int = 0) -> tuple[bytes, int | None]:
        data, datatype = self._take()
        return bytes(data), datatype

    def _take(self) -> Piece:
        taken = self._pieces.popleft()
        if self._pieces:
            self._behind_bytes -= len(self._pieces[0][0])
        return taken
