"""What counts of large events, and for how long: live streams, with clients that take them or do not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from service.api.events.in_hand import FORMS, LARGE_BYTES, Waiting
from service.api.events.pieces import Piece
from service.api.events.stream import Batch, Stream
from service.domain.events import Event, Info, RunNoted
from service.domain.filters import EventFilter
from service.held import Room
from service.ledger.labels import Labelled


def piece(position: int, size: int = 100_000) -> Piece:
    at = datetime(2026, 11, 29, tzinfo=UTC)
    event = Event(
        position=position,
        project="alpha",
        job=UUID(int=7),
        run=1,
        body=RunNoted(info=Info("waiting", "x" * size)),
        occurred_at=at,
        recorded_at=at,
        actor="test",
        command_id=UUID(int=position),
    )
    return Piece(Labelled(event, {}), "urn:test")


class Client:
    """A stream that is live and waits; whether its client has `room`, and still has it after it was sent."""

    def __init__(self, room: Room) -> None:
        feed: Any = None  # a live stream does not ask it
        self.stream = Stream(feed, EventFilter(project="alpha"), 0)
        self.stream.live = True
        self.stream.sink = self
        self.was_cut = 0
        self.stream.waiting = Waiting(room, "alpha", self._cut)
        self.room = self.room_after = True
        self.taken: list[int] = []
        self.task = asyncio.create_task(self.stream.batch(3600.0))

    def _cut(self) -> None:
        self.was_cut += 1

    def takes(self) -> bool:
        return self.room

    def send(self, batch: Batch) -> None:
        self.taken += [each.position for each in batch.pieces]
        self.room = self.room_after

    def come(self, *pieces: Piece) -> None:
        for each in pieces:
            self.stream.push(each)
        self.stream.hand_on()

    async def batch(self) -> Batch:
        """What its task is woken with, which it then asks to be followed."""
        async with asyncio.timeout(20):
            batch = await self.task
        self.task = asyncio.create_task(self.stream.batch(3600.0))
        await asyncio.sleep(0)
        return batch


async def clients(room: Room, count: int) -> list[Client]:
    made = [Client(room) for _ in range(count)]
    await asyncio.sleep(0)
    return made


def end(made: list[Client]) -> None:
    for each in made:
        each.task.cancel()
        assert each.stream.waiting is not None
        each.stream.waiting.leave()


def weight(*pieces: Piece) -> int:
    return FORMS * sum(len(each.json) for each in pieces)


async def test_who_takes_a_large_event_at_once_holds_nothing() -> None:
    one = piece(1)
    room = Room(weight(one) - 1)
    made = await clients(room, 1000)
    for each in made:
        each.come(one)
    assert room.bytes == 0 and not any(each.was_cut for each in made)
    assert all(each.taken == [1] and not each.task.done() for each in made), "and nobody is woken for it"
    end(made)


async def test_what_many_have_still_to_take_is_held_once() -> None:
    pieces = [piece(number) for number in range(1, 6)]
    room = Room(weight(*pieces))
    made = await clients(room, 200)
    for each in made:
        each.room = False
        each.come(*pieces)
    assert room.bytes == weight(*pieces) and not any(each.was_cut for each in made)
    for at in range(1, 6):  # each of them takes one after the other
        for each in made:
            assert [each.position for each in (await each.batch()).pieces] == [at]
        await asyncio.sleep(0)
    assert room.bytes == 0
    assert not any(each.stream._large for each in made), "no queue is looked through for them any more"
    end(made)


async def test_an_event_that_its_client_has_no_room_for_counts_until_it_has_gone_out() -> None:
    """The task is woken with nothing, to wait for that."""
    one, room = piece(1), Room(10**9)
    (client,) = await clients(room, 1)
    client.room_after = False
    client.come(one)
    assert (client.taken, room.bytes) == ([1], weight(one))
    async with asyncio.timeout(20):
        batch = await client.task
    assert (batch.pieces, batch.position, room.bytes) == ([], 1, weight(one))
    client.task = asyncio.create_task(client.stream.batch(3600.0))
    await asyncio.sleep(0)
    assert room.bytes == 0
    end([client])


async def test_while_a_client_is_written_to_what_comes_counts() -> None:
    first, second, small = piece(1), piece(2), piece(3, LARGE_BYTES // 2)
    room = Room(10**9)
    (client,) = await clients(room, 1)
    client.room = False
    client.come(first)
    assert (await client.task).pieces == [first]
    client.come(second, small)
    assert room.bytes == weight(first, second), "one is being written, one waits; small ones are not weighed"
    end([client])
    assert room.bytes == 0


async def test_a_cut_ends_all_who_hold_what_it_is_for_and_nobody_else() -> None:
    small, large = piece(1), piece(2, 300_000)
    room = Room(weight(small, large) - 1)
    made = await clients(room, 5)
    for each in made[:4]:
        each.room = False
    for each in made:
        each.come(small)
    for each in made[2:]:
        each.come(large)
    assert [each.was_cut for each in made] == [0, 0, 1, 1, 0]
    assert room.bytes == weight(small)
    end(made[2:])
    made[0].come(large)
    assert made[0].was_cut == 1, "for who comes later it counts anew"
    end(made[:2])
    assert room.bytes == 0 and small.weighed is None and large.weighed is None
