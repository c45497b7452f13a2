"""Kept logs on disk: killed at any byte, capped, finished once. No engine needed."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import Misconfigured, Unavailable
from service.supervisor.logs.format import Record, RunLog, stamp
from service.supervisor.logs.kept import AWAY
from service.supervisor.logs.writer import LogWriter
from tests.supervisor.logged import NOON, SMALL, World, payloads


@settings(max_examples=60)
@given(st.data())
async def test_killed_at_any_byte_it_resumes_exactly(data: st.DataObject) -> None:
    lines = data.draw(st.lists(st.tuples(st.sampled_from([1, 2]), payloads, st.booleans()), max_size=25))
    first = data.draw(st.integers(0, len(lines)))
    with tempfile.TemporaryDirectory() as folder:
        world = await World.make(Path(folder))
        for stream, payload, ended in lines[:first]:
            await world.print(payload + (b"\n" if ended else b"."), stream)
        await world.catch_up()
        path = world.path
        if path.exists():
            os.truncate(path, data.draw(st.integers(0, path.stat().st_size)))
        for stream, payload, ended in lines[first:]:
            await world.print(payload + (b"\n" if ended else b"."), stream)
        await world.restart()
        await world.finish()
        assert world.kept() == [
            (str(stream), payload if ended else payload + b".", ended) for stream, payload, ended in lines
        ]


async def test_a_repeated_piece_of_one_long_line_is_counted(tmp_path: Path) -> None:
    moment = [NOON]
    world = await World.make(tmp_path, clock=lambda: moment[0])
    same = b"\0" * 16384
    for _ in range(640):
        world.append_equal(same)
    await world.catch_up()
    await world.restart()
    for _ in range(7):
        world.append_equal(same)
    await world.print(b"end\n")
    await world.finish()
    # The engine drops the newline of a line in pieces; the reader puts it back.
    assert await world.read() == same * 647 + b"\nend\n"


async def test_streams_do_not_mix_within_a_line(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    world.append_equal(b"out ")
    await world.print(b"problem\n", 2)
    world.append_equal(b"put")
    await world.print(b"next\n")
    await world.finish()
    assert await world.read() == b"problem\nout put\nnext\n"


async def test_beginning_and_end_survive_the_cap_and_the_gap_is_told(tmp_path: Path) -> None:
    world = await World.make(tmp_path, limits=SMALL)
    lines = [b"line %06d " % n + b"x" * 80 + b"\n" for n in range(12_000)]
    for start in range(0, len(lines), 1000):
        for line in lines[start : start + 1000]:
            await world.print(line)
        await world.catch_up()
        await world.restart()
    await world.finish()
    disk = sum(path.stat().st_size for path in world.path.parent.iterdir())
    assert disk <= SMALL.cap_bytes
    text = await world.read()
    before, marker, after = text.partition(b"[jobyard] ")
    note, _, after = after.partition(b"\n")
    assert marker
    assert len(before) + len(after) > SMALL.cap_bytes // 2
    assert b"".join(lines).startswith(before)
    assert b"".join(lines).endswith(after)
    dropped = len(lines) - (len(before) + len(after)) // len(lines[0])
    assert dropped > 0
    assert int(note.split()[0]) == dropped * (len(lines[0]) + 34)


async def test_finish_is_idempotent_and_final(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    await world.print(b"a\n")
    await world.finish()
    size = world.path.stat().st_size
    await world.restart()
    await world.finish()
    assert await world.catch_up() == 0
    assert world.path.stat().st_size == size


async def test_a_run_without_a_container_is_sealed(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    assert not await world.reader.complete(world.job, 1)
    world.keeper.seal(world.job, 1)
    assert await world.reader.complete(world.job, 1)
    assert [text async for text in world.reader.follow(world.job, 1)] == []


async def test_watching_goes_on_through_faults_until_finished(tmp_path: Path) -> None:
    looked, go = asyncio.Event(), asyncio.Semaphore(0)

    async def pause(_: float) -> None:
        looked.set()
        await go.acquire()

    world = await World.make(tmp_path, pause=pause)
    world.engine.fail_next("logs")
    noted = b"[jobyard] " + AWAY + b"\n"
    await world.print(b"a\n")
    async with asyncio.timeout(20):
        world.keeper.watch(world.job, 1, world.container)
        world.keeper.watch(world.job, 1, world.container)
        await looked.wait()
        assert await world.read() == b""
        looked.clear()
        go.release()
        await looked.wait()
        assert await world.read() == noted + b"a\n"
        await world.print(b"b\n")
        await world.finish()
    world.keeper.watch(world.job, 1, world.container)
    await world.keeper.close()
    assert await world.read() == noted + b"a\nb\n"


async def test_a_full_disk_is_not_the_end(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    await world.print(b"a\n")
    await world.catch_up()
    await world.print(b"b\n")
    world.break_disk()
    with pytest.raises(Unavailable):
        await world.finish()
    await world.finish()
    assert await world.read() == b"a\nb\n"


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    log = RunLog(tmp_path, uuid4(), 1)
    log.folder.mkdir()
    log.segment(0).write_bytes(b"something else\n")
    with pytest.raises(Misconfigured):
        LogWriter(log, SMALL)


def test_who_finds_that_another_wrote_does_not_write(tmp_path: Path) -> None:
    """A supervisor that was stopped with a snapshot in its hands goes on when another has kept it already."""
    log = RunLog(tmp_path, uuid4(), 1)
    line = Record(stamp(NOON), "1", b"began", complete_line=True)
    stopped = LogWriter(log, SMALL)
    other = LogWriter(log, SMALL)
    stopped.append(line)
    other.append(line)
    other.flush()
    with pytest.raises(OSError, match="written by another"):
        stopped.flush()
    stopped.close()
    other.close()
    again = LogWriter(log, SMALL)
    assert [record for record in again.recalled if record.kind == "1"] == [line]
    again.close()
