"""Two databases of one ledger, as a copy or a backup restored beside the original, and one engine."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from service.domain.states import State
from service.ledger.ledger import Ledger
from service.local import first_run
from tests.supervisor.lab import DONE, RUNS_ON
from tests.supervisor.world import MASTER, World, database, fake_engine, settings_of
from tests.support import databases
from tests.support.waiting import until


class Twins(NamedTuple):
    """The ledgers have one id and know of each other's jobs of before only: there are none."""

    original: World
    copy: World


@pytest.fixture
async def twins(template_database: str, tmp_path: Path) -> AsyncIterator[Twins]:
    settings, engine = settings_of(tmp_path), fake_engine()
    async with database(template_database) as url:
        async with Ledger.open(url, MASTER) as ledger:
            await first_run.prepare(ledger, settings, None)
        name = f"jobyard_test_{uuid4().hex[:16]}"
        copied = await databases.make(name, urlsplit(url).path[1:])
        try:
            async with Ledger.open(url, MASTER) as ledger, Ledger.open(copied, MASTER) as other:
                yield Twins(World(url, ledger, settings, engine), World(copied, other, settings, engine))
        finally:
            await databases.drop(name)


async def logged(lines: Sequence[MutableMapping[str, Any]], text: str) -> str:
    await until(lambda: any(text in line["event"] for line in lines), what=f"{text!r} is logged")
    return str(next(line["event"] for line in lines if text in line["event"]))


async def test_a_copy_leaves_an_engine_alone_that_the_original_has(twins: Twins) -> None:
    original, copy = twins
    async with original.supervised():
        job = await original.submit(RUNS_ON)
        await original.reach(job, State.RUNNING)
        with capture_logs() as lines:
            async with copy.supervised(ready=False) as second:
                said = await logged(lines, "the engine is of another database of this ledger")
                assert "Stop the service of the other one" in said and not second.ready.is_set()
                other = await copy.submit(DONE)
        assert len(await original.containers(job)) == 1
        await original.kill(job)
        assert (await original.end(job)).state is State.INTERRUPTED
    async with copy.supervised():
        assert (await copy.end(other)).state is State.DONE, "nobody's containers are there any more"


async def test_what_runs_while_the_original_is_down_is_removed_at_the_operators_word_only(
    twins: Twins,
) -> None:
    original, copy = twins
    async with original.supervised():
        job = await original.submit(RUNS_ON)
        await original.reach(job, State.RUNNING)
    with capture_logs() as lines:
        async with copy.supervised(ready=False) as second:
            said = await logged(lines, "restored from its backup")
            async with original.supervised():
                assert (await original.ledger.job(job)).state is State.RUNNING
            assert len(await original.containers(job)) == 1 and not second.ready.is_set()
            found = re.search(r"remove (\S+\.lock):", said)
            assert found is not None
            Path(found[1]).unlink()
            await second.ready.wait()

            async def is_gone() -> bool:
                return not await original.containers(job)

            await until(is_gone, what="the container is put away")


async def test_an_engine_that_is_idle_is_the_originals_too_while_that_one_is_there(twins: Twins) -> None:
    original, copy = twins
    async with original.supervised():
        with capture_logs() as lines:
            async with copy.supervised(ready=False) as second:
                await logged(lines, "the engine is of another database of this ledger")
                assert not second.ready.is_set()
