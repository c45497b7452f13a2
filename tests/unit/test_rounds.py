"""Turns that go round: who asks for many waits for himself."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from service.rounds import Rounds


class Waits:
    """Who waits for turns, and in which order they came; each lasts until it is ended."""

    def __init__(self, rounds: Rounds) -> None:
        self.rounds = rounds
        self.came: list[str] = []

    async def asked(self, *names: str) -> list[asyncio.Task[None]]:
        """For the owner that a name begins with."""
        tasks = [asyncio.create_task(self._one(name)) for name in names]
        await settled()
        return tasks

    async def _one(self, name: str) -> None:
        await self.rounds.begin(name[0])
        self.came.append(name)

    async def ended(self, *owners: str) -> None:
        for owner in owners:
            self.rounds.end(owner)
        await settled()


async def settled() -> None:
    """All that can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)


async def let_go(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_owners_take_turns() -> None:
    waits = Waits(Rounds(1))
    await waits.asked("a1", "a2", "a3", "b1", "b2", "c1")
    assert waits.came == ["a1"]
    for owner in "abcaba":
        await waits.ended(owner)
    assert waits.came == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert not waits.rounds._lines and not waits.rounds.busy


async def test_who_has_a_turn_has_the_next_after_all_others() -> None:
    waits = Waits(Rounds(2))
    await waits.asked("x1", "x2", "a1", "a2", "b1")
    for _ in range(2):
        await waits.ended("x")
    assert waits.came == ["x1", "x2", "a1", "b1"]


async def test_whoever_has_fewest_goes_first() -> None:
    waits = Waits(Rounds(3, each=2))
    await waits.asked("a1", "a2", "a3", "a4", "b1", "b2", "c1")
    assert waits.came == ["a1", "a2", "b1"]
    await waits.ended("a")
    assert waits.came[3:] == ["c1"], "he had none"
    await waits.ended("a")
    assert waits.came[4:] == ["a3"], "he has none by now, and b one"
    await waits.ended("b", "c")
    assert waits.came[5:] == ["b2", "a4"]
    assert waits.rounds.waiting_in_all() == 0


async def test_an_owner_has_no_more_than_his_share() -> None:
    waits = Waits(Rounds(3, each=1))
    await waits.asked("a1", "a2", "b1")
    assert waits.came == ["a1", "b1"]
    assert (waits.rounds.waiting("a"), waits.rounds.waiting("b"), waits.rounds.waiting("z")) == (1, 0, 0)
    await waits.ended("b")
    assert waits.came == ["a1", "b1"]
    await waits.ended("a")
    assert waits.came == ["a1", "b1", "a2"]


async def test_who_gave_up_before_his_turn_takes_none() -> None:
    waits = Waits(Rounds(1))
    _, second, third = await waits.asked("a1", "b1", "b2")
    await let_go(second)
    assert waits.rounds.waiting("b") == 1
    await waits.ended("a")
    assert waits.came == ["a1", "b2"]
    await third
    await waits.ended("b")
    (first, gives_up) = await waits.asked("a2", "c1")
    await first
    await let_go(gives_up)
    assert set(waits.rounds._lines) == {"a"}, "nothing of c is left"


async def test_a_turn_that_came_to_who_is_given_up_is_the_next_ones() -> None:
    """Both in the same turn of the loop: it had come, and nobody was told any more."""
    waits = Waits(Rounds(1))
    _, second, _ = await waits.asked("a1", "b1", "c1")
    waits.rounds.end("a")
    await let_go(second)
    await settled()
    assert waits.came == ["a1", "c1"]
    _, second, _ = await waits.asked("a2", "d1", "d2")
    second.cancel()
    waits.rounds.end("c")  # and the other way round
    await settled()
    await waits.ended("a")
    assert waits.came == ["a1", "c1", "a2", "d2"]
    await waits.ended("d")
    assert not waits.rounds._lines and not waits.rounds.busy


async def test_a_turn_ends_with_what_is_done_in_it() -> None:
    rounds = Rounds(1)
    with pytest.raises(ValueError, match="wrong"):
        async with rounds.turn("a"):
            raise ValueError("wrong")
    async with asyncio.timeout(10), rounds.turn("b"):
        pass
