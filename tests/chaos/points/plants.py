"""Bugs for the harness to find. Each is put into a process of the tests, and is nowhere in the product."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from service.domain.commands import AdoptRun
from service.domain.job import Job
from service.ledger import commit as committing
from service.ledger import writer
from service.supervisor import container
from service.supervisor.effects import Yard
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.protocol import Container, ContainerSpec
from service.supervisor.steps import Steps
from tests.chaos.points import seams

#: Long enough that the caller has heard and looks, on a machine that others use too.
_LATE_S = 5.0


def adopts_nothing() -> None:
    """Knows the containers that it made itself, and gives each a name of its own."""
    mine: set[str] = set()
    find, create = container.find, DockerEngine.create

    async def finds(*args: Any) -> Container | None:
        found = await find(*args)
        return found if found is not None and found.id in mine else None

    async def creates(self: DockerEngine, spec: ContainerSpec, **more: Any) -> str:
        made = await create(self, spec, **more)
        mine.add(made)
        return made

    _put(container, "find", finds)
    _put(DockerEngine, "create", creates)
    _put(container, "container_name", lambda _, run, _attempt=1: f"job-{run.job}-{uuid4().hex[:8]}")


def removes_before_it_reports() -> None:
    """Takes a container away as soon as its process has ended, and only then says how it ended."""
    report = Steps._report_exit

    async def reports(self: Steps, job: Job, found: Container, **more: Any) -> None:
        await self._yard.engine.remove(found.id, force=True)
        await report(self, job, found, **more)

    _put(Steps, "_report_exit", reports)


def answers_before_it_commits() -> None:
    """Callers of the writer hear of a commit that is still to come."""
    transaction = seams.Connection.transaction
    late: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def early(self: seams.Connection) -> AsyncIterator[None]:
        if late:
            await asyncio.wait(late)
        begun, over = asyncio.Event(), asyncio.Event()

        async def commits() -> None:
            async with transaction(self):
                begun.set()
                await over.wait()
                await asyncio.sleep(_LATE_S)

        task = asyncio.create_task(commits())
        late.add(task)
        task.add_done_callback(late.discard)
        await begun.wait()
        try:
            yield
        finally:
            over.set()

    _put(seams.Connection, "transaction", early)
    # Beside a commit that is late an idle writer would ping on the same connection, and break it.
    _put(writer, "PING_S", 3600.0)


def forgets_what_it_carried_out() -> None:
    """Carries out a command that it carried out before."""

    async def nothing(*_: Any) -> dict[Any, Any]:
        return {}

    _put(committing, "_earlier", nothing)


def tells_no_absence() -> None:
    """Takes runs over, and tells none of them that nobody was there."""
    report = Yard.report

    async def reports(self: Yard, what: Any, job: Job, **more: Any) -> Any:
        return None if what is AdoptRun else await report(self, what, job, **more)

    _put(Yard, "report", reports)


def _put(owner: Any, name: str, planted: Any) -> None:
    setattr(owner, name, planted)


PLANTS: dict[str, Callable[[], None]] = {
    plant.__name__: plant
    for plant in (
        adopts_nothing,
        removes_before_it_reports,
        answers_before_it_commits,
        forgets_what_it_carried_out,
        tells_no_absence,
    )
}
