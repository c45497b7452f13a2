"""Kept logs, read while they are written and after. No engine needed."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

from service.supervisor.logs.reader import LogReader
from tests.supervisor.logged import SMALL, World, never, seconds


async def test_tail_page_since_and_timestamps(tmp_path: Path) -> None:
    moments = seconds()
    world = await World.make(tmp_path, clock=lambda: next(moments))
    for n in range(20_000):
        await world.print(b"%d\n" % n)
    await world.print(b"no end")
    await world.catch_up()
    assert await world.read(tail=3) == b"19998\n19999\nno end"
    assert await world.read(tail=0) == b""
    assert await world.read(tail=10**6) == world.printed
    assert await world.read(page=2, size=3) == b"3\n4\n5\n"
    assert await world.read(page=10**6, size=3) == b""
    assert await world.read(page=1, size=5, tail=1) == b"4\n"
    dated = (await world.read(timestamps=True)).splitlines()
    third = datetime.fromisoformat(dated[2].split()[0].decode())
    assert (await world.read(since=third)).startswith(b"2\n3\n")
    assert dated[2].endswith(b"Z 2")
    assert dated[-1].endswith(b"Z no end")


async def test_binary_output_is_untouched(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    raw = bytes(range(256)) * 3
    for line in raw.split(b"\n")[:-1]:
        await world.print(line + b"\n")
    await world.print(raw.split(b"\n")[-1])
    await world.finish()
    assert await world.read() == world.printed == raw


async def test_a_reader_elsewhere_follows_to_the_end(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    steps = iter([b"one\ntwo\n", b"half", b" of a line\n", b"three\n", None])

    async def next_step(_: float) -> None:
        step = next(steps)
        if step is None:
            await world.finish()
        else:
            for line in step.splitlines(keepends=True):
                if b"hal" in step or b" of" in step:
                    world.append_equal(line)
                else:
                    await world.print(line)
            await world.catch_up()

    reader = LogReader(tmp_path, pause=next_step)
    async with asyncio.timeout(20):
        seen = [text async for text in reader.follow(world.job, 1)]
    assert seen == [b"one\ntwo\n", b"half", b" of a line\n", b"three\n"]


async def test_following_from_the_last_lines(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    for n in range(10):
        await world.print(b"%d\n" % n)
    await world.finish()
    assert b"".join([text async for text in world.reader.follow(world.job, 1, tail=2)]) == b"8\n9\n"
    assert b"".join([text async for text in world.reader.follow(world.job, 1, tail=0)]) == b""


async def test_a_follower_sees_the_gap_when_the_ring_overtakes_it(tmp_path: Path) -> None:
    world = await World.make(tmp_path, limits=SMALL)
    follower = LogReader(tmp_path, pause=never).follow(world.job, 1)
    await world.print(b"first\n")
    await world.catch_up()
    assert await anext(follower) == b"first\n"
    for n in range(12_000):
        await world.print(b"%06d " % n + b"x" * 80 + b"\n")
    await world.finish()
    rest = b"".join([text async for text in follower])
    assert rest.count(b"[jobyard] ") == 1
    assert rest.splitlines()[-1].startswith(b"011999")


async def test_a_long_log_is_read_in_chunks_and_whole(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    for n in range(6000):
        await world.print(b"%06d " % n + b"x" * 120 + b"\n")
    await world.finish()
    chunks = [chunk async for chunk in world.reader.read(world.job, 1)]
    assert b"".join(chunks) == world.printed
    assert len(chunks) > 2 and max(map(len, chunks)) < len(world.printed) / 2
