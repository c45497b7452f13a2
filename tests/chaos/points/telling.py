"""A story told on ground of its own, with a crash at one point or none, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import aiohttp

from service.config import Settings
from service.supervisor.data import StoreAccess
from tests.acceptance.crashing import Witness
from tests.chaos.points.ground import DEADLINE_S, Ground, Nursery, ground
from tests.chaos.points.points import crossed
from tests.chaos.points.story import Broken, Story, User, told
from tests.chaos.points.verdict import Seen, problems, seen

#: After a crash at these there is no service for longer than its lease lasts.
LONG_AWAY = ("engine create, after #1",)
AWAY_S = Settings().lease_ttl_s + 5


@dataclass(frozen=True)
class Outcome:
    """Of one story with one point: whether the process was ended there, and all that was wrong then."""

    story: str
    point: str
    crashed: bool
    wrong: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.story}, {self.point}: {'; '.join(self.wrong) or 'nothing wrong'}"


@dataclass
class Stage:
    """Where all stories are told."""

    nursery: Nursery
    template: str
    access: StoreAccess
    folder: Path
    witness: Witness
    _told: int = 0

    async def reference(self, story: Story) -> tuple[Seen, list[str]]:
        """The story without a crash: what is to come of it each time, and the points that it crosses."""
        async with self._ground(None, None) as made:
            job = await self._tell(made, story)
            expected = await seen(made, job)
            wrong = await problems(made, story, job, expected, self.witness)
            assert not wrong, wrong
            return expected, crossed(made.points)

    async def crash(
        self, story: Story, point: str, reference: asyncio.Future[Seen], plant: str | None = None
    ) -> Outcome:
        """The story with a crash at this point. `reference`: what comes of it without one."""
        async with self._ground(point, plant, AWAY_S if point in LONG_AWAY else 0.0) as made:
            wrong: list[str] = []
            try:
                job = await self._tell(made, story)
                wrong += await problems(made, story, job, await reference, self.witness)
            except (Broken, AssertionError, TimeoutError) as error:
                wrong.append(str(error) or type(error).__name__)
            return Outcome(story.name, point, made.crashes > 0, tuple(wrong))

    def _ground(
        self, point: str | None, plant: str | None, away_s: float = 0.0
    ) -> AbstractAsyncContextManager[Ground]:
        self._told += 1
        folder = self.folder / str(self._told)
        return ground(
            self.nursery, self.template, self.access, folder, crash_at=point, plant=plant, away_s=away_s
        )

    async def _tell(self, made: Ground, story: Story) -> UUID:
        """Tell it while somebody keeps a service at work, and stop that in order."""
        headers = {"Authorization": f"Bearer {made.token}"}
        async with aiohttp.ClientSession(headers=headers) as http, made.looked_after() as looking:
            telling = asyncio.create_task(told(User(made, http), story))
            try:
                await asyncio.wait({looking, telling}, return_when=asyncio.FIRST_COMPLETED)
                if not telling.done():
                    await looking
                found = await telling
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
            async with asyncio.timeout(DEADLINE_S):
                await made.stop(looking)
            return found


async def crashes(
    stage: Stage, work: Sequence[tuple[Story, str, asyncio.Future[Seen]]], at_once: int
) -> list[Outcome]:
    """Many stories, so many of them at once; their outcomes in the same order."""
    turns = asyncio.Semaphore(at_once)

    async def one(story: Story, point: str, reference: asyncio.Future[Seen]) -> Outcome:
        async with turns:
            return await stage.crash(story, point, reference)

    return list(await asyncio.gather(*(one(*each) for each in work)))
