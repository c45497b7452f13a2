"""A random history through the real service, by a clock that a test sets, and what was read at each moment.

The commands, and the oracle that says what should become of them, are those of tests/properties; they are
carried out in memory first, and then by the real ledger, which must record the same events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import pytest

from service.api.auth import new_value, sha256_of
from service.domain import commands as cmd
from service.domain.commands import Command
from service.domain.events import Event
from service.errors import Rejected
from service.ledger import database as connections
from tests.api.yard import OPERATOR, Yard, opened
from tests.properties.test_any_order import PROJECTS, AnyOrder, a_spec, one_step
from tests.support import databases
from tests.support.jobs import ENGINE, EPOCH, T0
from tests.support.pure import Answer, PureLedger

#: In front of Postgres's own in the ledger's search path, it is the clock of all that the ledger does.
_CLOCK = """
CREATE TABLE jobyard.test_clock (now timestamptz);
INSERT INTO jobyard.test_clock VALUES ('2026-01-01T00:00:00Z');
GRANT SELECT ON jobyard.test_clock TO PUBLIC;
CREATE FUNCTION jobyard.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT now FROM jobyard.test_clock';
UPDATE jobyard.ledger_head SET recorded_at = '2026-01-01T00:00:00Z';
INSERT INTO jobyard.leases VALUES ('engine-1', 7, 'test', '2026-01-01T00:00:00Z', '2027-01-01T00:00:00Z');
"""


class Clock:
    """The database's clock. It stands until it is set."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.now = T0
        self._connection = connection

    async def set(self, now: datetime) -> None:
        self.now = now
        await self._connection.execute("UPDATE jobyard.test_clock SET now = $1", now)

    async def wait(self, seconds: float) -> None:
        await self.set(self.now + timedelta(seconds=seconds))


@asynccontextmanager
async def clocked(template: str, state: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Yard, Clock]]:
    """A service on a database of its own, whose time is the test's."""
    settings = connections._settings

    def ours(admin: bool) -> dict[str, str]:
        return settings(admin) | {"search_path": f"{connections.SCHEMA}, pg_catalog"}

    patch.setattr(connections, "_settings", ours)
    assert (ENGINE, EPOCH) == ("engine-1", 7)
    async with databases.a_database(template) as url:
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(_CLOCK)
            async with opened(url, state, {}) as yard:
                yield yard, Clock(connection)
        finally:
            await connection.close()


class _Commit(NamedTuple):
    now: datetime
    commands: list[Command]


class _Noting(PureLedger):
    """A ledger in memory that notes what it is told, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[_Commit] = []

    def commit(self, commands: Sequence[Command]) -> list[Answer]:
        self.commits.append(_Commit(self.now, list(commands)))
        return super().commit(commands)


class Walk(AnyOrder):
    """A random walk of many jobs, in memory. `tokens` are made for each project: of all jobs, and of some."""

    def __init__(self, seed: int, steps: int) -> None:
        super().__init__()
        self.noting = self.ledger = _Noting()
        self.tokens = {f"{name}{part}": new_value() for name in PROJECTS for part in ("", " team")}
        chance = Random(seed)
        self.begin(9, 5, [a_spec(chance) for _ in range(6)])
        self.ledger.commit([self._token(name, value) for name, value in self.tokens.items()])
        self.checked = self.begun = len(self.ledger.events)
        for step in range(steps):
            known = list(self.model.jobs)
            match chance.choice(("new", "label", "quota", *(["any"] * 7))):
                case "new":
                    job = UUID(int=1000 + step)
                    self.wish(job, "submit", a_spec(chance), False, 9)
                case "label":
                    self.wish(chance.choice(known), "label", a_spec(chance), chance.random() < 0.6, 9)
                case "quota" if chance.random() < 0.3:
                    self.set_quota(chance.choice(PROJECTS), chance.randint(6, 12), chance.randint(3, 6))
                case _:
                    one_step(self, chance, chance.choice(known))
        self.flush()

    @staticmethod
    def _token(name: str, value: str) -> cmd.CreateToken:
        project, _, team = name.partition(" ")
        return cmd.CreateToken(
            project=project,
            token_id=str(UUID(int=sum(name.encode()))),
            name=name,
            role=OPERATOR,
            sha256=sha256_of(value),
            label_selector="team=vision" if team else None,
        )

    def check_models(self) -> None:
        """The real ledger is looked at instead."""


#: What every job is, of both projects: read after each commit.
ALL = "/v1/job?size=500"
#: And of these, some in turn, with one token and the next.
MORE = (
    "/v1/quota",
    "/v1/billing",
    "/v1/job?size=3&sort=status.state&order=asc",
    "/v1/billing?policy=2026-01",
    "/v1/job?size=3&sort=status.startedAt&cursor=",
    "/v1/quota",
    "/v1/job?size=2&page=2&sort=updatedAt",
    "/v1/billing",
    "/v1/job?size=5&order=asc",
    "/v1/job?labelSelector=team&sort=spec.timeout",
    "/v1/job?labelSelector=!team,!other&sort=status.exitCode",
    "/v1/job?statusState=RUNNING&statusState=QUEUED&size=1&cursor=",
    "/v1/job?statusState=DONE&sort=status.finalizedAt",
    "/v1/job?userName=ada&name=job&size=7&sort=spec.resources.gpu",
    "/v1/job?updatedBefore=1767229200",
    "/v1/job?updatedAfter=1767229200&sort=id&order=asc",
)


@dataclass
class Seen:
    """What was read right after a commit, by query and token, as it was answered."""

    position: int
    at: datetime
    answers: dict[tuple[str, str], Any] = field(default_factory=dict)


async def lived(yard: Yard, clock: Clock, walk: Walk) -> list[Seen]:
    """Carry the walk out in the real ledger, and read what there is after each commit with events."""
    seen: list[Seen] = []
    yard.tokens |= walk.tokens
    recorded: list[Event] = []
    for commit in walk.noting.commits:
        await clock.set(commit.now)
        submits = (yard.ledger.submit(command, actor="test") for command in commit.commands)
        for answer in await asyncio.gather(*submits, return_exceptions=True):
            assert not isinstance(answer, BaseException) or isinstance(answer, Rejected), answer
        new = await yard.ledger.events(len(recorded))
        recorded += new
        if new and walk.begun < new[-1].position:
            seen.append(await _looked(yard, new[-1].position, commit.now, len(seen)))
    assert list(map(_told, recorded)) == list(map(_told, walk.ledger.events))
    return seen


def _told(event: Event) -> Any:
    """All but what commands have of their own."""
    return (
        *(event.position, event.project, event.job, event.run),
        event.body,
        event.occurred_at,
        event.recorded_at,
    )


async def _looked(yard: Yard, position: int, at: datetime, turn: int) -> Seen:
    asked = [(ALL, project) for project in PROJECTS]
    tokens = sorted(yard.tokens)
    asked += [(MORE[(2 * turn + n) % len(MORE)], tokens[(turn // 3 + n) % len(tokens)]) for n in range(2)]
    found = await asyncio.gather(*(yard.call("GET", query, token=token) for query, token in asked))
    assert {answer.status for answer in found} == {200}
    return Seen(position, at, {key: answer.json for key, answer in zip(asked, found, strict=True)})
