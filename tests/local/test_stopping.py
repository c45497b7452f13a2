"""Being asked to stop, by whom and however often."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.local.helpers import ROOT

_WAITING = """
import asyncio, signal, sys, uvloop
from service.local import stopping

async def main():
    stop = asyncio.Event()
    stopping.listen(stop)
    print("up", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    await asyncio.to_thread(sys.stdin.read)  # what takes a while to end
    print("stopped", flush=True)

if sys.argv[2] == "ignored":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
(uvloop if sys.argv[1] == "uvloop" else asyncio).run(main())
"""

_WORKING = """
import asyncio, sys
from service.local import stopping

async def main():
    with stopping.cancelling():
        try:
            print("up", flush=True)
            await asyncio.Event().wait()
        finally:
            print("stopping", flush=True)
            await asyncio.to_thread(sys.stdin.read)
            print("stopped", flush=True)

try:
    asyncio.run(main())
except asyncio.CancelledError:
    raise SystemExit(7)
"""


@asynccontextmanager
async def up(*words: str, stderr: int | None = None) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", *words, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=stderr
    )
    try:
        async with asyncio.timeout(60):
            await said(process, "up")
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: Process, text: str) -> None:
    assert process.stdout is not None
    assert (await process.stdout.readline()).decode().strip() == text


async def ended(process: Process) -> int:
    assert process.stdin is not None
    process.stdin.close()
    await said(process, "stopped")
    return await process.wait()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_terminal_that_closes_stops_it_in_order(loop: str) -> None:
    """The kernel says so and the shell, too: that is no second request."""
    async with up(_WAITING, loop, "") as process:
        process.send_signal(signal.SIGHUP)
        await said(process, "stopping")
        process.send_signal(signal.SIGHUP)
        assert await ended(process) == 0


async def test_under_nohup_it_goes_on() -> None:
    async with up(_WAITING, "uvloop", "ignored") as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        await said(process, "stopping")
        process.send_signal(signal.SIGHUP)
        assert await ended(process) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_what_works_is_cancelled_and_ends_in_order(number: signal.Signals) -> None:
    async with up(_WORKING) as process:
        process.send_signal(number)
        await said(process, "stopping")
        if number is signal.SIGHUP:
            process.send_signal(number)
        assert await ended(process) == 7


async def test_a_second_request_ends_it_also_where_nobody_reads_that() -> None:
    reads, writes = os.pipe()
    async with up(_WAITING, "uvloop", "", stderr=writes) as process:
        os.close(writes)
        os.close(reads)
        process.send_signal(signal.SIGTERM)
        await said(process, "stopping")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM
