"""What a process takes of the machine, looked at again and again, and whether that grows. `grown` is pure."""

from __future__ import annotations

import asyncio
import re
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIB = 1024**2
#: The first samples are of a service that still makes its caches and connections.
WARM_UP = 0.2
#: How much of what is left is compared: the first of it, and the last.
WINDOW = 0.2


@dataclass(frozen=True)
class Sample:
    """One look. `rss` is in bytes; None is what could not be asked at that moment."""

    rss: int | None = None
    descriptors: int | None = None
    tasks: int | None = None
    connections: int | None = None


@dataclass(frozen=True)
class Bound:
    """How much more the median at the end may be than at the beginning: a share of it, and a number."""

    share: float
    more: float


#: The load asks for the month's statement all the while, which has a line for each run: that of 7,000 runs is
#: 14.5 MiB as it is made, and as much again of text. What a process once took it keeps for the next.
STATEMENT_BYTES = 2600
#: An hour with 4,921 jobs and 60 faults went from 160 to 169 MiB, one with 7,012 from 165 to 187, and the
#: others stayed at 46, 44 and 11.
BOUNDS = {
    "rss": Bound(0.0, 20 * MIB),
    "descriptors": Bound(0.0, 3),
    "tasks": Bound(0.0, 3),
    "connections": Bound(0.0, 1),
}


#: With so many, what a statement takes more in the end is in the bound.
_USUAL_JOBS = 5000


def ends(samples: Sequence[Sample], name: str) -> tuple[float, float]:
    """The medians of the beginning, after the warm-up, and of the end: of an hour each has ten minutes."""
    known = [value for sample in samples if (value := getattr(sample, name)) is not None]
    known = known[int(len(known) * WARM_UP) :]
    window = max(1, int(len(known) * WINDOW))
    return statistics.median(known[:window]), statistics.median(known[-window:])


def grown(samples: Sequence[Sample], jobs: int = 0) -> list[str]:
    """What is not flat, after so many jobs. A few high samples, as during a fault, are no growth: medians do
    not see them."""
    found = []
    for name, bound in BOUNDS.items():
        before, after = ends(samples, name)
        answers = STATEMENT_BYTES * max(0, jobs - _USUAL_JOBS) if name == "rss" else 0
        if after > before * (1 + bound.share) + bound.more + answers:
            found.append(f"{name} grew from {before:.0f} to {after:.0f}")
    return found


def rss(pid: int) -> int:
    """Bytes of memory that a process has."""
    (kib,) = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(kib) * 1024


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


Ask = Callable[[], Awaitable[int | None]]


@dataclass
class Sampler:
    """Looks at a process. `tasks` and `connections` ask for what /proc does not know."""

    pid: int
    tasks: Ask
    connections: Ask
    samples: list[Sample] = field(default_factory=list)

    async def look(self) -> None:
        tasks, connections = await asyncio.gather(self.tasks(), self.connections())
        self.samples.append(Sample(rss(self.pid), descriptors(self.pid), tasks, connections))

    async def watch(self, every_s: float) -> None:
        """Until cancelled, or the process is gone."""
        while True:
            await self.look()
            await asyncio.sleep(every_s)

    def told(self) -> dict[str, str]:
        """For the table: each with its medians before and after."""
        found = {}
        for name in BOUNDS:
            before, after = ends(self.samples, name)
            unit = MIB if name == "rss" else 1
            found[name] = f"{before / unit:.0f}->{after / unit:.0f}"
        return found | {"samples": str(len(self.samples))}
