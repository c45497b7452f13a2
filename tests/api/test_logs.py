"""Logs: read in parts, followed by many, ended by everything that must end them."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from service.api import jobs
from service.api.call import SERVICE, Call
from service.api.logs import NONE_KEPT
from service.supervisor.logs.format import RunLog
from tests.api.yard import ADMIN, DEADLINE_S, OPERATOR, READER, Printer, Supervision, Yard, gathered
from tests.support.waiting import until


@pytest.fixture
async def job(yard: Yard) -> str:
    found: str = (await yard.submit())["id"]
    return found


async def test_a_log_is_read_whole_and_in_parts(yard: Yard, job: str) -> None:
    path = f"/v1/job/{job}/log"
    empty = await yard.call("GET", path)
    assert (empty.status, empty.raw) == (200, b"")
    assert empty.headers["Content-Type"] == "text/plain; charset=utf-8"
    printer = Printer(yard, job)
    for number in range(10):
        printer.line(f"line {number}")
    printer.end()
    whole = b"".join(b"line %d\n" % number for number in range(10))
    assert (await yard.call("GET", path)).raw == whole
    assert (await yard.call("GET", f"{path}?tail=2")).raw == b"line 8\nline 9\n"
    assert (await yard.call("GET", f"{path}?page=2&size=3")).raw == b"line 3\nline 4\nline 5\n"
    assert (await yard.call("GET", f"{path}?since=2999-01-01T00:00:00Z")).raw == b""
    stamped = (await yard.call("GET", f"{path}?timestamps=true&tail=1")).raw
    assert stamped.endswith(b"Z line 9\n")
    head = await yard.call("HEAD", f"{path}?follow=true")
    assert (head.status, head.raw) == (200, b"")


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00%2B14:00", "0500-01-01T00:00:00Z"])
async def test_a_log_since_a_time_at_the_calendars_beginning_is_whole(
    yard: Yard, job: str, since: str
) -> None:
    printer = Printer(yard, job)
    printer.line("all")
    printer.end()
    for more in ("", "&follow=true"):
        assert (await yard.call("GET", f"/v1/job/{job}/log?since={since}{more}")).raw == b"all\n"


async def test_a_token_revoked_on_the_way_follows_no_log(
    yard: Yard, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_id = await yard.token("ci", READER)
    seen = jobs.seen

    async def overtaken(call: Call, *more: Any) -> Any:
        found = await seen(call, *more)
        assert (await yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)).status == 204
        return found

    monkeypatch.setattr(jobs, "seen", overtaken)
    async with asyncio.timeout(DEADLINE_S):
        answer = await yard.call("GET", f"/v1/job/{job}/log?follow=true", token="ci")
    assert answer.status == 401


async def test_two_hundred_follow_one_log_to_its_end(yard: Yard, job: str) -> None:
    printer = Printer(yard, job)
    printer.line("first")
    metrics = yard.app
    followers = metrics[SERVICE].metrics.followers

    async def follow(_index: int) -> bytes:
        return (await yard.call("GET", f"/v1/job/{job}/log?follow=true")).raw

    following = asyncio.create_task(gathered(200, follow))
    await until(lambda: followers._value.get() == 200)
    assert (await yard.call("GET", "/v1/me")).status == 200
    printer.line("second")
    printer.end()
    assert await following == [b"first\nsecond\n"] * 200
    assert followers._value.get() == 0


async def test_a_followed_line_comes_before_the_end(yard: Yard, job: str) -> None:
    printer = Printer(yard, job)
    headers = {"Authorization": f"Bearer {yard.tokens[OPERATOR]}"}
    async with yard.http.get(f"{yard.url}/v1/job/{job}/log?follow=true", headers=headers) as response:
        printer.line("now")
        assert await response.content.readline() == b"now\n"
        printer.end()
        assert await response.read() == b""


async def test_following_a_run_that_ended_without_a_log_ends(
    yard: Yard, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.logs.LAST_OUTPUT_S", 0.1)
    assert (await yard.call("PUT", f"/v1/job/{job}/kill")).status == 204
    answer = await yard.call("GET", f"/v1/job/{job}/log?follow=true")
    assert (answer.status, answer.raw) == (200, b"")


async def test_an_ended_runs_log_is_not_cut_short_for_a_slow_client(
    yard: Yard, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.logs.LAST_OUTPUT_S", 0.1)
    monkeypatch.setattr("service.api.logs.GONE_S", 0.05)
    line, count = "x" * 2**16, 512  # more than all buffers on the way hold
    printer = Printer(yard, job)
    for _ in range(count):
        printer.line(line)
    printer.end()
    assert (await yard.call("PUT", f"/v1/job/{job}/kill")).status == 204
    headers = {"Authorization": f"Bearer {yard.tokens[OPERATOR]}"}
    watch = yard.app[SERVICE].watch
    async with yard.http.get(f"{yard.url}/v1/job/{job}/log?follow=true", headers=headers) as response:
        got = await response.content.read(10)
        await until(lambda: all(follower.over.is_set() for follower in watch._followers))
        await asyncio.sleep(0.5)  # longer than more output is waited for
        got += await response.content.read()
    assert len(got) == count * (len(line) + 1)
    assert got == f"{line}\n".encode() * count


async def test_each_run_has_its_own_log(yard: Yard, job: str, supervision: Supervision) -> None:
    for run in (1, 2):
        await supervision.running(job, run)
        printer = Printer(yard, job, run)
        printer.line(f"run {run}")
        printer.end()
        await supervision.ended(job, run)
        if run == 1:
            assert (await yard.call("PUT", f"/v1/job/{job}/start")).status == 204
    path = f"/v1/job/{job}/log"
    assert (await yard.call("GET", path)).raw == b"run 2\n"
    assert (await yard.call("GET", f"{path}?run=1&follow=true")).raw == b"run 1\n"


async def test_a_log_that_is_gone_says_so_and_an_empty_one_says_nothing(
    yard: Yard, job: str, supervision: Supervision
) -> None:
    """Of the runs, the first two had a process: one printed nothing, the other's log is gone. The third had
    none, and no log either."""
    path = f"/v1/job/{job}/log"
    for run in (1, 2):
        await supervision.running(job, run)
        printer = Printer(yard, job, run)
        assert (await yard.call("GET", path)).raw == b""
        printer.end()
        await supervision.ended(job, run)
        assert (await yard.call("GET", path)).raw == b"", "it printed nothing"
        assert (await yard.call("GET", f"{path}?follow=true")).raw == b""
        if run == 2:
            RunLog(yard.settings.logs_dir, UUID(job), run).segment(0).unlink()
            for more in ("", "?tail=1", "?page=1", "?follow=true", "?follow=true&tail=5"):
                assert (await yard.call("GET", path + more)).raw == NONE_KEPT, more
            for more in ("?tail=0", "?page=2", "?follow=true&tail=0"):
                assert (await yard.call("GET", path + more)).raw == b"", more
        assert (await yard.call("PUT", f"/v1/job/{job}/start")).status == 204
    assert (await yard.call("PUT", f"/v1/job/{job}/kill")).status == 204
    for run, said in ((1, b""), (2, NONE_KEPT), (3, b"")):
        assert (await yard.call("GET", f"{path}?run={run}")).raw == said, run
    assert (await yard.call("PUT", f"/v1/job/{job}/start")).status == 204
    assert (await yard.call("GET", f"{path}?run=3")).raw == b""


@pytest.mark.parametrize(
    ("code", "prepared", "killed", "said"),
    [
        ("engine-gone", True, False, NONE_KEPT),
        ("engine-gone", True, True, NONE_KEPT),
        ("container-lost", True, False, NONE_KEPT),
        ("engine-gone", False, False, b""),
        ("engine-gone", False, True, b""),
        ("no-gpu-driver", True, False, b""),
    ],
)
async def test_a_run_that_may_have_begun_unheard_is_not_said_to_have_printed_nothing(
    yard: Yard, job: str, supervision: Supervision, code: str, prepared: bool, killed: bool, said: bytes
) -> None:
    await supervision.lost(job, code, prepared=prepared, killed=killed)
    assert (await yard.call("GET", f"/v1/job/{job}/log")).raw == said
    if said:
        assert (await yard.call("GET", f"/v1/job/{job}/log?follow=true")).raw == said
    else:
        Printer(yard, job).end()
        assert (await yard.call("GET", f"/v1/job/{job}/log?follow=true")).raw == b""


async def test_whoever_follows_is_told_that_the_log_is_gone(
    yard: Yard, job: str, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.logs.LAST_OUTPUT_S", 0.1)
    monkeypatch.setattr("service.api.logs.GONE_S", 0.05)
    followers = yard.app[SERVICE].metrics.followers
    await supervision.running(job)
    following = asyncio.create_task(yard.call("GET", f"/v1/job/{job}/log?follow=true"))
    await until(lambda: followers._value.get() == 1)
    await supervision.ended(job)
    assert (await following).raw == NONE_KEPT


async def test_a_client_that_leaves_is_noticed(yard: Yard, job: str) -> None:
    followers = yard.app[SERVICE].metrics.followers
    headers = {"Authorization": f"Bearer {yard.tokens[OPERATOR]}"}
    response: Any = await yard.http.get(f"{yard.url}/v1/job/{job}/log?follow=true", headers=headers)
    await until(lambda: followers._value.get() == 1)
    response.close()
    await until(lambda: followers._value.get() == 0)


async def test_followers_end_when_the_service_closes(yard: Yard, job: str) -> None:
    followers = yard.app[SERVICE].metrics.followers
    following = asyncio.create_task(yard.call("GET", f"/v1/job/{job}/log?follow=true"))
    await until(lambda: followers._value.get() == 1)
    await yard.app.shutdown()
    with pytest.raises(aiohttp.ClientPayloadError):  # cut, so that it does not look like the log's end
        await following


async def test_nothing_more_is_read_for_who_has_left(
    yard: Yard, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, done = asyncio.Event(), asyncio.Event()

    async def nothing_wanted(*_: Any, **__: Any) -> Any:
        try:
            while True:
                yield b""
                reading.set()
                await asyncio.sleep(0.01)
        finally:
            done.set()

    monkeypatch.setattr(yard.app[SERVICE].parts.logs, "read", nothing_wanted)
    asking = asyncio.create_task(yard.call("GET", f"/v1/job/{job}/log?page=1000000"))
    await reading.wait()
    asking.cancel()
    async with asyncio.timeout(DEADLINE_S):
        await done.wait()
