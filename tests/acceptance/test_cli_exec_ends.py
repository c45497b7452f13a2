"""`jobyard job exec` in a pipe and under a signal: its own exit status, and the terminal as it was."""

from __future__ import annotations

import asyncio
import os
import pty
import shlex
import signal
import termios
from asyncio.subprocess import DEVNULL, PIPE

import pytest

from service.cli.exits import Exit
from tests.acceptance.running import PROGRAM, Service, environment
from tests.acceptance.test_cli_exec import job
from tests.images import BUSYBOX
from tests.support.waiting import until

__all__ = ["job"]

_TALKS = (BUSYBOX, "--", "yes")


async def piped(service: Service, text: str) -> tuple[str, str]:
    """What a shell's pipeline wrote; `$JY` is our command."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", text.replace("$JY", shlex.join(PROGRAM))),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment(service.state),
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return out.decode(), err.decode()


async def test_input_that_the_command_does_not_want_is_no_failure(service: Service, job: str) -> None:
    said = await piped(service, f"yes | $JY job exec -i {job} -- head -c 4; echo $?")
    assert said == ("y\ny\n0\n", "")
    said = await piped(service, f"yes | $JY job exec -i {job} -- sh -c 'exit 3'; echo $?")
    assert said == ("3\n", "")


@pytest.mark.parametrize("words", ["job exec {} -- yes", "job logs -f {}"])
async def test_a_reader_that_leaves_is_no_failure_of_the_service(
    service: Service, job: str, words: str
) -> None:
    talking = await service.cli("job", "run", "-c", "1", "-o", "json", *_TALKS)
    of = job if "exec" in words else talking.json["id"]
    out, err = await piped(service, f"$JY {words.format(of)} | head -c 4; echo ${{PIPESTATUS[0]}}")
    await service.cli("job", "stop", talking.json["id"])
    assert (out, err) == (f"y\ny\n{Exit.BROKEN_PIPE.value}\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_the_terminal_is_put_back_under_a_signal(
    service: Service, job: str, number: signal.Signals
) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = await asyncio.create_subprocess_exec(
        *(*PROGRAM, "job", "exec", "-i", "-t", job, "--", "sh"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(service.state),
        start_new_session=True,
    )
    await until(lambda: termios.tcgetattr(theirs) != before, what="a raw terminal")
    process.send_signal(number)
    async with asyncio.timeout(30):
        assert await process.wait() == 128 + number
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
