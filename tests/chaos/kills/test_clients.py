"""The clients themselves: they ask again with the same key while there is no answer, and no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import aiohttp
import pytest
from aiohttp import web

from tests.chaos.kills import clients
from tests.chaos.kills.clients import Load, Stuck
from tests.chaos.kills.house import House
from tests.chaos.kills.journal import Answer, Journal
from tests.chaos.kills.starts import Starts

#: Where others answer with a status, the line is cut.
CUT = 0


@dataclass
class Scripted:
    """A service that answers with these, and then with the last one for ever."""

    statuses: list[int]
    asked: list[tuple[str | None, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.headers.get("Idempotency-Key"), await request.text()))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == CUT:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"id": "job-1"}, status=status or 200)


@asynccontextmanager
async def a_client(root: Path, service: Scripted) -> AsyncIterator[Load]:
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", service.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    house = House(root, runner.addresses[0][1], told={"token": "t"})
    journal = Journal(root / "answers.jsonl")
    try:
        async with aiohttp.ClientSession() as http:
            yield Load(house, journal, Random(1), http)
    finally:
        journal.close()
        await runner.cleanup()


async def submitted(load: Load) -> int:
    status, _ = await load.order("submit", "POST", "/v1/job", "short", body={"image": "x"})
    return int(status)


@pytest.mark.parametrize(
    ("statuses", "answered", "faults"),
    [
        ([429, 429, 200], 200, 0),
        ([CUT, 503, 429, 200], 200, 0),
        ([500, 200], 200, 1),
        ([409], 409, 0),
        ([429, 404], 404, 0),
    ],
    ids=str,
)
async def test_an_order_is_asked_for_until_it_is_answered(
    tmp_path: Path, statuses: list[int], answered: int, faults: int
) -> None:
    """429 is no answer to it: nothing was carried out. 500 is none either, and is written down as a fault."""
    service = Scripted(list(statuses))
    async with a_client(tmp_path, service) as load:
        assert await submitted(load) == answered
    assert service.asked == [("load-1", '{"image": "x"}')] * len(statuses), "the same each time"
    assert len(load.faults) == faults
    job = "job-1" if answered == 200 else ""
    assert load.journal.answers() == [Answer("load-1", "submit", job, "short", answered)]


@pytest.mark.parametrize("status", [429, 503, CUT])
async def test_who_is_never_answered_is_stuck(
    tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "_PATIENCE_S", 3.0)  # many times what a try and its pause take
    service = Scripted([status])
    async with a_client(tmp_path, service) as load:
        with pytest.raises(Stuck, match="was not answered"):
            await submitted(load)
    assert len(service.asked) > 1
    assert load.journal.answers() == []


def test_a_start_that_is_told_once_more_is_no_second_one() -> None:
    """After the engine was away its last events are asked for again."""
    starts = Starts()
    told = {"Actor": {"Attributes": {"jobyard.job": "job-1", "jobyard.run": "1"}}, "timeNano": 7 * 10**9}
    starts.heard(told)
    starts.heard(told)
    assert starts.of == {("job-1", 1): {7 * 10**9}}
    starts.heard(told | {"timeNano": 8 * 10**9})
    assert starts.of == {("job-1", 1): {7 * 10**9, 8 * 10**9}}
