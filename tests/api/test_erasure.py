"""Erasing secrets over the API: who may, when, what is answered then, and what nothing can open again."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.domain.events import KeyDestroyed, ProjectKeyDestroyed
from service.domain.spec import Sealed
from service.errors import Erased
from tests.api.yard import ADMIN, OPERATOR, READER, SPEC, Supervision, Yard
from tests.support.waiting import until

CLEAR = "correct-horse-battery-staple"
JOB = {**SPEC, "envVars": [{"name": "PASSWORD", "value": CLEAR}]}
STORE = {
    "alias": "mine",
    "type": "s3",
    "endpoint": "http://127.0.0.1:9",
    "credentials": {"s3": {"accessKey": "key", "secretKey": CLEAR, "region": "gra"}},
}


async def ended(yard: Yard, supervision: Supervision, spec: dict[str, Any] = JOB) -> str:
    answer = await yard.call("POST", "/v1/job", spec)
    assert answer.status == 200, answer.raw
    job = str(answer.json["id"])
    await supervision.running(job)
    await supervision.ended(job)
    return job


async def shown(yard: Yard, job: str, token: str = OPERATOR) -> Any:
    return (await yard.call("GET", f"/v1/job/{job}", token=token)).json


async def sealed_in(yard: Yard, job: str) -> Sealed:
    found = await yard.ledger.find_job(UUID(job))
    assert found is not None
    return found.spec.env[0].value


async def test_an_ended_jobs_secrets_are_erased_and_nobody_elses(
    yard: Yard, supervision: Supervision
) -> None:
    job, other = await ended(yard, supervision), await ended(yard, supervision)
    sealed = await sealed_in(yard, job)
    assert (await shown(yard, job))["spec"]["envVars"] == [{"name": "PASSWORD", "value": CLEAR}]
    assert (await yard.call("DELETE", f"/v1/job/{job}/key")).status == 204
    told = await shown(yard, job)
    assert told["spec"]["envVars"] == [{"name": "PASSWORD", "value": "", "erased": True}]
    assert told["status"]["erasedAt"]
    with pytest.raises(Erased, match="was destroyed"):
        await yard.ledger.keys.open(sealed)
    then = (await yard.call("GET", f"/v1/job/{job}?asOf={(await yard.head()) - 1}")).json
    assert (then["spec"]["envVars"][0]["value"], "erasedAt" in then["status"]) == ("", False)
    listed = (await yard.call("GET", "/v1/job")).json["items"]
    values = {each["id"]: each["spec"]["envVars"][0]["value"] for each in listed}
    assert values == {job: "", other: CLEAR}
    event = (await yard.ledger.events(job=UUID(job)))[-1]
    assert event.body == KeyDestroyed(key_ids=(sealed.key_id,))
    assert event.actor.startswith("token:")


async def test_a_job_that_was_erased_is_not_started_again(yard: Yard, supervision: Supervision) -> None:
    """Also one without any secret: whoever erased it gave it up."""
    for spec in (JOB, SPEC):
        job = await ended(yard, supervision, spec)
        assert (await yard.call("DELETE", f"/v1/job/{job}/key")).status == 204
        before = await yard.head()
        assert (await yard.call("DELETE", f"/v1/job/{job}/key")).status == 204
        assert await yard.head() == before, "it is erased once"
        again = await yard.call("PUT", f"/v1/job/{job}/start")
        assert (again.status, again.json["code"]) == (409, "erased")
        assert "its secrets were erased; submit a new job" in again.json["message"]


async def test_a_live_job_keeps_its_secrets(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.call("POST", "/v1/job", JOB)).json["id"]
    for state in ("QUEUED", "RUNNING"):
        refused = await yard.call("DELETE", f"/v1/job/{job}/key")
        assert (refused.status, f"is {state}" in refused.json["message"]) == (409, True)
        if state == "QUEUED":
            await supervision.running(job)
    refused = await yard.call("DELETE", "/v1/project/default/key", token=ADMIN)
    assert (refused.status, "1 job" in refused.json["message"]) == (409, True)
    assert (await shown(yard, job))["spec"]["envVars"][0]["value"] == CLEAR


async def test_a_deleted_job_can_be_erased(yard: Yard, supervision: Supervision) -> None:
    """Deleting it left its secrets in the ledger."""
    job = await ended(yard, supervision)
    sealed = await sealed_in(yard, job)
    assert (await yard.call("DELETE", f"/v1/job/{job}")).status == 204
    assert await yard.ledger.open_secret(sealed) == CLEAR
    assert (await yard.call("DELETE", f"/v1/job/{job}/key")).status == 204
    with pytest.raises(Erased):
        await yard.ledger.open_secret(sealed)


async def test_who_may_erase(yard: Yard, supervision: Supervision) -> None:
    job = await ended(yard, supervision, JOB | {"labels": {"team": "a"}})
    await yard.token("team-b", OPERATOR, selector="team=b")
    for token, status in ((READER, 403), ("other", 404), ("team-b", 404)):
        assert (await yard.call("DELETE", f"/v1/job/{job}/key", token=token)).status == status, token
    for token in (OPERATOR, "other"):
        assert (await yard.call("DELETE", "/v1/project/default/key", token=token)).status == 403, token
    assert (await yard.call("DELETE", "/v1/project/nowhere/key", token=ADMIN)).status == 404
    assert (await yard.call("DELETE", "/v1/job/none/key")).status == 404
    assert (await shown(yard, job))["spec"]["envVars"][0]["value"] == CLEAR


async def test_a_projects_secrets_are_erased_with_those_of_its_jobs(
    yard: Yard, supervision: Supervision
) -> None:
    job = await ended(yard, supervision)
    made = await yard.call("POST", "/v1/datastore?check=false", STORE)
    assert made.status == 200, made.raw
    theirs = (await yard.call("POST", "/v1/job", JOB, token="other")).json["id"]
    key = (await yard.ledger.keys.of("default")).id
    assert (await yard.call("DELETE", "/v1/project/default/key", token=ADMIN)).status == 204
    event = (await yard.ledger.events(project="default"))[-1]
    assert event.body == ProjectKeyDestroyed(key_ids=(key,))
    assert (await shown(yard, job))["spec"]["envVars"][0]["erased"] is True
    assert (await shown(yard, theirs, "other"))["spec"]["envVars"][0]["value"] == CLEAR
    assert (await yard.call("GET", "/v1/datastore/mine")).json == made.json
    refused = await yard.call("GET", "/v1/datastore/mine/container")
    assert (refused.status, "were erased; set them again" in refused.json["message"]) == (403, True)
    again = await yard.call("PUT", f"/v1/job/{job}/start")
    assert (again.status, again.json["code"]) == (409, "erased")
    fresh = (await yard.call("POST", "/v1/job", JOB)).json
    assert fresh["spec"]["envVars"] == [{"name": "PASSWORD", "value": CLEAR}]
    assert (await yard.ledger.keys.of("default")).id != key


async def test_an_erased_jobs_request_cannot_be_told_from_another(
    yard: Yard, supervision: Supervision
) -> None:
    """What was kept of it to know a repeat by would tell whether a guess of the secret is right."""
    headers = {"Idempotency-Key": "order 66"}
    first = await yard.call("POST", "/v1/job", JOB, headers=headers)
    job = first.json["id"]
    kept = await _digest(yard, job)
    assert kept not in await _guessed(yard, None)
    assert kept in await _guessed(yard, job)
    assert (await yard.call("POST", "/v1/job", JOB, headers=headers)).raw == first.raw
    other = {**JOB, "envVars": [{"name": "PASSWORD", "value": "another"}]}
    refused = await yard.call("POST", "/v1/job", other, headers=headers)
    assert (refused.status, "used for another request" in refused.json["message"]) == (409, True)
    await supervision.running(job)
    await supervision.ended(job)
    assert (await yard.call("DELETE", f"/v1/job/{job}/key")).status == 204
    before = await yard.head()
    for again in (JOB, other):
        refused = await yard.call("POST", "/v1/job", again, headers=headers)
        assert (refused.status, refused.json["code"]) == (409, "conflict")
        assert "whose secrets were erased since" in refused.json["message"]
    assert (await yard.call("POST", "/v1/job", SPEC, headers=headers)).status == 409
    assert await yard.head() == before, "nothing ran twice"
    assert await _digest(yard, job) == kept, "the ledger only grows"
    assert kept not in [*await _guessed(yard, None), *await _guessed(yard, job)]


async def test_a_request_from_before_digests_went_with_the_jobs_key_is_repeated(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Idempotency-Key": "order 66"}
    with monkeypatch.context() as then:
        then.setattr("service.api.idempotency.CommandId.under", lambda identity, _key: identity)
        first = await yard.call("POST", "/v1/job", JOB, headers=headers)
    assert await _digest(yard, first.json["id"]) in await _guessed(yard, None)
    before = await yard.head()
    assert (await yard.call("POST", "/v1/job", JOB, headers=headers)).raw == first.raw
    other = {**JOB, "envVars": [{"name": "PASSWORD", "value": "another"}]}
    assert (await yard.call("POST", "/v1/job", other, headers=headers)).status == 409
    assert await yard.head() == before


async def _digest(yard: Yard, job: str) -> bytes:
    """What the ledger keeps of the request that made a job."""
    event = (await yard.ledger.events(job=UUID(job)))[0]
    statement = "SELECT digest FROM commands WHERE id = $1"
    found: bytes = await yard.ledger.pool.fetchval(statement, event.command_id)
    return found


async def _guessed(yard: Yard, job: str | None) -> list[bytes]:
    """What would be kept of the request by who knows it all, under the project's key or the job's."""
    keys = yard.ledger.keys
    key = await keys.of("default") if job is None else await keys.of_job("default", UUID(job))
    return [key.digest(b"POST", b"/v1/job", b"", json.dumps(JOB).encode())]


async def test_nothing_of_a_secret_is_anywhere_in_the_database(yard: Yard, supervision: Supervision) -> None:
    """Neither in the clear, nor the key that would open it; and the words of what was run neither."""
    job = await ended(yard, supervision)
    connection = await asyncpg.connect(yard.database, server_settings={"search_path": "jobyard"})
    try:
        box: bytes = await connection.fetchval("SELECT box FROM job_keys WHERE job = $1", UUID(job))
        assert await _file_holds(connection, box)
        assert (await yard.call("DELETE", f"/v1/job/{job}/key")).status == 204
        assert await connection.fetchval("SELECT count(*) FROM job_keys") == 0

        async def rewritten() -> bool:
            return not await _file_holds(connection, box)

        await until(rewritten, what="nothing of the key in the table's file")
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'jobyard'")
        assert len(tables) > 10
        for (table,) in tables:
            rows = await connection.fetch(f"SELECT t::text FROM {table} t")
            assert not any(CLEAR in row[0] or box.hex() in row[0] for row in rows), table
    finally:
        await connection.close()


async def test_a_reader_from_before_only_delays_the_rewriting(yard: Yard, supervision: Supervision) -> None:
    """Postgres keeps deleted rows while any transaction could still read them, also one that never will."""
    job = await ended(yard, supervision)
    connection = await asyncpg.connect(yard.database, server_settings={"search_path": "jobyard"})
    reader = await asyncpg.connect(yard.database)
    try:
        box: bytes = await connection.fetchval("SELECT box FROM job_keys WHERE job = $1", UUID(job))
        transaction = reader.transaction(isolation="repeatable_read")
        await transaction.start()
        await reader.execute("SELECT count(*) FROM pg_class")
        assert (await yard.call("DELETE", f"/v1/job/{job}/key")).status == 204
        assert await yard.ledger.keys.destroy_told() == 0
        assert await _file_holds(connection, box), "copied for the reader's sake"
        await transaction.rollback()

        async def rewritten() -> bool:
            return not await _file_holds(connection, box)

        await until(rewritten, what="nothing of the key in the table's file")
    finally:
        await reader.close()
        await connection.close()


async def _file_holds(connection: asyncpg.Connection, box: bytes) -> bool:
    await connection.execute("CHECKPOINT")
    content: bytes = await connection.fetchval("SELECT pg_read_binary_file(pg_relation_filepath('job_keys'))")
    return box in content
