"""A place for attacks: a world on a real engine and a real store, and what lies around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.ledger import database
from service.supervisor.data import Store, StoreAccess
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.logs.writer import LogLimits
from tests.chaos.hostile import bombs, traps
from tests.chaos.hostile.beyond import beyond
from tests.chaos.hostile.image import import_hostile
from tests.chaos.hostile.place import MOST_OBJECTS, Place
from tests.data.server import the_store
from tests.images import import_busybox
from tests.supervisor.world import CATALOGUE, world
from tests.support.chaos import Chaos
from tests.support.https import a_site

#: As many CPUs as all jobs together ask for: how many there really are is theirs to share.
CPUS = 64


@pytest.fixture(scope="session")
def access() -> Iterator[StoreAccess]:
    with the_store() as found:
        yield found


@pytest.fixture
async def place(
    template_database: str,
    tmp_path: Path,
    access: StoreAccess,
    chaos: Chaos,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Place]:
    # The bombs slow down Postgres too, where it shares two processors with all of them.
    monkeypatch.setattr(database, "ANSWER_TIMEOUT_S", 60.0)
    import_busybox()
    import_hostile()
    for name in ("site", "host"):
        (tmp_path / name).mkdir()
    traps.furnish(tmp_path / "host")
    engine = DockerEngine()
    catalogue = bombs.sized(CATALOGUE, ephemeral_storage=bombs.STORAGE_BYTES, memory=bombs.MEMORY_BYTES)
    try:
        with a_site(tmp_path / "site") as site, beyond() as there:
            changes = {
                "node_cpus": CPUS,
                "default_quota_cpu": CPUS,
                "pids_limit": bombs.PIDS,
                "catalogue": catalogue,
                "volume_max_objects": MOST_OBJECTS,
                "fetch_allow": ("127.0.0.0/8",),
                "fetch_ca": site.ca,
            }
            async with (
                world(template_database, tmp_path / "state", engine, access, **changes) as made,
                Store.open(access) as store,
            ):
                made.deadline_s = 900.0 if chaos.long else 120.0
                logs = LogLimits() if chaos.long else bombs.SMALL_LOGS
                yield Place(made, store, access, site, there, tmp_path / "host", chaos.long, logs)
    finally:
        await engine.close()
