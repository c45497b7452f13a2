"""Reads as of a moment: what is refused, what is not there yet or any more, and who may see what was."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import asyncpg
import pytest

from service.api import diff, past, views
from service.domain import commands as cmd
from service.domain import evolve
from service.ledger import asof
from service.ledger import commit as committing
from service.ledger.asof import rows
from service.ledger.asof.folded import AT_ONCE
from tests.api.yard import OPERATOR, READER, Answer, Supervision, Yard
from tests.support.waiting import DEADLINE_S, until

READS = ("/v1/job", "/v1/quota", "/v1/billing")
NOBODY = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
async def admin(yard: Yard) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection: only that sees who waits for what."""
    connection = await asyncpg.connect(yard.database)
    yield connection
    await connection.close()


def at(time: datetime) -> str:
    return quote(time.isoformat())


async def then(yard: Yard, path: str, moment: object, token: str = OPERATOR) -> Answer:
    joined = "&" if "?" in path else "?"
    return await yard.call("GET", f"{path}{joined}asOf={moment}", token=token)


async def recorded(yard: Yard, position: int) -> datetime:
    """When an event was recorded."""
    (event,) = await yard.ledger.events(position - 1, limit=1)
    return event.recorded_at


# -- what is asked for ------------------------------------------------------------------------------

BAD_MOMENTS = (
    *("-1", "1.5", "now", "2h", "2026-01-01", "2026-01-01T00:00:00", "99999999999999999999", "", "%00"),
    *("2026-13-01T00:00:00Z", "T", "null", "%D9%A1", "1e3", "5T"),
)


async def test_what_is_no_moment_is_named_with_what_is_one(yard: Yard) -> None:
    job = (await yard.submit())["id"]
    asked = [(f"{path}?asOf=", "asOf") for path in (*READS, f"/v1/job/{job}")]
    asked += [(f"/v1/job/{job}/diff?from=", "from"), (f"/v1/job/{job}/diff?from=1&to=", "to")]
    for path, field in asked:
        for moment in BAD_MOMENTS:
            answer = await yard.call("GET", path + moment)
            assert (answer.status, answer.json["field"]) == (400, field), (path, moment, answer.raw)
            wanted = "a position of the ledger, or a time such as 2026-01-31T12:00:00Z"
            assert wanted in answer.json["message"] or "NUL" in answer.json["message"]


async def test_what_has_not_come_yet_is_refused_with_the_head(yard: Yard) -> None:
    job = (await yard.submit())["id"]
    head = await yard.head()
    asked = [(f"{path}?asOf=", "asOf") for path in (*READS, f"/v1/job/{job}")]
    asked += [(f"/v1/job/{job}/diff?from=", "from"), (f"/v1/job/{job}/diff?from=1&to=", "to")]
    for path, field in asked:
        beyond = await yard.call("GET", f"{path}{head + 1}")
        assert (beyond.status, beyond.json["field"]) == (400, field), beyond.raw
        told = f"{field}: {head + 1} is not allowed; the ledger's last position is {head}"
        assert beyond.json["message"] == told
        for future in (datetime.now(UTC) + timedelta(hours=1), "9999-12-31T23:59:59-23:59"):
            text = at(future) if isinstance(future, datetime) else future
            answer = await yard.call("GET", path + text)
            assert (answer.status, answer.json["field"]) == (400, field), answer.raw
            assert answer.json["message"].startswith(f"{field}: '"), answer.raw
            assert f"it is {datetime.now(UTC):%Y-%m-}" in answer.json["message"]
        assert (await yard.call("GET", f"{path}{head}")).status == 200


async def test_before_the_first_event_there_is_nothing(yard: Yard) -> None:
    job = (await yard.submit())["id"]
    for moment in (0, "2020-01-01T00:00:00Z", "0001-01-01T00:00:00%2B23:59"):
        for path in ("/v1/job", "/v1/job?cursor=", "/v1/billing"):
            answer = await then(yard, path, moment)
            assert (answer.status, answer.json["items"], answer.headers[past.HEADER]) == (200, [], "0")
        assert (await then(yard, "/v1/job", moment)).json["metadata"]["total"] == 0
        for path, words in ((f"/v1/job/{job}", f"job {job}"), ("/v1/quota", "project default")):
            answer = await then(yard, path, moment)
            assert answer.status == 404
            assert answer.json["message"].startswith(f"{words} did not exist yet at position 0")


async def test_moments_of_an_empty_ledger(yard: Yard, admin: asyncpg.Connection) -> None:
    """Nobody can ask one through the API, as there is no token in it."""
    await admin.execute("SET session_replication_role = replica")
    await admin.execute("DELETE FROM jobyard.events")
    await admin.execute("UPDATE jobyard.ledger_head SET position = 0")
    for asked in (0, datetime.now(UTC), datetime(2020, 1, 1, tzinfo=UTC)):
        assert (await asof.moment_of(yard.ledger.pool, asked)).position == 0


async def test_a_moment_is_told_by_every_answer_that_is_of_one(yard: Yard) -> None:
    job = (await yard.submit())["id"]
    head = await yard.head()
    paths = [*READS, f"/v1/job/{job}"]
    for path in paths:
        assert (await then(yard, path, head - 1 if path in READS else head)).status == 200
        assert (await then(yard, path, head)).headers[past.HEADER] == str(head)
        time = await recorded(yard, head)
        assert (await then(yard, path, at(time))).headers[past.HEADER] == str(head)
        assert past.HEADER not in (await yard.call("GET", path)).headers
    document = (await yard.call("GET", "/v1/openapi.json")).json
    for path in ("/v1/job", "/v1/quota", "/v1/billing", "/v1/job/{id}"):
        operation = document["paths"][path]["get"]
        assert "asOf" in {parameter["name"] for parameter in operation["parameters"]}
        assert past.HEADER in operation["responses"]["200"]["headers"]


# -- what was there ---------------------------------------------------------------------------------


async def test_a_job_that_was_deleted_since_is_there_as_it_was(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.submit())["id"]
    born = await yard.head()
    await supervision.running(job)
    running = await yard.head()
    await supervision.ended(job)
    assert (await yard.call("DELETE", f"/v1/job/{job}")).status == 204
    gone = await yard.head()
    assert (await yard.call("GET", f"/v1/job/{job}")).status == 404
    states = {born: "QUEUED", running: "RUNNING", gone - 1: "DONE"}
    for position, state in states.items():
        assert (await then(yard, f"/v1/job/{job}", position)).json["status"]["state"] == state
        listed = (await then(yard, "/v1/job", position)).json
        assert [each["status"]["state"] for each in listed["items"]] == [state]
        assert listed["metadata"]["total"] == 1
    after = await then(yard, f"/v1/job/{job}", gone)
    assert (after.status, after.json["message"]) == (404, f"job {job} had been deleted by position {gone}")
    assert (await then(yard, "/v1/job", gone)).json["items"] == []
    assert len((await then(yard, f"/v1/billing?job={job}", gone)).json["items"]) == 1


async def test_a_cursor_and_pages_stay_in_their_moment(yard: Yard) -> None:
    for number in range(5):
        await yard.submit(name=f"j{number}")
    head = await yard.head()
    for paging in ("cursor=", "page=1"):
        url, names = f"/v1/job?size=2&asOf={head}&{paging}", []
        while url:
            page = (await yard.call("GET", url)).json
            names += [job["spec"]["name"] for job in page["items"]]
            url = page["metadata"]["links"].get("next")
            await yard.submit(name="later", resources={"gpu": 1}) if len(names) < 4 else None
        assert names == ["j4", "j3", "j2", "j1", "j0"]


async def test_what_a_token_may_see_is_decided_by_the_labels_of_then(
    yard: Yard, supervision: Supervision
) -> None:
    await yard.token("team a", OPERATOR, selector="team=a")
    job = (await yard.submit(labels={"team": "b"}))["id"]
    before = await yard.head()
    label = f"/v1/job/{job}/label"
    assert (await yard.call("PUT", label, {"name": "team", "value": "a"})).status == 204
    ours = await yard.head()
    await supervision.running(job)
    await supervision.ended(job)
    ran = await yard.head()
    assert (await yard.call("PUT", label, {"name": "team", "value": "b"})).status == 204
    after = await yard.head()
    for position, sees in ((before, False), (ours, True), (ran, True), (after, False)):
        answer = await then(yard, f"/v1/job/{job}", position, "team a")
        assert answer.status == (200 if sees else 404), position
        assert sees or answer.json["message"] == f"there is no job {job}"
        listed = (await then(yard, "/v1/job", position, "team a")).json
        assert (listed["metadata"]["total"], len(listed["items"])) == ((1, 1) if sees else (0, 0))
        bill = (await then(yard, "/v1/billing", position, "team a")).json
        assert len(bill["items"]) == (1 if sees else 0)
        bill_of = await then(yard, f"/v1/billing?job={job}", position, "team a")
        assert bill_of.status == (200 if sees else 404)
    # What it may not see now, it is not told of either.
    unborn = await then(yard, f"/v1/job/{job}", before - 1, "team a")
    assert (unborn.status, unborn.json["message"]) == (404, f"there is no job {job}")
    other = await then(yard, f"/v1/job/{job}", before - 1, "other")
    assert (other.status, other.json["message"]) == (404, f"there is no job {job}")
    assert (await then(yard, f"/v1/job/{job}", ran, "other")).status == 404
    assert (await then(yard, f"/v1/job/{NOBODY}", ran)).json["message"] == f"there is no job {NOBODY}"


async def test_a_revoked_token_reads_nothing_of_the_past(yard: Yard) -> None:
    token = await yard.token("gone", READER)
    head = await yard.head()
    assert (await then(yard, "/v1/job", head, "gone")).status == 200
    await yard.ledger.submit(cmd.RevokeToken(project="default", token_id=token), actor="test")
    await until(lambda: _is_refused(yard, head))


async def _is_refused(yard: Yard, head: int) -> bool:
    return (await then(yard, "/v1/job", head, "gone")).status == 401


# -- while others write -----------------------------------------------------------------------------


async def test_what_is_appended_in_between_is_not_in_a_list(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for what has changed and the list, a job changes that had not."""
    jobs = [(await yard.submit())["id"] for _ in range(3)]
    head = await yard.head()
    await yard.call("PUT", f"/v1/job/{jobs[0]}/label", {"name": "a", "value": "b"})
    texts = asof.Folded.texts

    async def late(self: asof.Folded, *given: Any) -> list[str]:
        await yard.call("PUT", f"/v1/job/{jobs[1]}/label", {"name": "a", "value": "b"})
        return await texts(self, *given)

    monkeypatch.setattr(asof.Folded, "texts", late)
    listed = (await then(yard, "/v1/job", head)).json
    assert [job["id"] for job in listed["items"]] == jobs[::-1]
    assert [job["spec"]["labels"].get("a") for job in listed["items"]] == [None] * 3


async def test_a_time_is_answered_once_what_was_under_way_is_there(
    yard: Yard, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append that took its time before the moment asked for, and is committed after it was asked."""
    may_go_on, holds = asyncio.Event(), asyncio.Event()
    earlier = committing._earlier

    async def slow(*given: Any) -> Any:
        holds.set()
        await may_go_on.wait()
        return await earlier(*given)

    monkeypatch.setattr(committing, "_earlier", slow)
    before = await yard.head()
    submitted = asyncio.create_task(yard.submit())
    await holds.wait()
    moment = at(await yard.ledger.now())
    asked = asyncio.create_task(then(yard, "/v1/job", moment))
    try:
        await until(lambda: _waits_for_a_lock(admin))
        assert not asked.done()
        assert (await then(yard, "/v1/job", before)).json["items"] == []  # a position waits for nobody
    finally:
        may_go_on.set()
    job = (await submitted)["id"]
    listed = await asked
    assert [each["id"] for each in listed.json["items"]] == [job]
    again = await then(yard, "/v1/job", moment)
    assert (again.json, again.headers[past.HEADER]) == (listed.json, listed.headers[past.HEADER])


async def test_a_reader_that_is_busy_elsewhere_keeps_nobody_from_writing(
    yard: Yard, admin: asyncpg.Connection
) -> None:
    """The head's lock is let go of by the server. While this loop does nothing, another process has it."""
    held, may_go_on = threading.Event(), threading.Event()
    had: list[bool] = []

    async def another() -> None:
        connection = await asyncpg.connect(yard.database)
        try:
            async with connection.transaction():
                await connection.fetchrow("SELECT * FROM jobyard.ledger_head FOR UPDATE")
                held.set()
                await asyncio.to_thread(may_go_on.wait, DEADLINE_S)
            async with connection.transaction():
                await connection.execute("SET LOCAL lock_timeout = '5s'")
                await connection.fetchrow("SELECT * FROM jobyard.ledger_head FOR UPDATE")
                had.append(True)
        finally:
            await connection.close()

    process = threading.Thread(target=lambda: asyncio.run(another()))
    process.start()
    try:
        assert await asyncio.to_thread(held.wait, DEADLINE_S)
        asked = asyncio.create_task(then(yard, "/v1/job", at(await yard.ledger.now())))
        await until(lambda: _waits_for_a_lock(admin))
    finally:
        may_go_on.set()
        process.join()  # the loop does nothing meanwhile
    assert had == [True]
    assert (await asked).status == 200


async def test_an_append_takes_its_time_when_it_has_the_lock(yard: Yard, admin: asyncpg.Connection) -> None:
    """Or somebody who looked meanwhile, and saw nothing, would be told of it later."""
    transaction = admin.transaction()
    await transaction.start()
    await admin.fetchrow("SELECT * FROM jobyard.ledger_head FOR UPDATE")
    submitted = asyncio.create_task(yard.submit())
    try:
        await until(lambda: _waits_for_a_lock(admin))
        now = await admin.fetchval("SELECT clock_timestamp()")
    finally:
        await transaction.rollback()
        await submitted
    assert await recorded(yard, await yard.head()) > now


async def _waits_for_a_lock(connection: asyncpg.Connection) -> bool:
    found: bool = await connection.fetchval(
        "SELECT count(*) > 0 FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return found


# -- what changed -----------------------------------------------------------------------------------


async def test_what_changed_between_two_moments(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.submit(labels={"stage": "a"}))["id"]
    born = await yard.head()
    await yard.call("PUT", f"/v1/job/{job}/label", {"name": "stage", "value": "b"})
    await yard.submit()  # of another job: no part of it
    await yard.call("PUT", f"/v1/job/{job}/label", {"name": "new", "value": ""})
    edited = await yard.head()
    await supervision.running(job)
    found = (await yard.call("GET", f"/v1/job/{job}/diff?from={born}&to={edited}")).json
    changed = {each["field"]: (each["before"], each["after"]) for each in found["changes"]}
    updated = changed.pop("updatedAt")
    assert changed == {"spec.labels.stage": ("a", "b"), "spec.labels.new": (None, "")}
    assert updated[0] < updated[1]
    assert [(e["position"], e["type"]) for e in found["events"]] == [
        (born + 1, "LabelSet"),
        (edited, "LabelSet"),
    ]
    assert (found["from"]["position"], found["to"]["position"]) == (born, edited)
    assert all(event["actor"].startswith("token:") and event["requestId"] for event in found["events"])

    # To now, by a time, and what a run brings with it.
    found = (await yard.call("GET", f"/v1/job/{job}/diff?from={at(await recorded(yard, edited))}")).json
    changed = {each["field"]: (each["before"], each["after"]) for each in found["changes"]}
    assert changed["status.state"] == ("QUEUED", "RUNNING")
    assert changed["status.history[1].state"] == (None, "INITIALIZING")
    assert [event["type"] for event in found["events"]] == ["RunPlaced", "RunPrepared", "RunStarted"]
    assert found["to"]["position"] == await yard.head()

    # Nothing, and from nothing.
    still = (await yard.call("GET", f"/v1/job/{job}/diff?from={edited}&to={edited}")).json
    assert (still["changes"], still["events"], still["eventsLeftOut"]) == ([], [], 0)
    first = (await yard.call("GET", f"/v1/job/{job}/diff?from=0&to={born}")).json
    changed = {each["field"]: (each["before"], each["after"]) for each in first["changes"]}
    assert changed["id"] == (None, job)
    assert {before for before, _ in changed.values()} == {None}
    assert [event["type"] for event in first["events"]] == ["JobSubmitted"]


async def test_events_beyond_the_most_are_counted(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "MOST_EVENTS", 2)
    job = (await yard.submit())["id"]
    born = await yard.head()
    for value in "abc":
        await yard.call("PUT", f"/v1/job/{job}/label", {"name": "a", "value": value})
    found = (await yard.call("GET", f"/v1/job/{job}/diff?from={born}")).json
    assert [event["position"] for event in found["events"]] == [born + 1, born + 2]
    assert found["eventsLeftOut"] == 1
    assert {"field": "spec.labels.a", "before": None, "after": "c"} in found["changes"]


async def test_a_deletion_is_a_change(yard: Yard) -> None:
    job = (await yard.submit())["id"]
    born = await yard.head()
    assert (await yard.call("DELETE", f"/v1/job/{job}?force=true")).status == 204
    found = (await yard.call("GET", f"/v1/job/{job}/diff?from={born}")).json
    assert {"field": "deleted", "before": False, "after": True} in found["changes"]
    assert found["events"][-1]["type"] == "JobDeleted"


async def test_a_difference_shows_no_secret(yard: Yard) -> None:
    job = await yard.submit(envVars=[{"name": "KEY", "value": "hunter2hunter2"}])
    assert job["spec"]["envVars"] == [{"name": "KEY", "value": "hunter2hunter2"}]
    answer = await yard.call("GET", f"/v1/job/{job['id']}/diff?from=0")
    assert {"field": "spec.envVars[0].name", "before": None, "after": "KEY"} in answer.json["changes"]
    assert b"hunter2" not in answer.raw


async def test_what_a_difference_cannot_be_of(yard: Yard) -> None:
    await yard.token("team a", OPERATOR, selector="team=a")
    job = (await yard.submit(labels={"team": "b"}))["id"]
    born = await yard.head()
    await yard.call("PUT", f"/v1/job/{job}/label", {"name": "team", "value": "a"})
    ours = await yard.head()
    path = f"/v1/job/{job}/diff"
    missing = await yard.call("GET", path)
    assert (missing.status, missing.json["field"]) == (400, "from")
    backwards = await yard.call("GET", f"{path}?from={ours}&to={born}")
    assert (backwards.status, backwards.json["field"]) == (400, "from")
    assert f"position {ours}" in backwards.json["message"] and str(born) in backwards.json["message"]
    assert (await yard.call("GET", f"{path}?from=0&to={born - 1}")).status == 404
    assert (await yard.call("GET", f"{path}?from=0", token="other")).status == 404
    assert (await yard.call("GET", f"/v1/job/{uuid4()}/diff?from=0")).status == 404
    # A token that is limited to some jobs must be able to see it at both moments.
    assert (await yard.call("GET", f"{path}?from={ours}", token="team a")).status == 200
    assert (await yard.call("GET", f"{path}?from={born}", token="team a")).status == 404


async def test_lists_of_then_do_not_take_every_connection(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may fold a whole history while it holds one: many at once must leave some for everybody else."""
    job = await yard.submit()
    at = await yard.head()
    await yard.call("PUT", f"/v1/job/{job['id']}/kill")
    free = asyncio.Event()
    folding = 0

    async def refolded(*_asked: Any) -> dict[str, Any]:
        nonlocal folding
        folding += 1
        await free.wait()
        return {}

    monkeypatch.setattr(rows, "refolded", refolded)
    lists = [
        asyncio.create_task(yard.call("GET", f"/v1/{path}?asOf={at}")) for path in ("job", "billing") * 6
    ]
    try:
        await until(lambda: folding == AT_ONCE)
        assert (await yard.call("GET", f"/v1/job/{job['id']}")).status == 200
        assert folding == AT_ONCE
    finally:
        free.set()
        answers = await asyncio.gather(*lists)
    assert {answer.status for answer in answers} == {200}


async def test_visits_that_a_job_shows_no_more_are_no_change(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The states that are shown at both moments stand beside each other."""
    for module in (evolve, views, diff):
        monkeypatch.setattr(module, "VISITS_KEPT", 6)
    job = (await yard.submit())["id"]
    await supervision.running(job)
    await supervision.ended(job)
    ended = await yard.head()
    assert (await yard.call("PUT", f"/v1/job/{job}/start")).status == 204
    found = (await yard.call("GET", f"/v1/job/{job}/diff?from={ended}")).json
    visits = [each for each in found["changes"] if each["field"].startswith("status.history")]
    assert [(each["field"], each["before"]) for each in visits] == [
        *(("status.history[5].state", None), ("status.history[5].date", None))
    ]
    assert visits[0]["after"] == "QUEUED"
