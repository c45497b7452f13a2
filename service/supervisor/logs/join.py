"""What of a snapshot of a log is new, and how long the next snapshot has to be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_TAIL_MIN = 256
_SHORTEST_S = 0.02
"""Between two looks, where a rate is reckoned."""


class Join:
    """Tells, batch by batch of a snapshot, what is new; pure, and blind to clocks that step back.

    `kept` is the end of what we have, encoded, oldest first. A snapshot runs to the newest record. All up
    to our last record is old, all after it is new; one that does not hold our last record tells nothing.
    """

    def __init__(self, kept: Iterable[bytes]) -> None:
        window = list(kept)
        self._last = window[-1] if window else b""
        self._left = self.twins = window.count(window[-1]) if window else 0
        """How many records equal our last one. The 16 KiB pieces of one long line share a timestamp and
        can share their bytes; they are counted, so the snapshot has to begin before the first of them."""

    @property
    def joined(self) -> bool:
        """Whether our last record was seen, so that what follows is new."""
        return self._left == 0

    def new(self, lines: list[bytes]) -> list[bytes]:
        """What is new of the next records. Call for all of a snapshot, in order."""
        old = 0
        while self._left:
            try:
                old = lines.index(self._last, old) + 1
            except ValueError:
                return []
            self._left -= 1
        return lines[old:] if old else lines


@dataclass(slots=True)
class Pace:
    """How many records come, from what the last looks found; being wrong costs time, nothing else."""

    looked_s: float | None = None
    records_per_s: float = 0.0

    def expected(self, now_s: float) -> int:
        """How long an end of the log will hold what has come since the last look, and a tenth more."""
        since_s = now_s - self.looked_s if self.looked_s is not None else 0.0
        return _TAIL_MIN + int(1.1 * self.records_per_s * since_s)

    def found(self, records: int, begun_s: float) -> None:
        """A look that began then found so many that were new."""
        since_s = begun_s - self.looked_s if self.looked_s is not None else 0.0
        self.records_per_s = records / max(since_s, _SHORTEST_S) if self.looked_s is not None else 0.0
        self.looked_s = begun_s

    def ended(self) -> None:
        """Nothing more is to be expected."""
        self.records_per_s = 0.0
