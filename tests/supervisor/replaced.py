"""A node whose engine is replaced: what its supervisor has done then, and who has which lease."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from service.domain.states import State
from service.ledger.leases import Lease
from tests.supervisor.bucket import Bucket
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.world import PROJECT, World, fake_engine, volume
from tests.support.waiting import until


def another_engine(world: World) -> None:
    """The node has another engine from now on, which knows nothing of the one before."""
    world.engine = fake_engine()
    world.fake._info = replace(world.fake._info, id="FAKE:OTHER")


async def submitted(world: World, bucket: Bucket, state: State = State.RUNNING, **asked: Any) -> UUID:
    """A job that is in this state, and whose volume has something."""
    job = await world.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)], **asked)
    await world.reach(job, state)
    await until(world.volume(job).exists, what="its volume is there")
    (world.volume(job) / "model").write_bytes(b"weights")
    return job


async def swept(world: World) -> None:
    """A whole sweep has begun and ended."""
    for _ in range(2):
        left = world.settings.user_volumes_dir / PROJECT / str(uuid4())
        left.mkdir(parents=True)
        await until(partial(_is_gone, left), what="a volume of nobody goes, after those of runs")


def _is_gone(path: Path) -> bool:
    return not path.exists()


async def nobody_holds(world: World, engine_id: str) -> bool:
    return not any(each.held for each in await world.ledger.leases() if each.engine == engine_id)


def asks_for_lease(world: World, engine_id: str = "") -> asyncio.Queue[Lease | None]:
    """What is answered from now on to who asks for the lease of this engine, or of any."""
    answers: asyncio.Queue[Lease | None] = asyncio.Queue()
    take = world.ledger.take_lease

    async def asked(engine: str, *how: Any, **more: Any) -> Lease | None:
        lease = await take(engine, *how, **more)
        if engine_id in ("", engine):
            answers.put_nowait(lease)
        return lease

    world.ledger.take_lease = asked  # type: ignore[method-assign]
    return answers


async def given_to_another(world: World, engine_id: str) -> Lease:
    """Somebody took the lease when it was over, which nobody has noticed yet."""
    connection = await asyncpg.connect(world.url)
    try:
        await connection.execute(
            "UPDATE jobyard.leases SET expires_at = renewed_at WHERE engine = $1", engine_id
        )
    finally:
        await connection.close()
    lease = await world.ledger.take_lease(engine_id, "elsewhere/1", 3600.0)
    assert lease is not None
    return lease
