"""How commands end when somebody stops them, or stops reading them; and what a terminal is shown."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process

import pytest

from service.cli.exits import Exit
from tests.acceptance.running import Service, environment, started
from tests.acceptance.terminal import at_terminal
from tests.images import BUSYBOX
from tests.support.waiting import until

DEADLINE_S = 60.0


async def ended(process: Process) -> tuple[int, bytes, bytes]:
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    return process.returncode or 0, out, err


@pytest.mark.parametrize(
    "words", ["job list", "me -o yaml", "capabilities flavor list -o json", "token list"]
)
async def test_a_reader_that_has_left_is_told_by_the_status_alone(service: Service, words: str) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    async with started(
        *words.split(), stdin=DEVNULL, stdout=writes, stderr=PIPE, env=environment(service.state)
    ) as process:
        os.close(writes)
        code, _, err = await ended(process)
    assert (code, err) == (Exit.BROKEN_PIPE, b"")


async def test_ctrl_c_while_the_service_says_nothing(service: Service) -> None:
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, started(
        *("job", "list", "--url", url, "--token", "x"),
        stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment(service.state),
    ) as process:  # fmt: skip
        async with asyncio.timeout(DEADLINE_S):
            await asked.wait()
        process.send_signal(signal.SIGINT)
        assert await ended(process) == (Exit.INTERRUPTED, b"", b"")


async def test_a_list_that_is_watched_tells_changes_until_ctrl_c(service: Service) -> None:
    words = ("job", "list", "--watch", "-l", "watched=yes")
    async with started(
        *words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment(service.state)
    ) as process:
        job = (
            await service.cli("job", "run", "-c", "1", "-l", "watched=yes", BUSYBOX, "--", "true")
        ).out.strip()
        assert process.stdout is not None
        seen = b""
        async with asyncio.timeout(DEADLINE_S):
            while b"DONE" not in seen:
                seen = await process.stdout.readline()
                assert seen.startswith(job.encode()), seen
        process.send_signal(signal.SIGINT)
        assert await ended(process) == (Exit.INTERRUPTED, b"", b"")


async def test_ctrl_c_at_a_question_ends_it_and_the_terminal_echoes_again(service: Service) -> None:
    words = ("registry", "add", "https://asked.example", "ann")
    async with at_terminal(service, *words) as (process, terminal):
        await until(lambda: terminal.shows(b"Password"), what="the question")
        await until(lambda: terminal.mode() != terminal.before, what="no echo")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DEADLINE_S):
            assert await process.wait() == Exit.INTERRUPTED
        assert terminal.mode() == terminal.before
        assert not terminal.shows(b"Traceback")


async def test_a_table_fits_a_terminal_and_is_whole_in_a_pipe(service: Service) -> None:
    label = ("-l", "shown=wide")
    words = ("job", "list", *label)
    job = (await service.cli("job", "run", "-w", "-c", "1", *label, "-o", "json", BUSYBOX, "true")).json["id"]
    piped = await service.cli(*words, COLUMNS="40")
    assert piped.out.splitlines()[1].split()[0] == job
    assert BUSYBOX in piped.out and "\x1b" not in piped.out
    async with at_terminal(service, *words, columns=100, COLUMNS="60") as (process, terminal):
        async with asyncio.timeout(DEADLINE_S):
            assert await process.wait() == Exit.DONE
        await until(lambda: terminal.shows(job.encode()) and terminal.shows(b"\x1b[32mDONE"))
        assert not terminal.shows(BUSYBOX.encode())
    async with at_terminal(service, *words, "--no-color", columns=140) as (process, terminal):
        async with asyncio.timeout(DEADLINE_S):
            assert await process.wait() == Exit.DONE
        await until(lambda: terminal.shows(BUSYBOX.encode()))  # the kernel hands it over in its own time
        assert not terminal.shows(b"\x1b[32m")
