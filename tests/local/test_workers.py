"""More API processes: where they say what they have to say."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import pytest

from service.app import listening_socket
from service.config import read_settings
from service.local import log_file
from service.local.workers import workers
from tests.support.waiting import until


async def test_their_log_is_the_services(database_url: str, state: Path) -> None:
    """At a terminal that is a file."""
    path = state / "jobyard.log"
    settings = read_settings({}, state_dir=state, public_url="http://127.0.0.1:1", api_workers=2)
    with listening_socket("127.0.0.1", 0, shared=True) as held, log_file.in_state(path) as log:
        port = held.getsockname()[1]
        async with (
            workers(settings, database_url, "unix:///nowhere", port, None, log),
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port}/v1/me") as response,
        ):
            assert response.status == 401
        assert [json.loads(line)["event"] for line in path.read_text().splitlines()][-1:] == ["request"]


async def test_what_is_said_by_one_that_does_not_even_start_is_in_the_log(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/ls")  # it tells of the arguments that it cannot find
    path = state / "jobyard.log"
    settings = read_settings({}, state_dir=state, api_workers=1)
    with log_file.in_state(path) as log:
        starting = asyncio.create_task(_enter(workers(settings, "", "unix:///nowhere", 1, None, log)))
        await until(lambda: "service.local.workers" in path.read_text())
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def _enter(context: AbstractAsyncContextManager[None]) -> None:
    async with context:
        pass
