"""Kept logs, read while they are written and after. No engine needed."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from service.supervisor import logs
from service.supervisor.logs.format import NO_TIME, Record, RunLog, stamp
from service.supervisor.logs.reader import LogReader
from tests.supervisor.logged import NOON, SMALL, World, never, seconds
from tests.support.waiting import gathered

END = Record(NO_TIME, "e", b"").encode()


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
    # Each time all was read, it is said before more is waited for.
    assert seen == [None, b"one\ntwo\n", None, b"half", None, b" of a line\n", None, b"three\n", None]


async def test_following_from_the_last_lines(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    for n in range(10):
        await world.print(b"%d\n" % n)
    await world.finish()
    assert await gathered(world.reader.follow(world.job, 1, tail=2)) == b"8\n9\n"
    assert await gathered(world.reader.follow(world.job, 1, tail=0)) == b""


async def test_a_follower_sees_the_gap_when_the_ring_overtakes_it(tmp_path: Path) -> None:
    world = await World.make(tmp_path, limits=SMALL)
    follower = LogReader(tmp_path, pause=never).follow(world.job, 1)
    await world.print(b"first\n")
    await world.catch_up()
    assert await anext(follower) == b"first\n"
    for n in range(12_000):
        await world.print(b"%06d " % n + b"x" * 80 + b"\n")
    await world.finish()
    rest = await gathered(follower)
    assert rest.count(b"[jobyard] ") == 1
    assert rest.splitlines()[-1].startswith(b"011999")


@pytest.mark.parametrize("since", [None, NOON])
async def test_who_follows_from_the_last_lines_sees_the_gap_as_well(
    tmp_path: Path, since: datetime | None
) -> None:
    """Wherever he began: without a time it was at the log's end."""
    world = await World.make(tmp_path, limits=SMALL)
    for n in range(2000):
        await world.print(b"%06d " % n + b"x" * 80 + b"\n")
    await world.catch_up()
    follower = LogReader(tmp_path, pause=never).follow(world.job, 1, tail=2, since=since)
    while not (first := await anext(follower)):
        continue
    assert [line[:6] for line in first.splitlines()] == [b"001998", b"001999"]
    assert await anext(follower) is None
    for n in range(2000, 14_000):
        await world.print(b"%06d " % n + b"x" * 80 + b"\n")
    await world.finish()
    rest = (await gathered(follower)).splitlines()
    (gap,) = [n for n, line in enumerate(rest) if line.startswith(b"[jobyard] ")]
    missing = int(rest[gap + 1][:6]) - 2000 - gap
    record = len(Record(stamp(NOON), "1", rest[-1]).encode())
    assert rest[gap].startswith(b"[jobyard] %d bytes of output were dropped" % (missing * record))
    assert rest[-1].startswith(b"013999")


async def test_the_last_lines_of_a_long_log_are_followed_from_its_end(tmp_path: Path) -> None:
    lines = [Record(stamp(NOON), "1", b"%09d" % n) for n in range(40_000)]
    log, job = laid(tmp_path, *lines, Record(stamp(NOON), "1", b"$ ", complete_line=False))
    path = RunLog(tmp_path, job, 1).segment(0)
    path.write_bytes(path.read_bytes().removesuffix(END))
    follower = log.follow(job, 1, tail=2)
    assert await anext(follower) == b"000039999\n$ ", "nothing else was looked through"
    assert await anext(follower) is None
    with path.open("ab") as file:
        file.write(Record(stamp(NOON), "1", b"ls").encode() + END)
    assert await gathered(follower) == b"ls\n"


async def test_who_follows_no_line_of_an_unfinished_one_gets_what_comes_of_it(tmp_path: Path) -> None:
    """Nothing near the log's end is a whole line."""
    log, job = laid(tmp_path, *(Record(stamp(NOON), "1", b"x" * 16_000, False) for _ in range(9)))
    path = RunLog(tmp_path, job, 1).segment(0)
    path.write_bytes(path.read_bytes().removesuffix(END))
    follower = log.follow(job, 1, tail=0)
    while await anext(follower) is not None:
        continue
    with path.open("ab") as file:
        file.write(Record(stamp(NOON), "1", b"y").encode() + END)
    assert await gathered(follower) == b"y\n"


async def test_a_long_log_is_read_in_chunks_and_whole(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    for n in range(6000):
        await world.print(b"%06d " % n + b"x" * 120 + b"\n")
    await world.finish()
    chunks = [chunk async for chunk in world.reader.read(world.job, 1)]
    assert b"".join(chunks) == world.printed
    assert len(chunks) > 2 and max(map(len, chunks)) < len(world.printed) / 2


#: Far less than the logs here.
MUCH = 1_000_000


def laid(folder: Path, *records: Record) -> tuple[LogReader, UUID]:
    """A complete log of these records."""
    log = RunLog(folder, uuid4(), 1)
    log.folder.mkdir(parents=True)
    log.segment(0).write_bytes(b"".join(each.encode() for each in records) + END)
    return LogReader(folder, pause=never), log.job


#: What other tests of this process leave to their threads is none of it.
_OURS = tracemalloc.Filter(True, str(Path(logs.__file__).parent / "*"))


async def in_hand(text: AsyncIterator[bytes | None]) -> tuple[bytes, int]:
    """All of it, and the bytes that were held of it when its first piece had come."""
    tracemalloc.start()
    try:
        while not (first := await anext(text)):
            continue
        found = tracemalloc.take_snapshot().filter_traces([_OURS]).statistics("filename")
        held = sum(each.size for each in found)
    finally:
        tracemalloc.stop()
    assert held > 0
    return first + b"".join([each async for each in text if each]), held


@pytest.mark.parametrize("line", [b"", b"%06d", b"%06d" + b"x" * 5000])
async def test_whoever_takes_nothing_of_a_log_holds_little_of_it(tmp_path: Path, line: bytes) -> None:
    """Whatever lines it has, and however many are asked for."""
    many = 1_200_000 // (len(line) + 36)
    lines = [line % n if line else b"" for n in range(many)]
    log, job = laid(tmp_path, *(Record(stamp(NOON), "1", each) for each in lines))
    part, quarter = many * 3 // 4, many // 4
    for asked, first, last in (
        (log.read(job, 1), 0, many),
        (log.follow(job, 1), 0, many),
        (log.read(job, 1, tail=10**6), 0, many),
        (log.read(job, 1, tail=part), many - part, many),
        (log.follow(job, 1, tail=part), many - part, many),
        (log.read(job, 1, page=1, size=10**6, tail=part), many - part, many),
        (log.read(job, 1, page=2, size=quarter, tail=quarter - 1), quarter + 1, 2 * quarter),
    ):
        text, held = await in_hand(asked)
        assert text == b"".join(each + b"\n" for each in lines[first:last])
        assert held < MUCH / 5


async def test_a_line_of_megabytes_is_read_by_pieces(tmp_path: Path) -> None:
    log, job = laid(
        tmp_path,
        *(Record(stamp(NOON), "1", b"x" * 16_000, complete_line=False) for _ in range(200)),
        Record(stamp(NOON), "1", b""),
        Record(stamp(NOON), "1", b"short"),
    )
    whole = b"x" * 3_200_000 + b"\nshort\n"
    for tail, expected in ((None, whole), (2, whole), (1, b"short\n")):
        for asked in (log.read(job, 1, tail=tail), log.follow(job, 1, tail=tail)):
            text, held = await in_hand(asked)
            assert text == expected
            assert held < MUCH / 5


async def test_a_long_line_that_the_other_stream_breaks_into_is_two(tmp_path: Path) -> None:
    """As one is that was shown before it was finished: what both print is never mixed within a line."""
    log, job = laid(
        tmp_path,
        Record(stamp(NOON), "1", b"x" * 70_000, complete_line=False),
        Record(stamp(NOON), "2", b"err"),
        Record(stamp(NOON), "1", b"end"),
    )
    whole = [b"x" * 70_000, b"err", b"end"]
    assert (await gathered(log.read(job, 1))).splitlines() == whole
    assert (await gathered(log.read(job, 1, tail=2))).splitlines() == whole[1:]
    assert (await gathered(log.read(job, 1, page=1, size=2))).splitlines() == whole[:2]


async def test_following_from_many_last_lines_goes_on(tmp_path: Path) -> None:
    _, job = laid(tmp_path, *(Record(stamp(NOON), "1", b"%09d" % n) for n in range(20_000)))
    path = RunLog(tmp_path, job, 1).segment(0)
    path.write_bytes(path.read_bytes().removesuffix(END) + Record(stamp(NOON), "1", b"?", False).encode())

    async def more(_: float) -> None:
        with path.open("ab") as file:
            file.write(Record(stamp(NOON), "1", b"!").encode() + END)

    reader = LogReader(tmp_path, pause=more)
    text = await gathered(reader.follow(job, 1, tail=10_001))
    assert text.splitlines() == [*(b"%09d" % n for n in range(10_000, 20_000)), b"?!"]


async def test_a_line_larger_than_what_is_read_at_once_follows_the_head_of_its_segment(
    tmp_path: Path,
) -> None:
    """Nothing that is read of a head is shown: that is not the end of its segment."""
    log, job = laid(
        tmp_path,
        Record(NO_TIME, "s", b"0"),
        *(Record(stamp(NOON), "1", letter * 200_000) for letter in (b"a", b"b")),
    )
    first, end = RunLog(tmp_path, job, 1).segment(0), Record(NO_TIME, "e", b"").encode()
    kept = first.read_bytes().removesuffix(end)
    first.write_bytes(kept)
    size = len(kept) - len(Record(NO_TIME, "s", b"0").encode())
    later = Record(NO_TIME, "s", b"%d" % size).encode() + Record(stamp(NOON), "1", b"c").encode() + end
    RunLog(tmp_path, job, 1).segment(1).write_bytes(later)
    for text in (log.read(job, 1), log.follow(job, 1)):
        assert await gathered(text) == b"a" * 200_000 + b"\n" + b"b" * 200_000 + b"\nc\n"


async def test_who_wants_nothing_of_a_long_log_can_stop_on_the_way(tmp_path: Path) -> None:
    log, job = laid(tmp_path, *(Record(stamp(NOON), "1", b"%09d" % n) for n in range(40_000)))
    for asked in (log.read(job, 1, page=10**6, size=1), log.read(job, 1, tail=39_000)):
        assert await anext(asked) == b""
        await asked.aclose()
    assert await gathered(log.read(job, 1, page=10**6, size=1)) == b""
