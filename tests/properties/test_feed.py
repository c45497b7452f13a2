"""The feed over a scripted ledger: whatever falls behind, joins or fails when, each stream is exact."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.events import feed, stream
from service.api.events.feed import Feed, Page
from service.api.events.stream import Batch, Stream
from service.domain.events import Body, Event, LabelSet, QuotaSet, RunPrepared
from service.domain.filters import EventFilter
from service.domain.selectors import parse_selector
from service.domain.states import State
from service.errors import Unavailable
from service.ledger.labels import Labelled
from service.ledger.read import Head, Looked, Mark

AT = datetime(2026, 11, 28, tzinfo=UTC)
JOBS = [UUID(int=number) for number in (1, 2, 3)]
BODIES: list[Body] = [
    RunPrepared(source=State.INITIALIZING, target=State.PENDING, kind="cpu", units=1),
    LabelSet(name="a", value="b"),
    QuotaSet(cpu=1, gpu=1),
]
FILTERS = [
    EventFilter(project="alpha"),
    EventFilter(project="beta"),
    EventFilter(project="alpha", jobs=frozenset(JOBS[:1])),
    EventFilter(project="alpha", jobs=frozenset(JOBS[1:]), types=frozenset({"LabelSet"})),
    EventFilter(project="alpha", types=frozenset({"QuotaSet", "RunPrepared"})),
    EventFilter(project="beta", states=frozenset({State.PENDING, State.DONE})),
    EventFilter(project="alpha", selector=parse_selector("labelSelector", "stage=prod")),
    EventFilter(project="nobody's"),
]
QUEUED, KEPT, PAGE, LOOK = 3, 5, 4, 4
#: Of events of some 400 bytes.
KEPT_BYTES = 1300
STEPS = 250


class Scripted:
    """A ledger whose answers come when the script says so, and may be errors."""

    def __init__(self) -> None:
        self.events: list[Labelled] = []
        self.hints = 0
        self.year = AT.year
        self._pending: list[tuple[asyncio.Future[None], Callable[[], Any]]] = []
        self._moved = asyncio.Event()

    def append(self, project: str, job: UUID | None, body: Body, stage: str) -> None:
        event = Event(
            position=len(self.events) + 1,
            project=project,
            job=job,
            body=body,
            occurred_at=AT,
            recorded_at=AT.replace(year=self.year),
            actor="a",
            command_id=UUID(int=9),
        )
        self.events.append(Labelled(event, {"stage": stage} if job else {}))
        self.hints += 1
        self._moved.set()

    def answer(self, which: int, error: Exception | None = None) -> bool:
        """Let one of those who wait have their answer."""
        if not self._pending:
            return False
        future, _ = self._pending.pop(which % len(self._pending))
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        return True

    async def _asked(self, answer: Callable[[], Any], *, early: bool) -> Any:
        """What was there when it was asked for, or when it is answered: a database's may be either."""
        found = answer() if early else None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((future, answer))
        await future
        return found if early else answer()

    def fail_over(self, kept: int) -> None:
        """To one that has only the first of the events; what comes there comes a year later."""
        self.year += 1
        del self.events[kept:]
        self.hints += 1
        self._moved.set()

    async def moved(self, since: int) -> None:
        if self.hints == since:
            self._moved.clear()
            await self._moved.wait()

    def hash_at(self, position: int) -> bytes:
        return b"%d of %d" % (position, self.events[position - 1].event.recorded_at.year) if position else b""

    async def page(self, after: Mark) -> Page | None:
        at = after.position

        def answer() -> Page | None:
            if at > len(self.events) or self.hash_at(at) != after.hash:
                return None
            found = self.events[at : at + PAGE]
            end = at + len(found)
            return Page(found, Mark(end, self.hash_at(end)))

        found: Page | None = await self._asked(answer, early=at % 2 == 0)
        return found

    async def look(self, asked: EventFilter, after: int) -> Looked:
        def answer() -> Looked:
            end = min(len(self.events), max(after, after + 7))
            wanted = [each for each in self.events[after:end] if asked.wants(*each)][:LOOK]
            upto = wanted[-1].event.position if len(wanted) == LOOK else max(after, end)
            return Looked(wanted, upto, len(self.events), self.hash_at(len(self.events)))

        found: Looked = await self._asked(answer, early=after % 3 == 0)
        return found


class Reader:
    """One client: what it took, checked with each batch against the whole ledger.

    It waits for long, and is woken by the next `take` as by its time; with `room` it is a sink as well.
    """

    def __init__(self, ledger: Scripted, stream: Stream, after: int) -> None:
        self._ledger = ledger
        self._stream = stream
        self._after = after
        self._taking: asyncio.Task[Batch] | None = None
        self.seen: list[int] = []
        self.position = after
        self.room = False
        stream.sink = self

    def take(self) -> None:
        if self._taking is None:
            self._taking = asyncio.create_task(self._stream.batch(3600.0))
        else:
            self._stream._wake()

    @property
    def reads(self) -> bool:
        """Whether it may be reading the ledger by itself."""
        return self._taking is not None and not self._stream.live

    def takes(self) -> bool:
        return self.room

    def send(self, batch: Batch) -> None:
        self._took(batch)

    def settle(self) -> None:
        count, _ = self._stream.queued
        assert count <= QUEUED
        if self._taking is None or not self._taking.done():
            return
        batch, self._taking = self._taking.result(), None
        self._took(batch)

    def _took(self, batch: Batch) -> None:
        assert batch.position >= self.position
        self.position = batch.position
        self.seen += [piece.position for piece in batch.pieces]
        assert self.seen == [
            each.event.position
            for each in self._ledger.events[self._after : self.position]
            if self._stream.asked.wants(*each)
        ]

    def stop(self) -> None:
        if self._taking is not None:
            self._taking.cancel()


class World:
    """A feed, its ledger and its clients; one step of a script at a time."""

    def __init__(self) -> None:
        self.ledger = Scripted()
        self.feed = Feed(self.ledger)
        self.readers: list[tuple[Reader, ExitStack]] = []
        self.joined = self.fell = 0

    async def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("append", events):
                for event in events:
                    self.ledger.append(*event)
            case ("open", number, after):
                self.open(FILTERS[number], min(after, len(self.ledger.events)))
            case ("close", number) if self.readers:
                reader, life = self.readers.pop(number % len(self.readers))
                reader.stop()
                life.close()
            case ("take", number) if self.readers:
                self.readers[number % len(self.readers)][0].take()
            case ("room", number) if self.readers:
                reader = self.readers[number % len(self.readers)][0]
                reader.room = not reader.room
            case ("answer", which):
                self.ledger.answer(which)
            case ("fail", which):
                self.ledger.answer(which, Unavailable("Postgres did not answer"))
            case ("break", which) if not any(reader.reads for reader, _ in self.readers):
                self.ledger.answer(which, RuntimeError("nobody expected this"))  # of the feed alone
        await self.settle()

    def open(self, asked: EventFilter, after: int) -> None:
        life = ExitStack()
        head = Head(UUID(int=5), 1, len(self.ledger.events), b"")
        stream = life.enter_context(self.feed.opened(asked, after, head))
        self.readers.append((Reader(self.ledger, stream, after), life))

    async def settle(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)
        for reader, _ in self.readers:
            reader.settle()
        kept = self.feed._kept
        assert len(kept) <= feed.KEPT
        assert sum(len(piece.json) for piece in kept) == self.feed._kept_bytes <= feed.KEPT_BYTES
        assert self.feed._by_position == {piece.position: piece for piece in kept}
        assert not kept or kept[0].position == self.feed._floor + 1

    async def finish(self) -> None:
        """Everybody gets to the end."""
        head = len(self.ledger.events)
        for _ in range(40 + 20 * head):
            if all(reader.position >= head for reader, _ in self.readers):
                return
            for reader, _ in self.readers:
                reader.take()
            await self.settle()
            while self.ledger.answer(0):
                await self.settle()
        raise AssertionError([(reader.position, head) for reader, _ in self.readers])


def script(chance: Random) -> Iterator[tuple[Any, ...]]:
    """Long, and made so that what is rare happens often: streams that are ahead, and feeds without any."""
    for _ in range(STEPS):
        number = chance.randrange(8)
        match chance.choices(range(8), (6, 4, 4, 14, 14, 2, 1, 6))[0]:
            case 0:
                yield "append", [_event(chance) for _ in range(chance.randint(1, 6))]
            case 1:
                yield "open", number, chance.choice((0, 10**6, chance.randrange(60)))
            case 2:
                yield "close", number
            case 3:
                yield "take", number
            case 4:
                yield "answer", number
            case 5:
                yield "fail", number
            case 6:
                yield "break", number
            case 7:
                yield "room", number


def _event(chance: Random) -> tuple[Any, ...]:
    return (
        chance.choice(("alpha", "alpha", "beta")),
        chance.choice((*JOBS, None)),
        chance.choice(BODIES),
        chance.choice(("prod", "test")),
    )


@settings(max_examples=40)
@given(st.randoms(use_true_random=True))
def test_every_stream_is_exact_however_things_fall_together(chance: Random) -> None:
    async def story() -> None:
        world = World()
        running = asyncio.create_task(world.feed.run())
        for step in script(chance):
            await world.do(step)
        await world.finish()
        assert not running.done()
        running.cancel()
        for reader, _ in world.readers:
            reader.stop()

    few_bytes = chance.random() < 0.5
    bounds = [
        (stream, "MOST_QUEUED", QUEUED),
        (stream, "RETRY_S", 0.0),
        (feed, "RETRY_S", 0.0),
        (feed, "KEPT", KEPT),
        (feed, "KEPT_BYTES", KEPT_BYTES if few_bytes else feed.KEPT_BYTES),
    ]
    with ExitStack() as patched:
        for room, name, value in bounds:
            patched.enter_context(patch.object(room, name, value))
        asyncio.run(story())


def test_a_page_that_was_asked_for_before_the_feed_began_elsewhere_is_not_handed_out() -> None:
    """The stream that it was for has left; one that is further back came while the page was on its way."""

    async def story() -> None:
        world = World()
        running = asyncio.create_task(world.feed.run())
        event = ("alpha", JOBS[0], BODIES[1], "prod")
        await world.do(("append", [event] * 3))
        world.open(FILTERS[0], 0)
        for step in (("take", 0), ("answer", 0), ("take", 0)):
            await world.do(step)  # the first has caught up at 3, and the feed asks for what follows
        world.open(FILTERS[0], 0)
        await world.do(("take", 1))  # the second looks, and finds three
        early = len(world.ledger.events)
        await world.do(("append", [event] * 2))
        await world.do(("answer", 0))  # the feed hands out 4 and 5, and asks for what follows 5
        await world.do(("append", [event]))
        await world.do(("close", 0))
        second, _ = world.readers[0]
        await world.do(("answer", 0))
        await world.do(("take", 0))
        assert second.position == early, "it joined a feed that begins anew there"
        await world.do(("answer", 0))  # what follows 5
        await world.finish()
        assert second.seen == [1, 2, 3, 4, 5, 6]
        running.cancel()

    asyncio.run(story())


def test_what_comes_is_left_at_once_with_a_client_that_has_room() -> None:
    """Its task goes on waiting, for the time of its heartbeat; without room it is woken. Nothing is lost."""

    async def story() -> None:
        world = World()
        running = asyncio.create_task(world.feed.run())
        event = ("alpha", JOBS[0], BODIES[1], "prod")
        world.open(FILTERS[0], 0)
        reader, _ = world.readers[0]
        for step in (("take", 0), ("answer", 0), ("take", 0), ("take", 0), ("room", 0)):
            await world.do(step)  # it has caught up, has joined, and waits
        waiting = reader._taking
        assert waiting is not None
        await world.do(("append", [event] * 2))
        while not reader.seen:
            await world.do(("answer", 0))
        assert (reader.seen, reader.position, waiting.done()) == ([1, 2], 2, False)
        await world.do(("room", 0))
        await world.do(("append", [event]))
        while len(reader.seen) < 3:
            await world.do(("answer", 0))
        assert (reader.seen, reader._taking, waiting.done()) == ([1, 2, 3], None, True)
        running.cancel()

    asyncio.run(asyncio.wait_for(story(), 20.0))


@pytest.mark.parametrize("since", [0, 1, 2, 5])
def test_after_a_failover_that_lost_events_the_streams_end_and_are_sent_nothing_more(since: int) -> None:
    """Also when others brought the ledger as far, or further: what follows is not what they were sent."""

    async def story() -> None:
        world, ended = World(), []
        world.feed = Feed(world.ledger, lost=lambda: ended.append(1))
        running = asyncio.create_task(world.feed.run())
        event = ("alpha", JOBS[0], BODIES[1], "prod")
        await world.do(("append", [event] * 3))
        for _ in range(2):
            world.open(FILTERS[0], 0)
        for step in (("take", 0), ("answer", 0), ("take", 0), ("take", 0)):
            await world.do(step)  # the first has caught up and waits; the second has not begun
        await world.do(("append", [event]))
        while world.readers[0][0].seen != [1, 2, 3, 4]:
            await world.do(("answer", 0))
        while world.ledger.answer(0):
            await world.settle()
        world.ledger.fail_over(2)
        await world.do(("append", [event] * since))
        for _ in range(10):
            await world.do(("take", 0))
            await world.do(("answer", 0))
        await world.do(("take", 1))
        assert ended == [1]
        assert [reader.seen for reader, _ in world.readers] == [[1, 2, 3, 4], []]
        for reader, life in world.readers:
            reader.stop()
            life.close()
        del world.readers[:]
        world.open(FILTERS[0], 2)
        await world.finish()
        new, _ = world.readers[0]
        assert new.seen == list(range(3, 3 + since))
        await world.do(("append", [event]))
        await world.finish()
        assert new.seen == list(range(3, 4 + since))
        assert ended == [1]
        new.stop()
        running.cancel()

    asyncio.run(asyncio.wait_for(story(), 20.0))


def test_a_stream_that_reads_by_itself_beyond_the_ledgers_end_ends() -> None:
    """It was let in just before the failover."""

    async def story() -> None:
        world, ended = World(), []
        world.feed = Feed(world.ledger, lost=lambda: ended.append(1))
        running = asyncio.create_task(world.feed.run())
        event = ("alpha", JOBS[0], BODIES[1], "prod")
        await world.do(("append", [event] * 4))
        world.open(FILTERS[0], 4)
        world.ledger.fail_over(2)
        world.open(FILTERS[0], 0)
        for step in (("take", 1), ("answer", 0), ("take", 1), ("take", 0), ("answer", 1)):
            await world.do(step)  # the feed has begun anew with the second
        await world.do(("append", [event] * 3))
        for _ in range(10):
            await world.do(("take", 0))
            await world.do(("answer", 0))
        assert ended == [1]
        assert [reader.seen for reader, _ in world.readers] == [[], [1, 2]]
        for reader, _ in world.readers:
            reader.stop()
        running.cancel()

    asyncio.run(asyncio.wait_for(story(), 20.0))
