"""Exporting an incident from a real ledger: what is in it, what is not, and that it is decided as it was."""

from __future__ import annotations

import base64
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from service.api import incidents
from service.domain import commands as cmd
from service.domain.events import Info
from service.ledger.incident import bundle as bundles
from service.ledger.incident.bundle import Bundle
from service.ledger.incident.replay import Difference, replay
from tests.api.test_erasure import CLEAR, JOB, STORE
from tests.api.yard import ADMIN, ENGINE, OPERATOR, READER, SPEC, Printer, Supervision, Yard


async def exported(yard: Yard, job: str, **query: Any) -> Bundle:
    answer = await yard.call("GET", f"/v1/job/{job}/incident", token=ADMIN, params=query)
    assert answer.status == 200, answer.raw
    return bundles.read(answer.raw)


def differences(made: Bundle) -> list[Difference]:
    return [each for step in replay(made) for each in step.differences]


async def lived(yard: Yard, supervision: Supervision) -> str:
    """A job beside another one: started again, with a run that failed to push, edited, labelled, killed."""
    await yard.ledger.submit(
        cmd.StartSupervisor(engine=ENGINE, epoch=1, node="local", cpus=8, memory=2**40), actor="supervisor"
    )
    budget = cmd.SetBudget(project="default", amount=Decimal(100), currency="EUR")
    await yard.ledger.submit(budget, actor="test")
    assert (await yard.call("POST", "/v1/datastore?check=false", STORE)).status == 200
    beside = (await yard.call("POST", "/v1/job", JOB | {"resources": {"cpu": 3}})).json["id"]
    await supervision.running(beside)
    volume = {"dataStore": {"alias": "mine", "container": "models"}, "mountPath": "/out", "permission": "RW"}
    job = str((await yard.call("POST", "/v1/job", JOB | {"volumes": [volume]})).json["id"])
    await supervision.running(job, absent=True)
    assert (await yard.call("PUT", f"/v1/job/{job}", {"timeout": 7200})).status == 204
    assert (await yard.call("PUT", f"/v1/job/{job}/label", {"name": "a", "value": "b"})).status == 204
    assert (await yard.call("POST", f"/v1/job/{job}/datasync", {"direction": "push"})).status == 200
    await supervision.ended(job, code=137, kept=True)
    await yard.call("PUT", "/v1/project/default/quota", {"cpu": 5}, token=ADMIN)
    assert (await yard.call("PUT", f"/v1/job/{job}/start?discardVolumes=true")).status == 204
    await supervision.running(job, run=2)
    assert (await yard.call("DELETE", f"/v1/job/{job}?force=true")).status == 204
    await supervision.ended(job, run=2, code=143)
    return job


async def test_a_life_is_exported_and_decided_as_it_was(yard: Yard, supervision: Supervision) -> None:
    job = await lived(yard, supervision)
    made = await exported(yard, job)
    assert differences(made) == []
    events = await yard.ledger.events(job=UUID(job))
    told = {event.position for step in replay(made) for event in step.events}
    assert {event.position for event in events} <= told
    assert [each.quota.cpu_used for each in made.quota] == [3, 3, 3, 3], "what the other one held"
    assert [each.quota.cpu for each in made.quota] == [10, 10, 5, 5]
    assert [each.position for each in made.budget] == [each.position for each in made.quota]
    assert {each.amount for each in made.budget} == {Decimal(100)}
    spent = [each.spent for each in made.budget]
    assert spent[0] == Decimal("0.0015"), "a begun minute of what the other one holds"
    assert spent == sorted(spent)
    assert [(each.engine, each.cpus, each.gpus) for each in made.room] == [(ENGINE, 3, 0), (ENGINE, 3, 0)]
    head = await yard.ledger.head()
    assert (made.head.position, made.head.hash) == (head.position, head.hash.hex())
    async with yard.ledger.pool.acquire() as connection:
        for entry in made.events:
            stored = await connection.fetchval(
                "SELECT hash FROM events WHERE position = $1", entry.event.position
            )
            assert stored.hex() == entry.hash


async def test_no_secret_is_in_it_and_nobody_elses_job(
    yard: Yard, supervision: Supervision, tmp_path: Path
) -> None:
    job = await lived(yard, supervision)
    raw = (await yard.call("GET", f"/v1/job/{job}/incident", token=ADMIN)).raw
    others = [each.id for each in (await yard.ledger.jobs("default", limit=9))[0] if str(each.id) != job]
    master = base64.b64encode(b"m" * 32)
    unsaid = [
        CLEAR,
        "tokenId",
        yard.database,
        str(tmp_path),
        master.decode(),
        yard.tokens[ADMIN],
        *map(str, others),
    ]
    assert len(others) == 1
    for text in unsaid:
        assert text.encode() not in raw, text
    assert b'"keyId"' in raw, "the ciphertext is"


async def test_a_rule_that_was_changed_since_is_named(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await lived(yard, supervision)
    made = await exported(yard, job)
    info = Info("other-words", "Said otherwise.")
    monkeypatch.setattr("service.domain.decide_job.INTERRUPTING", info)
    found = differences(made)
    assert {each.field for each in found} == {"data.info.code", "data.info.message"}
    assert {each.decided for each in found} == {'"other-words"', '"Said otherwise."'}


async def test_after_an_erasure_the_same_is_decided(yard: Yard, supervision: Supervision) -> None:
    job = await lived(yard, supervision)
    before = await exported(yard, job)
    assert (await yard.call("DELETE", f"/v1/job/{job}/key")).status == 204
    after = await exported(yard, job)
    assert differences(after) == []
    assert len(after.events) == len(before.events) + 1


async def test_a_log_goes_along_when_it_is_asked_for(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.call("POST", "/v1/job", SPEC)).json["id"]
    printer = Printer(yard, job)
    for line in ("one", "two", "three"):
        printer.line(line + "\n")
    printer.end()
    assert (await exported(yard, job)).log is None
    log = (await exported(yard, job, logs=2)).log
    assert log is not None
    assert (log.run, log.lines, log.text) == (1, 2, "two\nthree\n")
    for bad in ("-1", "x", "100001"):
        refused = await yard.call("GET", f"/v1/job/{job}/incident?logs={bad}", token=ADMIN)
        assert (refused.status, refused.json["field"]) == (400, "logs")


async def test_who_may_export(yard: Yard) -> None:
    job = (await yard.call("POST", "/v1/job", SPEC | {"labels": {"team": "a"}})).json["id"]
    await yard.token("team-b", ADMIN, selector="team=b")
    statuses = {READER: 403, OPERATOR: 403, "other": 404, "team-b": 404, ADMIN: 200}
    for token, status in statuses.items():
        assert (await yard.call("GET", f"/v1/job/{job}/incident", token=token)).status == status, token
    missing = "11111111-1111-4111-8111-111111111111"
    assert (await yard.call("GET", f"/v1/job/{missing}/incident", token=ADMIN)).status == 404


async def test_a_token_that_sees_some_jobs_is_not_told_what_all_of_them_cost(yard: Yard) -> None:
    job = (await yard.call("POST", "/v1/job", SPEC | {"labels": {"team": "a"}})).json["id"]
    await yard.token("team-a", ADMIN, selector="team=a")
    path = f"/v1/job/{job}/incident"
    assert (await yard.call("GET", path, token="team-a")).status == 200, "there is no budget yet"
    budget = cmd.SetBudget(project="default", amount=Decimal("77.25"), currency="EUR")
    await yard.ledger.submit(budget, actor="test")
    assert (await yard.call("PUT", f"/v1/job/{job}/label", {"name": "a", "value": "b"})).status == 204
    refused = await yard.call("GET", path, token="team-a")
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert b"77.25" not in refused.raw
    assert b"77.25" in (await yard.call("GET", path, token=ADMIN)).raw


async def test_a_log_that_is_too_long_for_a_bundle_is_told_so(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines may be as long as they like, and all of it is held in memory at once."""
    job = (await yard.submit())["id"]
    printer = Printer(yard, job)
    printer.line("x" * 5000)
    printer.line("y")
    printer.end()
    monkeypatch.setattr(incidents, "MOST_LOG_BYTES", 4000)
    refused = await yard.call("GET", f"/v1/job/{job}/incident?logs=2", token=ADMIN)
    assert (refused.status, refused.json["field"]) == (400, "logs")
    assert (await exported(yard, job, logs=1)).log is not None
