"""Kept logs on disk: killed at any byte, capped, read while written. No engine needed."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import LogBroken, Misconfigured, NoSuchContainer, Unavailable
from service.supervisor.engine.output import FrameReader
from service.supervisor.engine.protocol import ContainerSpec, LogChunk, LogChunks
from service.supervisor.logs.format import Record, RunLog, decode, encoded, pieces, stamp
from service.supervisor.logs.join import Join
from service.supervisor.logs.keeper import BROKEN, GONE, LogKeeper
from service.supervisor.logs.kept import AWAY, EARLY, LOST
from service.supervisor.logs.reader import Cursor, LogReader
from service.supervisor.logs.writer import LogLimits, LogWriter
from tests.support.engine.fake import FakeEngine
from tests.support.waiting import gathered

IMAGE = "jobyard-test/busybox:1"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
SMALL = LogLimits(cap_bytes=512 * 1024, ring=4)

payloads = st.binary(max_size=40).map(lambda data: data.replace(b"\n", b"x"))
records = st.builds(
    Record,
    timestamp=st.integers(0, 5).map(lambda n: stamp(NOON + timedelta(microseconds=n))),
    kind=st.sampled_from(["1", "2"]),
    payload=payloads,
    complete_line=st.booleans(),
)


@given(records)
def test_a_record_survives_the_disk(record: Record) -> None:
    line = record.encode()
    assert line.count(b"\n") == 1
    assert decode(line[:-1]) == record


@given(st.binary(max_size=80))
def test_foreign_bytes_are_no_record_or_a_faithful_one(data: bytes) -> None:
    data = data.replace(b"\n", b"")
    record = decode(data)
    assert record is None or record.encode() == data + b"\n"


chunks = st.builds(
    LogChunk,
    stream=st.sampled_from([1, 2]),
    timestamp=st.integers(0, 5).map(lambda n: stamp(NOON + timedelta(microseconds=n))),
    payload=st.binary(max_size=40) | st.sampled_from([b"", b"\n", b"a\nb\n", b"a\nb", b"\n\n"]),
)


@given(st.lists(chunks, max_size=20), st.lists(st.integers(1, 60), max_size=40), st.booleans())
def test_frames_cut_anywhere_are_the_chunks_they_were(
    printed: list[LogChunk], cuts: list[int], short: bool
) -> None:
    wire = b"".join(_frame(chunk, short) for chunk in printed)
    reader, read, at = FrameReader(), list[LogChunk](), 0
    for size in (*cuts, len(wire) + 1):
        read += [chunk for batch in reader.feed(wire[at : at + size]) for chunk in batch]
        at += size
    assert read == printed
    assert not reader.torn


@given(st.lists(chunks, max_size=20))
def test_chunks_encoded_at_once_are_their_records(printed: list[LogChunk]) -> None:
    assert encoded(printed) == [record.encode() for chunk in printed for record in pieces(chunk)]
    text = b"".join(line[34:-1] + (b"\n" if line[32:33] == b"." else b"") for line in encoded(printed))
    assert text == b"".join(chunk.payload for chunk in printed)


def test_what_comes_before_a_tear_in_the_same_bytes_is_read() -> None:
    said = b"Error grabbing logs: unexpected EOF"
    line = LogChunk(1, stamp(NOON), b"kept\n")
    batches = FrameReader().feed(_frame(line) + b"\3\0\0\0" + len(said).to_bytes(4, "big") + said)
    assert next(batches) == [line]
    with pytest.raises(LogBroken):
        next(batches)


@given(st.lists(records, max_size=30), st.integers(0, 30), st.integers(0, 30), st.integers(1, 9))
def test_joining_any_snapshot_adds_exactly_what_is_missing(
    log: list[Record], kept: int, begins: int, batch: int
) -> None:
    # Timestamps in any order: a clock can be set back.
    kept = min(kept, len(log))
    first_twin = log.index(log[kept - 1]) if kept else 0
    join = Join(record.encode() for record in log[:kept])
    snapshot = [record.encode() for record in log[min(begins, first_twin) :]]
    new = [
        line for start in range(0, len(snapshot), batch) for line in join.new(snapshot[start : start + batch])
    ]
    assert join.joined
    assert new == [record.encode() for record in log[kept:]]


def test_a_snapshot_that_does_not_hold_our_last_record_tells_nothing() -> None:
    join = Join([_line(n).encode() for n in range(5)])
    assert join.new([_line(n).encode() for n in (6, 7, 8)]) == []
    assert not join.joined


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


async def test_output_the_engine_lost_is_marked_once(tmp_path: Path) -> None:
    moments = _seconds()
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
    moments = _seconds()
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
    moments = _seconds()
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


async def test_tail_page_since_and_timestamps(tmp_path: Path) -> None:
    moments = _seconds()
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
    follower = LogReader(tmp_path, pause=_never).follow(world.job, 1)
    await world.print(b"first\n")
    await world.catch_up()
    assert await anext(follower) == b"first\n"
    for n in range(12_000):
        await world.print(b"%06d " % n + b"x" * 80 + b"\n")
    await world.finish()
    rest = b"".join([text async for text in follower])
    assert rest.count(b"[jobyard] ") == 1
    assert rest.splitlines()[-1].startswith(b"011999")


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


async def test_a_long_log_is_read_in_chunks_and_whole(tmp_path: Path) -> None:
    world = await World.make(tmp_path)
    for n in range(6000):
        await world.print(b"%06d " % n + b"x" * 120 + b"\n")
    await world.finish()
    chunks = [chunk async for chunk in world.reader.read(world.job, 1)]
    assert b"".join(chunks) == world.printed
    assert len(chunks) > 2 and max(map(len, chunks)) < len(world.printed) / 2


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


class Readings:
    """Sees with which chunk each reading of the engine's log begins."""

    def __init__(self, world: World) -> None:
        self.firsts: list[list[bytes]] = []
        self._logs = world.engine.logs
        world.engine.logs = self._seen  # type: ignore[method-assign]

    async def _seen(self, container_id: str, **how: Any) -> AsyncGenerator[LogChunks, None]:
        async with aclosing(self._logs(container_id, **how)) as batches:
            async for chunks in batches:
                self.firsts.append([chunks[0].payload])
                yield chunks


class World:
    """A fake engine with one container, a keeper of its log, and a reader."""

    def __init__(self, folder: Path, engine: FakeEngine, container: str, **how: object) -> None:
        self.job: UUID = uuid4()
        self.engine, self.container = engine, container
        self.printed = b""
        self.reader = LogReader(folder, pause=_never)
        self.path = RunLog(folder, self.job, 1).segment(0)
        self._folder, self._how = folder, how
        self.keeper = LogKeeper(engine, folder, **how)  # type: ignore[arg-type]

    @classmethod
    async def make(cls, folder: Path, *, clock: object = None, **how: object) -> World:
        engine = FakeEngine(clock if callable(clock) else lambda: NOON)
        engine.add_image(IMAGE)
        container = await engine.create(ContainerSpec(name="a-job", image=IMAGE))
        await engine.start(container)
        return cls(folder, engine, container, **how)

    async def print(self, payload: bytes, stream: int = 1) -> None:
        await self.engine.write(self.container, payload, 1 if stream == 1 else 2)
        self.printed += payload

    def append_equal(self, payload: bytes) -> None:
        """As the engine keeps the pieces of a long line: one timestamp for all."""
        log = self.engine.output(self.container)
        log.append(_piece(payload))

    def engine_forgets(self, chunks: int) -> None:
        del self.engine.output(self.container)[:chunks]

    def break_disk(self) -> None:
        """The keeper's open file refuses to be written, as on a full disk."""
        files = Path("/proc/self/fd")
        held = [int(fd.name) for fd in files.iterdir() if fd.exists() and fd.resolve() == self.path.resolve()]
        full = os.open("/dev/full", os.O_WRONLY)
        for fd in held:
            os.dup2(full, fd)
        os.close(full)

    async def restart(self) -> None:
        """A new keeper that knows nothing but the disk."""
        await self.keeper.close()
        self.keeper = LogKeeper(self.engine, self._folder, **self._how)  # type: ignore[arg-type]

    async def catch_up(self) -> int:
        return await self.keeper.catch_up(self.job, 1, self.container)

    async def finish(self) -> None:
        await self.keeper.finish(self.job, 1, self.container)

    def kept(self) -> list[tuple[str, bytes, bool]]:
        """Every record of output on disk."""
        cursor = Cursor(RunLog(self._folder, self.job, 1))
        found: list[tuple[str, bytes, bool]] = []
        while records := cursor.advance():
            found += [(each.kind, each.payload, each.complete_line) for each in records if each.kind in "12"]
        return found

    async def read(self, **how: object) -> bytes:
        return await gathered(self.reader.read(self.job, 1, **how))  # type: ignore[arg-type]


def _piece(payload: bytes) -> LogChunk:
    return LogChunk(1, stamp(NOON - timedelta(hours=1)), payload)


def _frame(chunk: LogChunk, short: bool = False) -> bytes:
    """As Docker frames it; `short` leaves out the zeros at a timestamp's end, as Go does elsewhere."""
    moment = chunk.timestamp.removesuffix("Z").rstrip("0") + "Z" if short else chunk.timestamp
    body = moment.encode() + b" " + chunk.payload
    return bytes([chunk.stream]) + b"\0\0\0" + len(body).to_bytes(4, "big") + body


def _line(n: int) -> Record:
    return Record(stamp(NOON + timedelta(seconds=n)), "1", b"%d" % n)


def _seconds() -> Iterator[datetime]:
    for n in range(10**6):
        yield NOON + timedelta(seconds=n)


async def _never(_: float) -> None:
    return None


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
