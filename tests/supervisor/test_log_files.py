"""Kept logs on disk: killed at any byte, capped, finished once. No engine needed."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import Unavailable
from service.supervisor.logs.format import STAMP_LENGTH, Record, RunLog, stamp
from service.supervisor.logs.kept import AWAY
from service.supervisor.logs.writer import DAMAGED, LogWriter
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


def test_a_file_that_is_no_log_is_left_as_it_is(tmp_path: Path) -> None:
    log = RunLog(tmp_path, uuid4(), 1)
    log.folder.mkdir()
    log.segment(0).write_bytes(b"something else\n")
    LogWriter(log, SMALL).close()
    assert log.segment(0).read_bytes() == b"something else\n"
    assert log.numbers() == [0, 1]


@pytest.mark.parametrize("name", ["1.log.bak", "1.log.", "1.log.-00001", "1.log.1", "1.log.000001.gz"])
async def test_a_file_that_is_no_segment_is_none(tmp_path: Path, name: str) -> None:
    world = await World.make(tmp_path)
    world.path.parent.mkdir()
    (world.path.parent / name).write_bytes(b"something else\n")
    await world.print(b"a\n")
    await world.finish()
    assert await world.read() == b"a\n"
    assert (world.path.parent / name).read_bytes() == b"something else\n"


async def test_a_power_cut_leaves_zeros_and_the_log_goes_on(tmp_path: Path) -> None:
    """What a disk had not written yet is zeros after it: here the head, and the first line."""
    world = await World.make(tmp_path)
    for text in (b"a\n", b"b\n", b"c\n"):
        await world.print(text)
    await world.catch_up()
    torn = world.path.read_bytes()
    at = torn.index(b" 1. b") - STAMP_LENGTH
    world.path.write_bytes(bytes(at) + torn[at:])
    for text in (b"d\n", b"e\n"):
        await world.restart()
        await world.print(text)
        await world.catch_up()
    told = b"[jobyard] " + DAMAGED + b"\n"
    assert await world.read() == b"c\n" + told + b"d\ne\n"
    await world.finish()
    await world.restart()
    await world.finish()
    assert await world.read() == b"c\n" + told + b"d\ne\n", "told once, and no gap besides"


async def test_a_log_that_was_complete_stays_so_whatever_became_of_its_head(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    await world.print(b"a\n")
    await world.finish()
    kept = world.path.read_bytes()
    world.path.write_bytes(bytes(8) + kept[8:])
    await world.restart()
    await world.finish()
    assert [path.name for path in world.path.parent.iterdir()] == [world.path.name]
    assert await world.read() == b"a\n"


async def test_what_follows_damage_in_a_later_segment_tells_of_no_gap_that_is_none(tmp_path: Path) -> None:
    world = await World.make(tmp_path, limits=SMALL)
    text = b"x" * 100 + b"\n"
    while not (second := world.path.with_name("1.log.000001")).exists():
        for _ in range(100):
            await world.print(text)
        await world.catch_up()
    await world.print(text)
    await world.catch_up()
    printed = await world.read()
    torn = second.read_bytes()
    second.write_bytes(bytes(8) + torn[8:])
    await world.restart()
    await world.print(b"end\n")
    await world.finish()
    assert await world.read() == printed + b"[jobyard] " + DAMAGED + b"\nend\n"


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


def test_a_log_that_cannot_be_opened_holds_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk that is tried again and again."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    def held() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    log, before = RunLog(tmp_path, uuid4(), 1), held()
    with monkeypatch.context() as patched, pytest.raises(OSError, match="no space"):
        patched.setattr(os, "write", full)
        LogWriter(log, SMALL)
    assert held() == before
