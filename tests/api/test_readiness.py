"""/readyz tells of every part whether it can do its work, to everybody, and no more than that."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from service.app import Duty
from service.domain import commands as cmd
from service.errors import NotFound
from service.supervisor.data import StoreAccess
from service.supervisor.logs.keeper import LogKeeper
from service.supervisor.supervisor import Supervisor
from tests.api.yard import ADMIN, ENGINE, SPEC, Supervision, Yard
from tests.support.engine.fake import FakeEngine
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("unkept")
OK: dict[str, str] = {"status": "ok"}
OVER = "UPDATE jobyard.leases SET expires_at = clock_timestamp() WHERE engine = $1"
NONE_CONFIGURED = {"status": "not-asked", "why": "none is configured"}


@pytest.fixture
def unkept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question is a new look, and each waits for its answer: to open a store alone takes a third of a
    second of a processor that others use too."""
    monkeypatch.setattr("service.api.readiness.KEPT_S", 0.0)
    monkeypatch.setattr("service.api.readiness.LOOK_TIMEOUT_S", 60.0)


@pytest.fixture
async def on_duty(yard: Yard) -> AsyncIterator[FakeEngine]:
    """A supervisor in the API's own process; its engine."""
    engine = FakeEngine(lambda: datetime.now(UTC))
    keeper = LogKeeper(engine, yard.settings.logs_dir)
    # Renewed so seldom that no lease comes back which a test has taken away.
    settings = replace(yard.settings, lease_ttl_s=3600.0)
    supervisor = Supervisor(yard.ledger, engine, keeper, settings)
    duty = Duty()
    yard.duty.append(duty)
    with duty.taken(supervisor, engine):
        running = asyncio.create_task(supervisor.run())
        await until(supervisor.ready.is_set)
        yield engine
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _parts(yard: Yard, status: int) -> Any:
    answer = await yard.call("GET", "/readyz", token=None)
    assert answer.status == status, answer.raw
    told = answer.json
    assert told["status"] == ("ready" if status == 200 else "not-ready")
    if status == 503:
        assert (told["code"], answer.headers["Retry-After"]) == ("unavailable", "1")
        assert told["requestId"] == answer.headers["X-Request-Id"]
        down = [name for name, part in told["parts"].items() if part["status"] == "down"]
        assert told["message"] == f"The service is not ready: {', '.join(down)}."
    assert (await yard.call("GET", "/healthz", token=None)).status == 200
    return told["parts"]


async def _default_store(yard: Yard, access: StoreAccess, **changed: Any) -> None:
    keys = {"accessKey": access.access_key, "secretKey": access.secret_key} | changed.pop("keys", {})
    body = {"alias": "local", "endpoint": access.endpoint, "credentials": {"s3": keys}} | changed
    answer = await yard.call("POST", "/v1/datastore?check=false", body, token=ADMIN)
    assert answer.status == 200, answer.raw


async def test_a_service_is_ready_when_all_of_its_parts_are(
    yard: Yard, on_duty: FakeEngine, access: StoreAccess
) -> None:
    assert await _parts(yard, 200) == {
        "database": OK, "clock": OK, "supervisor": OK, "engine": OK, "store": NONE_CONFIGURED,
    }  # fmt: skip
    await _default_store(yard, access)
    assert (await _parts(yard, 200))["store"] == OK


async def test_an_engine_that_does_not_answer_is_told(yard: Yard, on_duty: FakeEngine) -> None:
    on_duty.fail_next("info")
    assert (await _parts(yard, 503))["engine"] == {"status": "down", "why": "it does not answer"}
    assert (await _parts(yard, 200))["engine"] == OK


async def test_a_supervisor_that_has_not_begun_is_told(yard: Yard, on_duty: FakeEngine) -> None:
    """The lease of one that was killed may still stand: it is not ours."""
    yard.duty.append(Duty())
    parts = await _parts(yard, 503)
    assert parts["supervisor"] == {"status": "down", "why": "it has not taken the engine, or has lost it"}
    assert parts["engine"] == {"status": "down", "why": "it does not answer"}


async def test_a_supervisor_that_lost_its_engine_is_told(yard: Yard, on_duty: FakeEngine) -> None:
    """Another one took the lease; ours may not have noticed yet."""
    engine_id = (await on_duty.info()).id
    await _execute(
        yard, "UPDATE jobyard.leases SET expires_at = clock_timestamp() WHERE engine = $1", engine_id
    )
    assert await yard.ledger.take_lease("another engine", "elsewhere/1", 60.0) is not None
    assert (await _parts(yard, 503))["supervisor"]["why"].startswith("none holds the engine; the last one")


async def test_beside_other_processes_the_lease_tells_of_the_supervisor(yard: Yard) -> None:
    found = await _parts(yard, 503)
    assert found["supervisor"] == {"status": "down", "why": "none has ever taken an engine"}
    assert found["engine"] == {"status": "not-asked", "why": "its supervisor is in another process"}
    await Supervision(yard).lease()
    assert (await _parts(yard, 200))["supervisor"] == OK
    await _execute(yard, OVER, ENGINE)
    found = (await _parts(yard, 503))["supervisor"]
    assert (found["status"], found["why"][-6:]) == ("down", " s ago")


async def test_a_schema_of_another_version_is_told(yard: Yard, supervision: Supervision) -> None:
    change = "UPDATE jobyard.schema_migrations SET sha256 = reverse(sha256) WHERE version = $1"
    await _execute(yard, change, 1)
    try:
        found = await _parts(yard, 503)
    finally:
        await _execute(yard, change, 1)
    assert found["database"]["status"] == "down"
    assert "start `jobyard up` anew, which migrates it" in found["database"]["why"]
    assert found["store"] == {"status": "not-asked", "why": "the database is not ready"}
    assert (await _parts(yard, 200))["database"] == OK


async def test_a_database_out_of_reach_is_told(yard: Yard, supervision: Supervision) -> None:
    await yard.ledger.pool.close()
    assert (await _parts(yard, 503))["database"] == {"status": "down", "why": "it does not answer"}


async def test_a_database_without_disk_space_is_told_until_it_has_some(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was refused for want of space is asked about, and a write that succeeds answers by itself."""
    has_space = False

    async def asked(_pool: asyncpg.Pool) -> bool:
        return has_space

    async def full(*_: Any) -> Any:
        raise asyncpg.DiskFullError("could not extend file: No space left on device")

    async def refused() -> None:
        with monkeypatch.context() as patched:
            patched.setattr("service.ledger.writer.commit", full)
            answer = await yard.call("POST", "/v1/job", SPEC)
            assert (answer.status, "no disk space" in answer.json["message"]) == (503, True)

    monkeypatch.setattr("service.ledger.ledger.has_space", asked)
    assert (await _parts(yard, 200))["database"] == OK
    await refused()
    for _ in range(2):
        found = await _parts(yard, 503)
        assert found["database"] == {
            "status": "down",
            "why": "it takes no writes: it has no disk space left",
        }
    with pytest.raises(NotFound):
        await yard.ledger.submit(cmd.RemoveDataStore(project="default", alias="none"), actor="test")
    assert (await _parts(yard, 503))["database"]["status"] == "down"  # a refusal wrote nothing
    await yard.submit()
    assert (await _parts(yard, 200))["database"] == OK
    await refused()
    assert (await _parts(yard, 503))["database"]["status"] == "down"
    has_space = True
    assert (await _parts(yard, 200))["database"] == OK


async def test_a_database_clock_that_is_behind_the_last_event_is_told(
    yard: Yard, on_duty: FakeEngine
) -> None:
    """It was ahead, and was put right."""
    last = "UPDATE jobyard.ledger_head SET recorded_at = clock_timestamp() + make_interval(secs => $1)"
    await _execute(yard, last, 3600.5)
    clock = (await _parts(yard, 503))["clock"]
    assert clock["status"] == "down"
    assert re.fullmatch(
        r"it is 3[56]\d\d s behind the ledger's last event: all times stand still, and no run begins, "
        "until it has caught up",
        clock["why"],
    )
    await _execute(yard, last, 4.0)
    assert (await _parts(yard, 200))["clock"] == OK


async def test_a_default_store_that_refuses_or_is_away_is_told_without_secrets(
    yard: Yard, supervision: Supervision, access: StoreAccess
) -> None:
    secret = "not-the-right-secret-at-all"
    await _default_store(yard, access, keys={"secretKey": secret})
    answer = await yard.call("GET", "/readyz", token=None)
    assert answer.json["parts"]["store"] == {"status": "down", "why": "it refuses the service"}
    for hidden in (secret, access.access_key, access.endpoint):
        assert hidden not in answer.raw.decode()
    assert (await yard.call("DELETE", "/v1/datastore/local", token=ADMIN)).status == 204
    await _default_store(yard, access, endpoint="http://127.0.0.1:1")
    answer = await yard.call("GET", "/readyz", token=None)
    assert answer.json["parts"]["store"] == {"status": "down", "why": "it does not answer"}


async def test_those_who_ask_at_once_share_one_look(
    yard: Yard, on_duty: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.readiness.KEPT_S", 10_000.0)
    before = len(on_duty.calls)
    await asyncio.gather(*(_parts(yard, 200) for _ in range(8)))
    assert [call for call, _ in on_duty.calls[before:] if call == "info"] == ["info"]


async def _execute(yard: Yard, statement: str, *arguments: Any) -> None:
    connection = await asyncpg.connect(yard.database)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


async def test_a_default_store_whose_keys_were_erased_says_so(
    yard: Yard, supervision: Supervision, access: StoreAccess
) -> None:
    await _default_store(yard, access)
    assert (await _parts(yard, 200))["store"] == OK
    erased = await yard.call("DELETE", "/v1/project/default/key", token=ADMIN)
    assert erased.status == 204, erased.raw
    assert (await _parts(yard, 503))["store"] == {
        "status": "down",
        "why": "its keys were erased: start the service anew, or set them again",
    }
