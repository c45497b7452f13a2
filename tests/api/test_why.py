"""`GET /v1/job/{id}/why`: what a job waits for, and no more of other projects than that they are there."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from service.api import waiting
from service.api.call import SERVICE
from service.domain import commands as cmd
from service.domain import evolve
from service.domain.events import Info
from service.domain.flavors import GIB
from service.ledger import past
from service.ledger.chain import event_of
from tests.api.yard import ADMIN, ENGINE, OPERATOR, READER, SPEC, Supervision, Yard
from tests.support.waiting import until


async def begins(yard: Yard, **has: Any) -> None:
    """A supervisor of a node with 4 CPUs."""
    fields: dict[str, Any] = {"cpus": 4, "memory": 64 * GIB, "gpus": 0}
    command = cmd.StartSupervisor(engine=ENGINE, epoch=1, node="local", **(fields | has))
    await yard.ledger.submit(command, actor="supervisor")


async def place(yard: Yard, job: str, project: str = "default") -> None:
    command = cmd.PlaceRun(project=project, engine=ENGINE, epoch=1, job=UUID(job), run=1, node="local")
    await yard.ledger.submit(command, actor="supervisor")


async def note(yard: Yard, job: str, code: str) -> None:
    command = cmd.NoteRun(
        project="default", engine=ENGINE, epoch=1, job=UUID(job), run=1, info=Info(code, f"It is {code}.")
    )
    await yard.ledger.submit(command, actor="supervisor")


async def asked(yard: Yard, job: str, token: str = READER, **params: Any) -> Any:
    answer = await yard.call("GET", f"/v1/job/{job}/why", token=token, params=params)
    assert answer.status == 200, answer.raw
    return answer.json


def said(found: Any) -> list[tuple[str, str, str]]:
    return [(each["phase"], each["constraint"], each["info"]["code"]) for each in found["stretches"]]


async def submitted(yard: Yard, cpu: int, token: str = OPERATOR, **more: Any) -> str:
    answer = await yard.call("POST", "/v1/job", SPEC | {"resources": {"cpu": cpu}} | more, token=token)
    assert answer.status == 200, answer.raw
    return str(answer.json["id"])


async def test_a_job_that_waits_and_one_that_waited(yard: Yard, supervision: Supervision) -> None:
    await begins(yard)
    first = await submitted(yard, 3, name="first")
    await supervision.running(first)
    second = await submitted(yard, 2, name="second")
    third = await submitted(yard, 1, name="third")
    found = await asked(yard, second)
    assert (found["waiting"], found["state"], found["name"]) == (True, "QUEUED", "second")
    assert said(found) == [("QUEUED", "cpu", "waiting-for-cpu")]
    (stretch,) = found["stretches"]
    assert stretch["heldBy"] == [{"id": first, "name": "first", "amount": 3}]
    assert (stretch["ahead"], stretch["sharePercent"]) == ([], 75)
    assert stretch["seconds"] == found["waitSeconds"]
    (behind,) = (await asked(yard, third))["stretches"]
    assert behind["ahead"] == [{"id": second, "name": "second", "why": "earlier-in-line"}]
    assert (behind["constraint"], behind["info"]["code"]) == ("cpu", "waiting-in-line")
    await supervision.ended(first)
    await supervision.running(second)
    await supervision.ended(second)
    over = await asked(yard, second)
    assert (over["waiting"], over["state"]) == (False, "DONE")
    assert [each["phase"] for each in over["stretches"]][-3:] == ["INITIALIZING", "PENDING", "FINALIZING"]
    job = (await yard.call("GET", f"/v1/job/{second}")).json["status"]
    wait = datetime.fromisoformat(job["startedAt"]) - datetime.fromisoformat(job["queuedAt"])
    assert wait == timedelta(microseconds=int(float(over["waitSeconds"]) * 1_000_000 + 0.5))


async def test_other_projects_are_counted_and_never_named(yard: Yard, supervision: Supervision) -> None:
    await begins(yard)
    theirs = await submitted(yard, 3, "other", name="secret-plan")
    await place(yard, theirs, "other")
    ours = await submitted(yard, 2)
    answer = await yard.call("GET", f"/v1/job/{ours}/why", token=READER)
    (stretch,) = answer.json["stretches"]
    assert (stretch["heldBy"], stretch["heldByOthers"]) == ([], {"jobs": 1, "amount": 3})
    assert theirs.encode() not in answer.raw and b"secret-plan" not in answer.raw
    assert (await yard.call("GET", f"/v1/job/{theirs}/why", token=READER)).status == 404


async def test_a_scoped_token_counts_what_it_may_not_see(yard: Yard, supervision: Supervision) -> None:
    await begins(yard)
    await yard.token("scoped", READER, selector="team=vision")
    hidden = await submitted(yard, 3, name="hidden")
    await place(yard, hidden)
    ours = await submitted(yard, 2, labels={"team": "vision"})
    answer = await yard.call("GET", f"/v1/job/{ours}/why", token="scoped")
    (stretch,) = answer.json["stretches"]
    assert (stretch["heldBy"], stretch["heldByOthers"]) == ([], {"jobs": 1, "amount": 3})
    assert hidden.encode() not in answer.raw
    assert (await yard.call("GET", f"/v1/job/{hidden}/why", token="scoped")).status == 404


async def test_what_its_data_its_image_and_its_push_waited_for(yard: Yard, supervision: Supervision) -> None:
    await begins(yard)
    job = await submitted(yard, 1)
    await place(yard, job)
    await note(yard, job, "data-not-answering")
    await note(yard, job, "data-answers")
    of: dict[str, Any] = {"project": "default", "engine": ENGINE, "epoch": 1, "job": UUID(job), "run": 1}
    await yard.ledger.submit(cmd.ReportPrepared(**of), actor="supervisor")
    await note(yard, job, "registry-not-answering")
    await note(yard, job, "engine-not-answering")
    found = await asked(yard, job)
    assert said(found)[-5:] == [
        ("INITIALIZING", "data", "data-not-answering"),
        ("INITIALIZING", "data", "data-answers"),
        ("PENDING", "node", "pending"),
        ("PENDING", "registry", "registry-not-answering"),
        ("PENDING", "node-lost", "engine-not-answering"),
    ]
    positions = {event.position: event for event in await yard.ledger.events(0, limit=1000)}
    for each in found["stretches"]:
        assert all(str(positions[at].job) == job for at in each["positions"])


async def test_a_node_that_nobody_looks_after_now(yard: Yard, supervision: Supervision) -> None:
    await begins(yard)
    job = await submitted(yard, 1)
    await yard.ledger.pool.execute(
        "UPDATE leases SET renewed_at = clock_timestamp(), expires_at = clock_timestamp()"
    )
    assert said(await asked(yard, job))[-1] == ("QUEUED", "node-lost", "node-lost")


async def test_without_any_node(yard: Yard) -> None:
    job = await submitted(yard, 1)
    assert said(await asked(yard, job)) == [("QUEUED", "node-lost", "no-node")]


async def test_refusals_before_it_was_taken(yard: Yard, supervision: Supervision) -> None:
    """The same work, whatever its id and name; other work, and what was taken before, do not count."""
    await begins(yard)
    blocker = await submitted(yard, 10)
    body = SPEC | {"command": ["sleep", "9"], "envVars": [{"name": "K", "value": "topsecret"}]}
    for _ in range(3):
        refused = await yard.call("POST", "/v1/job", body)
        assert (refused.status, refused.json["code"]) == (403, "quota-exceeded")
    assert (await yard.call("POST", "/v1/job", SPEC | {"command": ["other"]})).status == 403
    recorded = [event for event in await yard.ledger.events(0) if event.type == "SubmissionRefused"]
    assert len(recorded) == 2, "the same once a minute"
    assert "topsecret" not in repr(recorded)
    await yard.call("PUT", f"/v1/job/{blocker}/kill")
    taken = str((await yard.call("POST", "/v1/job", body)).json["id"])
    refused_before = (await asked(yard, taken))["refused"]
    assert refused_before["positions"] == [recorded[0].position]
    assert (refused_before["times"], refused_before["info"]["code"]) == (1, "quota-exceeded")
    assert refused_before["info"]["arguments"] == {"kind": "cpu", "asked": 1, "used": 10, "limit": 10}
    again = str((await yard.call("POST", "/v1/job", body)).json["id"])
    assert (await asked(yard, again))["refused"] is None


async def test_refusals_of_what_a_scoped_token_could_not_see_are_left_out(
    yard: Yard, supervision: Supervision
) -> None:
    """It sees the job only since it has another label: what was refused before had not."""
    await begins(yard)
    await yard.token("scoped", READER, selector="team=vision")

    async def times(job: str, token: str) -> Any:
        refused = (await asked(yard, job, token=token))["refused"]
        return refused and refused["times"]

    async def refused_once(*asked: Any, taken: int) -> str:
        """Asked for when there is no room, and again when there is."""
        blocker = await submitted(yard, 10)
        assert (await yard.call(*asked)).status == 403
        await yard.call("PUT", f"/v1/job/{blocker}/kill")
        answer = await yard.call(*asked)
        assert answer.status == taken
        return str(answer.json["id"]) if taken == 200 else ""

    seen = await refused_once("POST", "/v1/job", SPEC | {"labels": {"team": "vision"}}, taken=200)
    assert [await times(seen, token) for token in (READER, "scoped")] == [1, 1]
    await yard.call("PUT", f"/v1/job/{seen}/kill")
    job = await refused_once("POST", "/v1/job", SPEC | {"labels": {"team": "audio"}}, taken=200)
    await yard.call("PUT", f"/v1/job/{job}/kill")
    await yard.call(
        "PUT", f"/v1/job/{job}/label", {"name": "another", "value": ""}
    )  # other work, so recorded
    await refused_once("PUT", f"/v1/job/{job}/start", taken=204)
    await yard.call("PUT", f"/v1/job/{job}/label", {"name": "team", "value": "vision"})
    for run in (1, 2):
        found = [await asked(yard, job, token=token, run=run) for token in (READER, "scoped")]
        assert [each["refused"] and each["refused"]["times"] for each in found] == [1, None]
    await yard.call("PUT", f"/v1/job/{job}/kill")
    await refused_once("PUT", f"/v1/job/{job}/start", taken=204)
    assert [await times(job, token) for token in (READER, "scoped")] == [1, 1]


async def test_a_start_that_was_refused(yard: Yard, supervision: Supervision) -> None:
    await begins(yard)
    job = await submitted(yard, 1)
    await supervision.running(job)
    await supervision.ended(job)
    blocker = await submitted(yard, 10)
    assert (await yard.call("PUT", f"/v1/job/{job}/start")).status == 403
    await yard.call("PUT", f"/v1/job/{blocker}/kill")
    assert (await yard.call("PUT", f"/v1/job/{job}/start")).status == 204
    assert (await asked(yard, job))["refused"]["times"] == 1
    assert (await asked(yard, job, run=1))["refused"] is None
    assert (await asked(yard, job, run=1))["state"] == "DONE"


async def test_a_run_that_the_row_tells_no_more_of(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The events have it, and no other run's are read for it."""
    await begins(yard)
    job = await submitted(yard, 1)
    await supervision.running(job)
    await supervision.ended(job)
    first = await asked(yard, job)
    monkeypatch.setattr(evolve, "VISITS_KEPT", 2)
    for _ in range(3):
        assert (await yard.call("PUT", f"/v1/job/{job}/start")).status == 204
        assert (await yard.call("PUT", f"/v1/job/{job}/kill")).status == 204
    assert {visit.run for visit in (await yard.ledger.job(UUID(job))).history} == {4}
    read: set[int | None] = set()
    of_job = past.of_job

    async def spied(*asked: Any, **more: Any) -> Any:
        found = await of_job(*asked, **more)
        read.update(event.run for event in found)
        return found

    monkeypatch.setattr(past, "of_job", spied)
    found = await asked(yard, job, run=1)
    assert read == {1}
    assert found == first | {"asOf": found["asOf"]}
    assert (found["state"], found["queuedAt"]) == ("DONE", first["queuedAt"])
    assert (await asked(yard, job))["state"] == "INTERRUPTED"


async def test_more_than_can_be_planned_again(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older part is told by what was noted then; the sum stays the same."""
    await begins(yard)
    first = await submitted(yard, 4)
    await supervision.running(first)
    job = await submitted(yard, 2)
    await note(yard, job, "waiting-for-cpu")
    for _ in range(5):
        await yard.call("PUT", f"/v1/job/{await submitted(yard, 1)}/kill")
    monkeypatch.setattr(waiting, "MOST_MOVES", 4)
    found = await asked(yard, job)
    assert [each["merged"] for each in found["stretches"]] == [True, False]
    assert {each["info"]["code"] for each in found["stretches"]} == {"waiting-for-cpu"}
    total = sum(float(each["seconds"]) for each in found["stretches"])
    assert total == pytest.approx(float(found["waitSeconds"]), abs=1e-6)


@pytest.mark.parametrize(
    ("run", "allowed"), [("2", "runs are 1 to 1"), ("0", "from 1"), ("x", "whole number")]
)
async def test_a_run_that_never_was(yard: Yard, run: str, allowed: str) -> None:
    job = await submitted(yard, 1)
    answer = await yard.call("GET", f"/v1/job/{job}/why?run={run}", token=READER)
    assert (answer.status, answer.json["field"]) == (400, "run")
    assert allowed in answer.json["message"]


async def test_a_deleted_job_is_not_there(yard: Yard) -> None:
    job = await submitted(yard, 1)
    await yard.call("DELETE", f"/v1/job/{job}?force=true", token=ADMIN)
    assert (await yard.call("GET", f"/v1/job/{job}/why", token=READER)).status == 404


async def test_the_past_of_many_runs_is_planned_again_by_one_request_at_a_time(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes a core meanwhile: clients that ask side by side must not take what all others need."""
    await begins(yard)
    await supervision.running(await submitted(yard, 3))
    waits = await submitted(yard, 2)
    planning = yard.app[SERVICE].planning
    async with planning._free.turn("held"):
        assert (await asked(yard, waits))["waiting"], "few moves need no turn"
        monkeypatch.setattr(waiting, "FEW_MOVES", 0)
        many = [asyncio.create_task(asked(yard, waits)) for _ in range(3)]
        await until(lambda: planning.asked == {"default": 3})
        assert not any(each.done() for each in many)
    assert [each["waiting"] for each in await asyncio.gather(*many)] == [True] * 3


async def test_the_past_is_read_beside_the_loop(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of events, for whoever asks why: others are answered meanwhile."""
    await begins(yard)
    await supervision.running(await submitted(yard, 3))
    threads: set[int] = set()

    def spied(record: Any) -> Any:
        threads.add(threading.get_ident())
        return event_of(record)

    monkeypatch.setattr(past, "event_of", spied)
    found = await past.load(yard.ledger.pool, await yard.ledger.now(), 0, await yard.head())
    assert found.moves == 4
    assert threads and threading.get_ident() not in threads


async def test_a_node_that_was_full_is_told_for_as_long_as_it_was(
    yard: Yard, supervision: Supervision
) -> None:
    """As the plans of then, also when it has room again; and in the metrics meanwhile."""

    async def admission(stopped: Info | None) -> None:
        command = cmd.SetAdmission(engine=ENGINE, epoch=1, node="local", stopped=stopped)
        await yard.ledger.submit(command, actor="supervisor")

    async def gauge(reason: str) -> str:
        text = (await yard.call("GET", "/metrics", token=READER)).raw.decode()
        line = f'jobyard_node_stopped{{node="local",reason="{reason}"}} '
        return next(each.removeprefix(line) for each in text.splitlines() if each.startswith(line))

    await begins(yard)
    await admission(Info("node-disk-full", "The disk is nearly full."))
    job = await submitted(yard, 1)
    assert said(await asked(yard, job)) == [("QUEUED", "disk", "node-disk-full")]
    assert (await gauge("node-disk-full"), await gauge("node-memory-full")) == ("1.0", "0.0")
    await admission(Info("node-memory-full", "The memory is nearly full."))
    await admission(Info("clock-behind", "The clock is behind."))
    assert (await gauge("clock-behind"), await gauge("node-disk-full")) == ("1.0", "0.0")
    await admission(None)
    assert await gauge("clock-behind") == "0.0"
    await supervision.running(job)
    assert said(await asked(yard, job))[:4] == [
        ("QUEUED", "disk", "node-disk-full"),
        ("QUEUED", "memory", "node-memory-full"),
        ("QUEUED", "clock", "clock-behind"),
        ("QUEUED", "node", "being-placed"),
    ]
