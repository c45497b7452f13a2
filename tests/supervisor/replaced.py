"""A node whose engine is replaced, and what its supervisor has done then."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from service.domain.states import State
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
