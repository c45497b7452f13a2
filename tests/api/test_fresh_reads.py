"""A read that is answered from memory tells what a query would have told, and to whom it may."""

from __future__ import annotations

import asyncio
from pathlib import Path

from service.api.call import SERVICE
from service.api.shown import LARGEST, Shown
from service.domain.evolve import evolve
from service.ledger.job_rows import JobRows
from tests.api.yard import OPERATOR, READER, Supervision, Yard, opened


async def test_another_process_writes_and_this_one_tells(yard: Yard, database: str, tmp_path: Path) -> None:
    job = await yard.submit()
    path = f"/v1/job/{job['id']}"
    async with opened(database, tmp_path / "second", yard.tokens) as second:
        for value in map(str, range(5)):
            first = await yard.call("GET", path)
            assert (await yard.call("GET", path)).raw == first.raw
            label = {"name": "n", "value": value}
            assert (await second.call("PUT", f"{path}/label", label)).status == 204
            answers = await asyncio.gather(*(yard.call("GET", path) for _ in range(8)))
            assert {answer.json["spec"]["labels"]["n"] for answer in answers} == {value}
        assert (await second.call("PUT", f"{path}/kill")).status == 204
        assert (await second.call("DELETE", path)).status == 204
        assert (await yard.call("GET", path)).status == 404
    assert yard.app[SERVICE].shown.kept.size_bytes > 0


async def test_what_is_in_memory_is_shown_to_those_who_may_see_it(yard: Yard) -> None:
    plain = await yard.submit(labels={"team": "a"})
    secret = await yard.submit(labels={"team": "a"}, envVars=[{"name": "KEY", "value": "s3cret"}])
    await yard.token("theirs", OPERATOR, selector="team=b")
    for job in (plain, secret):
        path = f"/v1/job/{job['id']}"
        for _ in range(2):
            assert (await yard.call("GET", path)).json == job
            assert b"s3cret" not in (await yard.call("GET", path, token=READER)).raw
            assert (await yard.call("GET", path, token="theirs")).status == 404
            assert (await yard.call("GET", path, token="other")).status == 404
    token_id = await yard.token("short", READER)
    path = f"/v1/job/{plain['id']}"
    assert (await yard.call("GET", path, token="short")).status == 200
    assert (await yard.call("DELETE", f"/v1/token/{token_id}", token="administrator")).status == 204
    assert (await yard.call("GET", path, token="short")).status == 401


async def test_a_running_job_runs_on_when_nothing_happens_to_it(yard: Yard, supervision: Supervision) -> None:
    job = await yard.submit()
    await supervision.running(job["id"])
    path = f"/v1/job/{job['id']}"
    first = (await yard.call("GET", path)).json["status"]
    assert first["startedAt"]
    before = first["duration"]
    async with asyncio.timeout(20):
        while (await yard.call("GET", path)).json["status"]["duration"] <= before:
            await asyncio.sleep(0.1)


async def test_answers_are_kept_in_bounded_memory(yard: Yard) -> None:
    await yard.submit()
    (event,) = [each for each in await yard.ledger.events() if each.type == "JobSubmitted"]
    job = evolve(None, event)
    shown = Shown(most_bytes=2000)
    shown.keep(job, 0, b"x" * 1000)
    assert shown.of(job, 0) == b"x" * 1000
    assert shown.of(job, 1) is None, "of another moment"
    assert shown.of(evolve(None, event), 0) is None, "of another value, though it is equal"
    shown.keep(job, 2, b"y" * (LARGEST + 1))
    assert shown.of(job, 2) is None
    assert 0 < shown.kept.size_bytes <= 2000


async def test_a_list_tells_of_each_job_what_a_read_of_it_tells(
    yard: Yard, database: str, tmp_path: Path
) -> None:
    plain = await yard.submit(labels={"n": "0"})
    secret = await yard.submit(envVars=[{"name": "KEY", "value": "s3cret"}])
    paths = [f"/v1/job/{job['id']}" for job in (secret, plain)]
    async with opened(database, tmp_path / "second", yard.tokens) as second:
        for value in map(str, range(4)):
            label = {"name": "n", "value": value}
            assert (await second.call("PUT", f"{paths[1]}/label", label)).status == 204
            for asked in ("/v1/job", "/v1/job?cursor=", "/v1/job?sort=updatedAt&order=asc"):
                found = (await yard.call("GET", asked)).json["items"]
                found.sort(key=lambda job: job["createdAt"], reverse=True)
                assert found == [(await yard.call("GET", path)).json for path in paths]
            assert found[1]["spec"]["labels"]["n"] == value
            theirs = await yard.call("GET", "/v1/job", token=READER)
            assert len(theirs.json["items"]) == 2
            assert b"s3cret" not in theirs.raw
            assert found[0]["spec"]["envVars"] == [{"name": "KEY", "value": "s3cret"}]
    then = (await yard.call("GET", f"/v1/job?asOf={(await yard.ledger.events())[-2].position}")).json["items"]
    assert [job["spec"]["labels"].get("n") for job in then] == [None, "2"]


async def test_the_jobs_of_a_list_that_run_go_on_running(yard: Yard, supervision: Supervision) -> None:
    job = await yard.submit()
    await supervision.running(job["id"])
    before = (await yard.call("GET", "/v1/job")).json["items"][0]["status"]["duration"]
    async with asyncio.timeout(20):
        while (await yard.call("GET", "/v1/job")).json["items"][0]["status"]["duration"] <= before:
            await asyncio.sleep(0.1)


async def test_the_same_row_is_the_same_job_in_bounded_memory(yard: Yard) -> None:
    for _ in range(3):
        await yard.submit()
    rows = [record["row"] for record in await yard.ledger.pool.fetch("SELECT row FROM fold_status")]
    jobs = JobRows()
    assert all(jobs.job(row) is jobs.job(str(row.encode(), "utf-8")) for row in rows)
    small = JobRows(most_bytes=jobs.kept.size_bytes // 2)
    first = small.job(rows[0])
    for row in rows:
        assert small.job(row) == jobs.job(row)
    assert small.kept.size_bytes <= jobs.kept.size_bytes // 2
    assert small.job(rows[0]) is not first, "it went, and was decoded again"
