"""What one connection has in hand, of its client's and of the far ends', and the gateway's sum of it.

It is measured anew whenever it may have grown, rather than kept by adding and taking off: asyncssh moves
what waits between its queues, and throws it away, without a word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from service.held import Holding, Room
from service.ssh.sending import Sending


class Part(Protocol):
    """One of its channels."""

    @property
    def in_hand_bytes(self) -> int: ...


class InHand:
    """Of a connection: what waits on its channels, and on the line to its client."""

    def __init__(self, sending: Sending) -> None:
        self._sending = sending
        self._parts: set[Part] = set()
        self._holding: Holding | None = None

    @property
    def bytes(self) -> int:
        return self._sending.unsent_bytes + sum(part.in_hand_bytes for part in self._parts)

    def enter(self, room: Room, owner: str, cut: Callable[[], None]) -> None:
        """From now on it is added up with what others have. `cut` ends the connection at once."""
        self._holding = room.enter(owner, cut)
        self.count()

    def leave(self) -> None:
        """The connection is lost."""
        if self._holding is not None:
            self._holding.leave()

    def add(self, part: Part) -> None:
        self._parts.add(part)

    def remove(self, part: Part) -> None:
        self._parts.discard(part)
        self.count()

    def count(self) -> None:
        """Something has moved. Whoever has the most may be cut by this, and that may be this one."""
        if self._holding is not None:
            self._holding.take(self.bytes - self._holding.bytes)
