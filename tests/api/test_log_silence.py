"""A followed log of a run that has ended: it is over once its end was looked at in vain, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest

from service.api.call import SERVICE
from service.api.logs import _Source
from service.rounds import Rounds
from tests.api.yard import DEADLINE_S, OPERATOR, Printer, Yard
from tests.support.waiting import until

#: Longer than more output is waited for here.
LONG_S = 0.5
PROJECT = "default"


@pytest.fixture
async def job(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("service.api.logs.LAST_OUTPUT_S", 0.1)
    monkeypatch.setattr("service.api.logs.GONE_S", 0.05)
    found: str = (await yard.submit())["id"]
    return found


async def over(yard: Yard, job: str) -> None:
    """The run has ended; whoever follows it knows, and has waited for long."""
    assert (await yard.call("PUT", f"/v1/job/{job}/kill")).status == 204
    watch = yard.app[SERVICE].watch
    await until(lambda: watch._followers and all(each.over.is_set() for each in watch._followers))
    await asyncio.sleep(LONG_S)


async def test_a_log_that_is_looked_through_is_not_silent(yard: Yard, job: str) -> None:
    """Nor while that waits for its turn."""
    printer = Printer(yard, job)
    for _ in range(120):
        printer.line("x" * 2**14)
    since = datetime.now(UTC)
    printer.line("wanted")
    printer.end()
    scans: Rounds = yard.app[SERVICE].parts.logs._scans  # type: ignore[attr-defined]
    for more in ({}, {"tail": "5"}):
        async with scans.turn(PROJECT):
            query = {"follow": "true", "since": since.isoformat(), **more}
            following = asyncio.create_task(yard.call("GET", f"/v1/job/{job}/log", params=query))
            await until(lambda: scans.waiting(PROJECT) == 1)
            if not more:
                await over(yard, job)
            else:
                await asyncio.sleep(LONG_S)
            assert not following.done()
        async with asyncio.timeout(DEADLINE_S):
            answer = await following
        assert (answer.status, answer.raw) == (200, b"wanted\n"), more


async def test_what_comes_of_a_long_look_counts_as_no_silence(
    yard: Yard, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty chunks, for longer than more output is waited for, after a moment at the log's end."""
    asked = asyncio.Event()

    async def looked_through(*_: object, **__: object) -> object:
        yield None
        asked.set()
        for _each in range(20):
            yield b""
            await asyncio.sleep(LONG_S / 10)
        yield None  # the end anew: what was before is no silence
        await asyncio.sleep(LONG_S)
        yield b"found\n"

    monkeypatch.setattr(yard.app[SERVICE].parts.logs, "follow", looked_through)
    following = asyncio.create_task(yard.call("GET", f"/v1/job/{job}/log?follow=true"))
    await asked.wait()
    assert (await yard.call("PUT", f"/v1/job/{job}/kill")).status == 204
    assert (await following).raw == b"found\n"


async def test_a_log_is_looked_at_once_at_least(yard: Yard, job: str) -> None:
    printer = Printer(yard, job)
    printer.line("all")
    printer.end()
    reads: Rounds = yard.app[SERVICE].parts.logs._reads  # type: ignore[attr-defined]
    async with reads.turn(PROJECT), reads.turn(PROJECT):
        following = asyncio.create_task(yard.call("GET", f"/v1/job/{job}/log?follow=true"))
        await until(lambda: reads.waiting(PROJECT) == 1)
        await over(yard, job)
    assert (await following).raw == b"all\n"


async def test_silence_counts_from_when_the_run_was_over() -> None:
    """What was not printed before that says nothing."""

    async def quiet() -> AsyncGenerator[bytes | None, None]:
        yield None
        await asyncio.sleep(0.01)
        yield None

    source, before = _Source(quiet()), asyncio.get_running_loop().time()
    assert source.silent_s(before) < 0, "nobody has looked"
    assert [chunk async for chunk in source.read()] == []
    assert source.silent_s(before) > 0
    assert source.silent_s(asyncio.get_running_loop().time()) <= 0


async def test_the_end_is_looked_at_once_more_before_a_log_is_over(yard: Yard, job: str) -> None:
    """The look waits for its turn meanwhile, and what it will find is there."""
    printer = Printer(yard, job)
    printer.line("first")
    reads: Rounds = yard.app[SERVICE].parts.logs._reads  # type: ignore[attr-defined]
    headers = {"Authorization": f"Bearer {yard.tokens[OPERATOR]}"}
    async with yard.http.get(f"{yard.url}/v1/job/{job}/log?follow=true", headers=headers) as response:
        assert await response.content.readline() == b"first\n"
        async with reads.turn(PROJECT), reads.turn(PROJECT):
            await until(lambda: reads.waiting(PROJECT) == 1)
            printer.line("last")
            printer.end()
            await over(yard, job)
        assert await response.content.read() == b"last\n"


async def test_a_log_that_never_has_an_end_is_over_after_a_while(yard: Yard, job: str) -> None:
    printer = Printer(yard, job)
    printer.line("all")
    assert (await yard.call("PUT", f"/v1/job/{job}/kill")).status == 204
    async with asyncio.timeout(DEADLINE_S):
        for more in ("", "&tail=1", "&since=2999-01-01T00:00:00Z"):
            answer = await yard.call("GET", f"/v1/job/{job}/log?follow=true{more}")
            assert (answer.status, answer.raw) == (200, b"" if "since" in more else b"all\n"), more
