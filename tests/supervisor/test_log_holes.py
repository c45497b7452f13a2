"""Where a kept log cannot be whole, it says so, once: clocks set back, output lost. No engine needed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from service.errors import LogBroken, NoSuchContainer, Unavailable
from service.supervisor.engine.output import FrameReader
from service.supervisor.logs.keeper import BROKEN, GONE
from service.supervisor.logs.kept import AWAY, EARLY, LOST
from tests.supervisor.logged import NOON, Readings, World, seconds


async def test_output_the_engine_lost_is_marked_once(tmp_path: Path) -> None:
    moments = seconds()
    world = await World.make(tmp_path, clock=lambda: next(moments))
    for n in range(10):
        await world.print(b"%d\n" % n)
    await world.catch_up()
    for n in range(10, 30):
        await world.print(b"%d\n" % n)
    world.engine_forgets(20)
    await world.finish()
    lines = (await world.read()).splitlines()
    dated = [line.split()[0] for line in (await world.read(timestamps=True)).splitlines()]
    assert lines == [
        *(b"%d" % n for n in range(10)),
        b"[jobyard] " + LOST + b" between %b and %b" % (dated[9], dated[11]),
        *(b"%d" % n for n in range(20, 30)),
    ]


async def test_a_clock_set_back_repeats_and_loses_nothing(tmp_path: Path) -> None:
    moment = [NOON]
    world = await World.make(tmp_path, clock=lambda: moment[0])
    for _ in range(6):
        for n in range(900):
            await world.print(b"%d\n" % n)
        await world.catch_up()
        moment[0] -= timedelta(hours=1)
    await world.finish()
    assert await world.read() == world.printed


async def test_what_shows_a_hole_is_read_once(tmp_path: Path) -> None:
    """A second reading would take as long again, and the engine drops more meanwhile."""
    moments = seconds()
    world = await World.make(tmp_path, clock=lambda: next(moments))
    for n in range(3):
        await world.print(b"%d\n" % n)
    await world.catch_up()
    for n in range(36_000):
        await world.print(b"%d\n" % n)
    world.engine_forgets(2_000)
    read = Readings(world)
    await world.catch_up()
    assert read.firsts[-1] == [b"1997\n"]
    assert len(read.firsts) == len(set(map(tuple, read.firsts)))
    assert (await world.read()).count(LOST) == 1


async def test_a_hole_is_told_once_though_the_engine_goes_away_within(tmp_path: Path) -> None:
    moments = seconds()
    world = await World.make(tmp_path, clock=lambda: next(moments))
    for n in range(3):
        await world.print(b"%d\n" % n)
    await world.catch_up()
    for n in range(3, 20):
        await world.print(b"%d\n" % n)
    world.engine_forgets(5)
    world.engine.tear_log(world.container, after=4)
    with pytest.raises(LogBroken):
        await world.catch_up()
    world.engine.tear_log(world.container, after=None)
    await world.restart()
    await world.finish()
    lines = (await world.read()).splitlines()
    assert [line for line in lines if not line.startswith(b"[jobyard]")] == [
        b"%d" % n for n in (0, 1, 2, *range(5, 20))
    ]
    assert (await world.read()).count(LOST) == 1


async def test_a_clock_set_back_before_a_restart_is_no_hole(tmp_path: Path) -> None:
    """What the new keeper recalls is all earlier than what the engine's log begins with."""
    moment = [NOON]
    world = await World.make(tmp_path, clock=lambda: moment[0])
    for n in range(9_000):
        if n == 10:
            moment[0] -= timedelta(hours=1)
        await world.print(b"%d\n" % n)
    await world.catch_up()
    await world.restart()
    for n in range(33_000):
        await world.print(b"%d\n" % n)
    await world.finish()
    assert await world.read() == world.printed


async def test_the_end_of_a_log_is_said_once(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    await world.print(b"a\n")
    with structlog.testing.capture_logs() as said:
        await world.finish()
        await world.finish()
    assert [line["event"] for line in said] == ["log complete"]


async def test_a_log_that_was_full_at_the_first_look_is_doubted(tmp_path: Path) -> None:
    world = await World.make(tmp_path, engine_keeps_bytes=1000)
    for _ in range(40):
        await world.print(b"0123456789\n")
    await world.finish()
    assert (await world.read()).splitlines()[-1] == b"[jobyard] " + EARLY


async def test_a_container_removed_too_early_is_noted(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    await world.print(b"only this\n")
    await world.catch_up()
    await world.engine.remove(world.container, force=True)
    with pytest.raises(NoSuchContainer):
        await world.catch_up()
    await world.finish()
    assert await world.read() == b"only this\n[jobyard] " + GONE + b"\n"
    assert await world.reader.complete(world.job, 1)


async def test_a_log_that_the_engine_cannot_read_on_ends_with_a_note(tmp_path: Path) -> None:
    """A disk that was full tears it. What comes before the tear is kept, and whoever waits is let go."""
    world = await World.make(tmp_path)
    for n in range(10):
        await world.print(b"%d\n" % n)
    await world.catch_up()
    for n in range(10, 20):
        await world.print(b"%d\n" % n)
    world.engine.tear_log(world.container, after=15)
    with pytest.raises(LogBroken):
        await world.catch_up()
    await world.finish()
    assert (await world.read()).splitlines() == [*(b"%d" % n for n in range(15)), b"[jobyard] " + BROKEN]
    assert await world.reader.complete(world.job, 1)


def test_what_the_engine_says_of_its_log_is_no_output() -> None:
    """Word for word what 20.10 says of the `local` driver's, after the disk was full."""
    said = b"Error grabbing logs: error finding file position to start log tailing: unexpected numb"
    frame = b"\3\0\0\0" + len(said).to_bytes(4, "big") + said
    with pytest.raises(LogBroken, match="start log tailing"):
        list(FrameReader().feed(frame))


async def test_an_engine_that_was_away_is_noted_once_where_lines_may_be_missing(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    await world.print(b"a\n")
    await world.catch_up()
    for call in ("logs", "find"):  # still away at the second look
        world.engine.fail_next(call)
        with pytest.raises(Unavailable):
            await world.catch_up()
    for _ in range(2):  # whoever looks after the run has found out as well
        world.keeper.missed(world.job, 1, world.container)
        await world.catch_up()
    await world.print(b"b\n")
    await world.finish()
    assert await world.read() == b"a\n[jobyard] " + AWAY + b"\nb\n"
