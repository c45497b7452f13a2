"""The place that all attacks share, and how they are made at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from service.supervisor.data import Store, StoreAccess
from service.supervisor.logs.writer import LogLimits
from tests.chaos.hostile.beyond import Beyond
from tests.chaos.hostile.image import NAME
from tests.supervisor.bucket import Bucket
from tests.supervisor.lab import DONE, Behaviour
from tests.supervisor.world import World, env
from tests.support.https import Site

#: In the short form; an archive may have no more either.
MOST_OBJECTS = 1000
#: What an attack counted, for the table.
Counts = dict[str, int | str]


@dataclass
class Place:
    """One yard with a node, a store and a site. `beyond` is a machine outside, `neighbour` the address of
    somebody else's job, `host` a folder of the host's."""

    world: World
    store: Store
    access: StoreAccess
    site: Site
    beyond: Beyond
    host: Path
    long: bool
    logs: LogLimits
    neighbour: str = ""
    #: How long a job that has taken too much waits to be found out, before it ends by itself.
    patience_s: float = 300.0
    #: How many files a volume may have.
    most_objects: int = MOST_OBJECTS
    #: So often at most is pushed what is being swapped; 0 stands for as often as the form says.
    tries: int = 0

    def times(self, *, short: int, long: int) -> int:
        """How much of it."""
        return long if self.long else short

    async def bucket(self) -> Bucket:
        """A container of the store for one attack."""
        name = f"test-{uuid4().hex[:16]}"
        await self.store.ensure_container(name)
        return Bucket(name, self.store)

    async def submit(self, text: str, *, variables: Mapping[str, object] | None = None, **asked: Any) -> UUID:
        """A job that runs this Python."""
        given = {name: str(value) for name, value in (variables or {}).items()}
        runs = Behaviour(("python3", "-c", text), DONE.script)
        return await self.world.submit(runs, image=NAME, env_vars=env(**given), **asked)


Attack = Callable[[Place], Awaitable[Counts]]


async def at_once(attacks: Mapping[str, Attack], place: Place) -> tuple[dict[str, Counts], dict[str, str]]:
    """Make all attacks at the same time; what those counted that were answered as they must be, and what is
    wrong with the answer to the others."""
    came = await asyncio.gather(*(attack(place) for attack in attacks.values()), return_exceptions=True)
    counted: dict[str, Counts] = {}
    wrong: dict[str, str] = {}
    for name, counts in zip(attacks, came, strict=True):
        if isinstance(counts, BaseException):
            wrong[name] = f"{type(counts).__name__}: {counts}"
        else:
            counted[name] = counts
    return counted, wrong
