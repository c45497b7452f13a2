"""A node that is short of disk space or memory begins no run; who waits is told, and the plan says why."""

from __future__ import annotations

from hypothesis import given as random
from hypothesis import strategies as st

from projections import nodes
from projections.waiting.reasons import OF_STOP
from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.behind import CLOCK_BEHIND
from service.domain.room import DISK_FULL, MEMORY_FULL, Level, Reserve, judged
from service.domain.scheduling import plan
from service.errors import StaleEpoch
from tests.support import jobs
from tests.support.pure import PureLedger
from tests.support.specification import given
from tests.unit.test_scheduling import NOW, job, node

GIB = 1024**3
FULL = ev.Info(DISK_FULL, "It is full.")


def disk(free: int, total: int = 100 * GIB) -> Level:
    return Level("state", free, total)


def test_a_disk_below_its_reserve_stops_and_a_quarter_above_begins_again() -> None:
    reserve = Reserve(disk_bytes=8 * GIB)
    assert judged([disk(8 * GIB)], reserve, "n", None) is None
    stopped = judged([disk(8 * GIB - 1)], reserve, "n", None)
    assert stopped is not None
    assert (stopped.code, stopped.arguments) == (
        DISK_FULL,
        {"node": "n", "place": "state", "reserve": 8 * GIB},
    )
    assert judged([disk(10 * GIB - 1)], reserve, "n", stopped) == stopped
    assert judged([disk(10 * GIB)], reserve, "n", stopped) is None


def test_memory_and_files_count_too() -> None:
    memory = judged([disk(99 * GIB), Level("memory", 10, 1000)], Reserve(), "n", None)
    assert memory is not None
    assert memory.code == MEMORY_FULL
    many_files = Level("engine", 99 * GIB, 100 * GIB, free_files=9, files=1000)
    stopped = judged([many_files], Reserve(), "n", None)
    assert stopped is not None
    assert stopped.arguments["place"] == "engine"
    assert judged([Level("engine", 99 * GIB, 100 * GIB, 0, 0)], Reserve(), "n", None) is None


@random(st.integers(0, 2**50), st.integers(0, 2**50))
def test_what_is_not_configured_follows_the_size(total: int, free: int) -> None:
    level = disk(min(free, total), total)
    assert Reserve().of(level) == min(total // 20, 2 * GIB)
    assert (judged([level], Reserve(), "n", None) is None) == (level.free_bytes >= Reserve().of(level))


def test_another_place_is_told_when_the_first_has_room_again() -> None:
    reserve = Reserve(disk_bytes=GIB)
    both = [disk(0), Level("engine", 0, GIB)]
    stopped = judged(both, reserve, "n", None)
    assert judged([disk(50 * GIB), both[1]], reserve, "n", stopped) == judged([both[1]], reserve, "n", None)


def test_nothing_is_placed_and_everybody_waits_for_that() -> None:
    """But what the node could never hold is told that."""
    first, second, never = job(1), job(2), job(3, cpus=64)
    made = plan(node(), [], [first, second, never], NOW, 300, {}, FULL)
    assert (made.placements, made.stopped, made.first) == ([], FULL, [first.id])
    assert made.reasons[first.id] == made.reasons[second.id] == FULL
    assert made.reasons[never.id].code == "no-node-offers"
    assert len(plan(node(), [], [first], NOW, 300, {}, None).placements) == 1


def test_each_reason_is_a_constraint_of_why() -> None:
    assert set(OF_STOP) == {DISK_FULL, MEMORY_FULL, CLOCK_BEHIND}


def test_the_node_says_so_until_it_has_room_or_another_supervisor() -> None:
    began = cmd.StartSupervisor(engine=jobs.ENGINE, epoch=jobs.EPOCH, node=jobs.NODE, cpus=4)
    stop = cmd.SetAdmission(engine=jobs.ENGINE, epoch=jobs.EPOCH, node=jobs.NODE, stopped=FULL)
    again = cmd.SetAdmission(engine=jobs.ENGINE, epoch=jobs.EPOCH, node=jobs.NODE)
    assert stopped_after(began, stop) == DISK_FULL
    assert stopped_after(began, stop, again) == stopped_after(began, stop, began) == ""


def stopped_after(*commands: cmd.Command) -> str:
    """What the row of the node says after these commands."""
    ledger = PureLedger()
    row = None
    for command in commands:
        ledger.commit([command])
        row = nodes.evolve(row, ledger.events[-1])
    assert row is not None
    return row.stopped


def test_only_who_has_the_engine_says_it() -> None:
    command = cmd.SetAdmission(engine=jobs.ENGINE, epoch=jobs.EPOCH, node=jobs.NODE, stopped=FULL)
    given().under_epoch(jobs.EPOCH + 1).when(command).refused(StaleEpoch)
    body = ev.AdmissionSet(engine=jobs.ENGINE, node=jobs.NODE, epoch=jobs.EPOCH, stopped=FULL)
    given().when(command).then(body)
