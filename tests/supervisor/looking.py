"""Worlds whose jobs have little storage, and engines that keep what each look at it found."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from service.domain.flavors import Catalogue
from service.domain.states import State
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.storage.usage import Usage
from tests.images import BUSYBOX
from tests.supervisor.lab import Behaviour, shell
from tests.supervisor.world import CATALOGUE, MIB, GatedEngine, World
from tests.support.engine.scripted import Script
from tests.support.waiting import until

LIMIT = 8 * MIB
SMALL = Catalogue(tuple(replace(flavor, ephemeral_storage=LIMIT) for flavor in CATALOGUE.flavors))
GOES_ON = "; echo ready; while :; do sleep 0.05; done"


def writes(text: str, of_it: int = 0) -> Behaviour:
    """A shell text that ends by running on; `of_it` is what the fake's container takes then."""
    return Behaviour(shell(text + GOES_ON), Script(writes_bytes=of_it, output=((1, b"ready\n"),)))


def fills(path: str, mebibytes: int) -> str:
    return f"head -c {mebibytes * MIB} /dev/zero > {path}"


class Looks:
    """An engine that keeps what each look at a container's storage found. `may_look` holds them back."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.looks: list[int] = []
        self.may_look = asyncio.Event()
        self.may_look.set()

    async def usage(self, container_id: str) -> Usage:
        await self.may_look.wait()
        found: Usage = await super().usage(container_id)  # type: ignore[misc]
        self.looks.append(found.bytes)
        return found


class LookingDocker(Looks, DockerEngine):
    pass


class LookingFake(Looks, GatedEngine):
    pass


def looking_fake() -> LookingFake:
    fake = LookingFake(lambda: datetime.now(UTC))
    fake.add_image(BUSYBOX, from_registry=False)
    return fake


async def looked(made: World, times: int) -> None:
    """So many whole looks from now on."""
    engine: Any = made.engine
    enough = len(engine.looks) + times + 1
    await until(lambda: len(engine.looks) >= enough, what=f"{times} looks")


async def written(made: World, job: UUID) -> None:
    """Look from the moment on at which the job has written all that it writes."""
    engine: Any = made.engine
    await made.reach(job, State.RUNNING)
    await made.printed(job)
    engine.may_look.set()
