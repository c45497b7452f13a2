"""How much storage something takes, as far as it could be seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """`bytes` on the disk. `missed` says what could not be looked at: then it is that much or more.

    `cost_s` is the processor time that it took this process to find out.
    """

    bytes: int
    missed: tuple[str, ...] = ()
    cost_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.bytes + other.bytes, self.missed + other.missed, self.cost_s + other.cost_s)
