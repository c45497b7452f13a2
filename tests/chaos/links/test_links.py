"""Every link, cut in every way, while work goes on over it."""

from __future__ import annotations

import asyncio

import pytest

from service.supervisor.data import StoreAccess
from tests.chaos.links import sorts
from tests.chaos.links.cases import CASES, Case, tried
from tests.chaos.links.house import House, Log, house
from tests.chaos.links.line import Fault
from tests.support.chaos import Chaos

pytestmark = pytest.mark.usefixtures("quick", "busybox")


async def _each(
    case: Case,
    faults: list[Fault],
    turns: asyncio.Semaphore,
    chaos: Chaos,
    log: Log,
    template: str,
    access: StoreAccess,
) -> int:
    """Some faults of one link, one after the other, in a house of its own."""
    changes = {"poll_s": 20.0} if case.sort == "events" else {}
    count = 0
    name = f"{case.sort} {faults[0]}"
    async with turns, house(name, log, template, access, supervised=case.supervised, **changes) as made:
        for _ in range(chaos.times(short=1, long=2)):
            for fault in faults:
                try:
                    await tried(case, made, fault)
                except Exception as error:
                    raise AssertionError(f"{case.sort}, {fault}: {error!r}\n{told(made)}") from error
                count += 1
    return count


def told(made: House) -> str:
    """The end of what the house logged."""
    return "\n".join(str(dict(line, house="")) for line in made.log[-60:] if line.get("route") != "/readyz")


#: Of the links over which jobs run in containers, which take long, the short form tries these: each vanishes
#: without a word, and beside that each fault is tried on several links. The others it cuts in every way, too.
_SHORT = {
    sorts.POOL: (Fault.RST, Fault.STALL, Fault.HALF_OPEN),
    sorts.CONTROL: (Fault.FIN, Fault.STALL_DOWN, Fault.HALF_OPEN),
    sorts.EVENTS: (Fault.STALL_UP, Fault.HALF_OPEN, Fault.SLOW),
    sorts.STREAMS: (Fault.RST, Fault.STALL_DOWN, Fault.HALF_OPEN),
    sorts.STORE: (Fault.FIN, Fault.STALL_UP, Fault.HALF_OPEN, Fault.SLOW),
}


def _parts(case: Case, *, long: bool) -> list[list[Fault]]:
    """What is tried one after the other in a house of its own."""
    if not long:
        return [list(_SHORT.get(case.sort, Fault))]
    faults = list(Fault)
    return [faults[::2], faults[1::2]]


async def test_every_link_cut_in_every_way(
    chaos: Chaos, log: Log, template_database: str, access: StoreAccess
) -> None:
    turns = asyncio.Semaphore(chaos.times(short=9, long=6))
    tasks = [
        asyncio.create_task(_each(case, part, turns, chaos, log, template_database, access), name=case.sort)
        for case in CASES
        for part in _parts(case, long=chaos.long)
    ]
    await asyncio.wait(tasks)
    failed = [str(error) for task in tasks if (error := task.exception()) is not None]
    assert not failed, "\n".join(failed)
    cuts = sum(task.result() for task in tasks)
    chaos.told("links cut", links=len(CASES), cuts=cuts, unnoticed=0, missed=0)
