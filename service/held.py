"""Memory that strangers fill: what of theirs is in hand, all of them together, and who must give way.

Each of them is bounded, but not how many there are. So what they have in hand is added up, by whose it is,
and when it is too much in all, whoever has the most loses its largest: who has little is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class _Owner:
    """One of those among whom the room is shared."""

    held: set[Holding] = field(default_factory=set)
    bytes: int = 0


class Holding:
    """What one line of an owner has in hand. `cut` ends the line at once, and with it what it holds."""

    def __init__(self, room: Room, owner: str, cut: Callable[[], None]) -> None:
        self._room, self._owner, self._cut = room, owner, cut
        self.bytes = 0
        self.was_cut = False

    def take(self, count: int) -> None:
        """So many bytes more are in hand; or fewer, below nought. A line that was left has none any more."""
        self._room.count(self, self._owner, count)

    def leave(self) -> None:
        """The line has ended, and holds nothing. Once more changes nothing."""
        self._room.forget(self, self._owner)

    def cut(self) -> None:
        self.was_cut = True
        self._cut()


class Room:
    """How many bytes may be in hand, of all lines together. Of one event loop."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._owners: dict[str, _Owner] = {}
        self.bytes = 0

    def enter(self, owner: str, cut: Callable[[], None]) -> Holding:
        """A line of an owner, such as a token or a job, for as long as it is open."""
        made = Holding(self, owner, cut)
        self._owners.setdefault(owner, _Owner()).held.add(made)
        return made

    def count(self, holding: Holding, owner: str, count: int) -> None:
        known = self._owners.get(owner)
        if known is None or holding not in known.held:
            return
        holding.bytes += count
        known.bytes += count
        self.bytes += count
        while self.bytes > self._most:
            self._make_way()

    def forget(self, holding: Holding, owner: str) -> None:
        known = self._owners.get(owner)
        if known is None or holding not in known.held:
            return
        known.held.discard(holding)
        known.bytes -= holding.bytes
        self.bytes -= holding.bytes
        holding.bytes = 0
        if not known.held:
            del self._owners[owner]

    def _make_way(self) -> None:
        """The largest of whoever has the most is cut, and counted as gone: what it held is about to be."""
        owner, most = max(self._owners.items(), key=lambda each: each[1].bytes)
        largest = max(most.held, key=lambda each: each.bytes)
        self.forget(largest, owner)
        largest.cut()
