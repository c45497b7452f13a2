"""Postgres' own disk fills up: writes are refused with 503, nothing that was answered is lost, and all
goes on when there is space again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.api.readiness import FULL
from service.errors import Unavailable
from service.ledger import database, verify
from service.ledger.migrate import migrate
from service.ledger.writer import Writer
from service.local import watch
from service.local.postgres import EmbeddedPostgres
from tests.api.yard import OPERATOR, SPEC, Yard, furnish, opened
from tests.support.chaos import Chaos
from tests.support.mounts import Ballast, small_disk
from tests.support.waiting import until

DISK_MIB = 256
DEADLINE_S = 60.0


@dataclass
class House:
    """An API on a Postgres of its own, which lies on a small disk and is watched over as in earnest."""

    yard: Yard
    ballast: Ballast
    url: str


@asynccontextmanager
async def a_house(tmp_path: Path) -> AsyncIterator[House]:
    with small_disk(DISK_MIB) as disk:
        server = EmbeddedPostgres(disk, say=print)
        await server.start()
        try:
            url = server.url("jobyard")
            await migrate(url)
            async with opened(url, tmp_path / "state", {}) as yard, watch.kept_running([server], print):
                await furnish(yard.ledger)
                await yard.token(OPERATOR, OPERATOR)
                yield House(yard, Ballast(disk), url)
        finally:
            await server.stop()


@dataclass
class Answers:
    """To so many submits: the ids that were taken, each status, and how many 503 had no Retry-After."""

    taken: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    silent: int = 0

    async def submitted(self, yard: Yard) -> None:
        """Submit one more and end it, so that no quota is in the way."""
        answer = await yard.call("POST", "/v1/job", SPEC | {"name": "n" * 40, "labels": {"a": "b" * 60}})
        self.statuses[answer.status] += 1
        self.silent += answer.status == 503 and "Retry-After" not in answer.headers
        if answer.status == 200:
            self.taken.add(answer.json["id"])
            await yard.call("PUT", f"/v1/job/{answer.json['id']}/kill")


@pytest.mark.fails_inside  # while the bug is planted; the test itself looks at every other answer
async def test_a_full_postgres_refuses_and_forgets_nothing(
    tmp_path: Path, chaos: Chaos, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = chaos.times(short=30, long=3000)
    async with a_house(tmp_path) as house:
        before, meanwhile = Answers(), Answers()
        for _ in range(20):
            await before.submitted(house.yard)
        assert set(before.statuses) == {200}
        house.ballast.leave_nothing()
        # First, as a Postgres that has no space for long goes down, and says nothing of its disk then.
        with monkeypatch.context() as planted, capture_logs():  # a traceback for people costs seconds
            await a_writer_that_lets_it_through_is_found(house, planted, meanwhile)
        while meanwhile.statuses[503] < refusals:
            await meanwhile.submitted(house.yard)
            assert set(meanwhile.statuses) <= {200, 503}, meanwhile.statuses
            assert meanwhile.statuses.total() < 2 * refusals + 200, "the disk never was full for Postgres"
        assert meanwhile.silent == 0
        await it_is_told_that_it_takes_no_writes(house.yard, meanwhile)
        assert (await house.yard.call("GET", "/healthz", token=None)).status == 200
        house.ballast.drop()
        # Of itself, with nobody writing: a service that is not ready may be sent no requests.
        await until(lambda: is_told(house.yard, {"status": "ok"}), DEADLINE_S)
        await until(lambda: takes(house.yard), DEADLINE_S)
        lost = (before.taken | meanwhile.taken) - await ids(house.yard)
        assert lost == set()
        connection = await database.connect(house.url)
        try:
            await verify.verify(connection)
        finally:
            await connection.close()
    chaos.told(
        "Postgres' disk full",
        refused_with_503=meanwhile.statuses[503],
        acknowledged_lost=len(lost),
        answered_500=meanwhile.statuses[500],
    )


async def a_writer_that_lets_it_through_is_found(
    house: House, monkeypatch: pytest.MonkeyPatch, before: Answers
) -> None:
    """The planted bug: what Postgres says of its disk reaches the handlers as it is, which is a 500."""
    patient = Writer._write_patiently

    async def raw(self: Writer, batch: list[object]) -> None:
        try:
            await patient(self, batch)  # type: ignore[arg-type]
        except Unavailable as error:
            if isinstance(error.__cause__, asyncpg.DiskFullError):
                raise error.__cause__ from None
            raise

    monkeypatch.setattr(Writer, "_write_patiently", raw)
    answers = Answers()
    while 500 not in answers.statuses:
        await answers.submitted(house.yard)
        assert answers.statuses.total() < 150, answers.statuses
    before.taken |= answers.taken


async def it_is_told_that_it_takes_no_writes(yard: Yard, answers: Answers) -> None:
    """Now and then it is down altogether, and says that it does not answer."""

    async def told() -> bool:
        await answers.submitted(yard)
        return await is_told(yard, {"status": "down", "why": FULL})

    await until(told, DEADLINE_S)


async def is_told(yard: Yard, database: dict[str, str]) -> bool:
    answer = await yard.call("GET", "/readyz", token=None)
    return bool(answer.json["parts"]["database"] == database)


async def takes(yard: Yard) -> bool:
    answer = await yard.call("POST", "/v1/job", SPEC)
    assert answer.status in (200, 503), answer.raw
    return answer.status == 200


async def ids(yard: Yard) -> set[str]:
    async with asyncio.timeout(DEADLINE_S):
        records = await yard.ledger.pool.fetch("SELECT key FROM folds WHERE fold = 'status'")
    return {record["key"] for record in records}
