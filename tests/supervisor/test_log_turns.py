"""Whose turn it is to have kept logs read: many readers of one project do not keep others from theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from service.supervisor.logs.format import Record, stamp
from service.supervisor.logs.reader import LogReader
from service.supervisor.logs.text import Reading
from tests.supervisor.logged import NOON
from tests.supervisor.test_log_reading import laid
from tests.support.waiting import DEADLINE_S, gathered, until

LINES = 40_000


def long_log(folder: Path) -> Any:
    return laid(folder, *(Record(stamp(NOON), "1", b"%09d" % n) for n in range(LINES)))


class Door:
    """Calls that read for text stop here until it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.before = 0


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    made, text = Door(), Reading.text

    def held(reading: Reading) -> bytes | None:
        made.before += 1
        assert made.open.wait(DEADLINE_S)
        return text(reading)

    monkeypatch.setattr(Reading, "text", held)
    yield made
    made.open.set()


def far_out(log: LogReader, job: Any, project: str) -> asyncio.Task[bytes]:
    """Who goes over all of it, for nothing."""
    return asyncio.create_task(gathered(log.read(job, 1, project=project, page=10**6, size=1)))


async def test_whoever_goes_over_long_logs_keeps_nobody_from_the_beginning_of_his(tmp_path: Path) -> None:
    log, job = long_log(tmp_path)
    async with AsyncExitStack() as held:
        for project in ("one", "two"):
            await held.enter_async_context(log._scans.turn(project))  # two scans go on
        scanning = asyncio.create_task(gathered(log.read(job, 1, page=10**6, size=1)))
        assert (await gathered(log.read(job, 1, page=1, size=2))).splitlines() == [b"000000000", b"000000001"]
        assert await gathered(log.read(job, 1, tail=1)) == b"000039999\n"
        done, _ = await asyncio.wait({scanning}, timeout=1)
        assert not done
    assert await scanning == b""


async def test_one_projects_scans_leave_anothers_a_turn(tmp_path: Path) -> None:
    log, job = long_log(tmp_path)
    async with AsyncExitStack() as held:
        await held.enter_async_context(log._scans.turn("one"))  # as if it took for ever
        mine = [far_out(log, job, "one") for _ in range(20)]
        await until(lambda: log._scans.waiting("one") == 20)
        assert await gathered(log.read(job, 1, project="two", tail=LINES // 2, page=1, size=LINES))
        assert await gathered(log.follow(job, 1, project="three", tail=LINES // 2, since=NOON))
        assert log._scans.waiting("one") == 20
    assert await asyncio.gather(*mine) == [b""] * 20


async def test_also_the_count_of_what_is_not_wanted_is_a_scan(tmp_path: Path) -> None:
    """No line of it is new enough: not one was counted by the end."""
    log, job = long_log(tmp_path)
    async with log._scans.turn("one"):
        later = NOON.replace(year=NOON.year + 1)
        counting = asyncio.create_task(gathered(log.follow(job, 1, project="one", tail=1, since=later)))
        await until(lambda: log._scans.waiting("one") == 1)
        assert not counting.done()
    assert await counting == b""


async def test_a_project_never_has_all_threads(tmp_path: Path, door: Door) -> None:
    log, job = long_log(tmp_path)
    mine = [far_out(log, job, "one") for _ in range(20)]
    await until(lambda: door.before == 2)
    assert log._reads.waiting("one") == 18
    assert await gathered(log.read(job, 1, project="two", tail=1)) == b"%09d\n" % (LINES - 1)
    assert await log.exists(job, 1, project="two")
    assert door.before == 2
    door.open.set()
    assert await asyncio.gather(*mine) == [b""] * 20


async def test_a_thread_is_its_projects_until_it_is_done(tmp_path: Path, door: Door) -> None:
    """Who leaves and asks again has no more of them."""
    log, job = long_log(tmp_path)
    for _ in range(3):
        mine = [far_out(log, job, "one") for _ in range(3)]
        await until(lambda: door.before == 2 and log._reads.waiting("one") > 0)
        for each in mine:
            each.cancel()
        for each in mine:
            with suppress(asyncio.CancelledError):
                await each
    assert door.before == 2
    last = far_out(log, job, "one")
    door.open.set()
    assert await last == b""
    await until(lambda: not log._reads._lines and not log._scans._lines)
