"""Large events that clients have still to take, weighed with what all clients have in hand (`held.Room`).

Each counts once, however many streams wait for it: they share its bytes, and a thousand clients that take one
event at their own speed hold one event. Who waits is known of each, so that a cut frees what it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from service.api.events.pieces import Piece
from service.held import Room

#: A smaller event is not weighed: to weigh thousands of them is dearer than they are.
LARGE_BYTES = 64 * 1024
#: Of a large one there may be its body, its text and the frame.
FORMS = 3


class Waiting:
    """What one stream has of them. `cut` ends the stream at once."""

    __slots__ = ("_cut", "_events", "_project", "_room", "was_cut")

    def __init__(self, room: Room, project: str, cut: Callable[[], None]) -> None:
        self._room = room
        self._project = project
        self._cut = cut
        self._events: dict[Piece, _Event] = {}
        self.was_cut = False

    def __bool__(self) -> bool:
        return bool(self._events)

    def holds(self, pieces: Collection[Piece]) -> None:
        """These have still to be taken, and no others."""
        for piece in [each for each in self._events if each not in pieces]:
            self._events.pop(piece).discard(self)
        for piece in pieces:
            if piece not in self._events:
                self._events[piece] = _Event.of(piece, self._room, self._project)
                self._events[piece].add(self)

    def leave(self) -> None:
        """The stream has ended, and holds nothing."""
        self.holds(())

    def cut(self) -> None:
        self.was_cut = True
        self._cut()


class _Event:
    """One event in the room, while anybody waits for it. For who comes after it was cut it is another."""

    def __init__(self, piece: Piece, room: Room, project: str) -> None:
        self._piece = piece
        self._waiting: set[Waiting] = set()
        self._holding = room.enter(project, self._cut)

    @staticmethod
    def of(piece: Piece, room: Room, project: str) -> _Event:
        if not isinstance(piece.weighed, _Event):
            piece.weighed = _Event(piece, room, project)
        return piece.weighed

    def add(self, waiting: Waiting) -> None:
        self._waiting.add(waiting)
        if len(self._waiting) == 1:
            self._holding.take(FORMS * len(self._piece.json))

    def discard(self, waiting: Waiting) -> None:
        self._waiting.discard(waiting)
        if not self._waiting:
            self._holding.leave()
            self._forget()

    def _cut(self) -> None:
        self._forget()
        for each in list(self._waiting):
            each.cut()

    def _forget(self) -> None:
        if self._piece.weighed is self:
            self._piece.weighed = None
