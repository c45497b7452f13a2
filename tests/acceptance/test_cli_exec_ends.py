"""`jobyard job exec` in a pipe and under a signal: its own exit status, and the terminal as it was."""

from __future__ import annotations

import asyncio
import shlex
import signal
from asyncio.subprocess import DEVNULL, PIPE

import pytest

from service.cli.exits import Exit
from tests.acceptance.running import ANSWER_DEADLINE_S, PROGRAM, Service, environment, started
from tests.acceptance.terminal import at_terminal
from tests.acceptance.test_cli_exec import job
from tests.images import BUSYBOX
from tests.support.waiting import until

__all__ = ["job"]

#: One that floods its log has its last words kept for a minute, and holds the node's place as long.
_TALKS = (BUSYBOX, "--", "sh", "-c", "while :; do echo y; sleep 0.1; done")


async def piped(service: Service, text: str) -> tuple[str, str]:
    """What a shell's pipeline wrote; `$JY` is our command."""
    line = text.replace("$JY", shlex.join(PROGRAM))
    settings = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "env": environment(service.state)}
    async with (
        started(line, program=("bash", "-c"), **settings) as process,
        asyncio.timeout(ANSWER_DEADLINE_S),
    ):
        out, err = await process.communicate()
    return out.decode(), err.decode()


async def test_input_that_the_command_does_not_want_is_no_failure(service: Service, job: str) -> None:
    said = await piped(service, f"yes | $JY job exec -i {job} -- head -c 4; echo $?")
    assert said == ("y\ny\n0\n", "")
    said = await piped(service, f"yes | $JY job exec -i {job} -- sh -c 'exit 3'; echo $?")
    assert said == ("3\n", "")


async def test_a_terminal_without_one_of_ours_loses_no_output(service: Service, job: str) -> None:
    exec_it = f"$JY job exec -it {job} --"
    for line, out in (
        (f"{exec_it} sh -c 'sleep 0.2; echo x' </dev/null", "x\r\n0\n"),
        (f"printf 'one\ntwo' | {exec_it} sh -c 'stty -echo; sleep 0.2; cat; exit 4'", "4\n"),
        (f"(echo 'stty -echo'; sleep 0.5; echo 'echo hi; exit 5') | {exec_it} sh", "5\n"),
        (f"printf 'echo hi\nexit 4\n' | {exec_it} sh", "4\n"),
    ):
        said, err = await piped(service, f"{line}; echo $?")
        assert (said.endswith(out), err) == (True, ""), (line, said)
        assert "two" in said or "printf 'one" not in line, said
        assert "hi\r\n" in said or "echo hi" not in line, said


async def test_a_reader_that_leaves_is_no_failure_of_the_service(service: Service, job: str) -> None:
    talking = (await service.cli("job", "run", "-c", "1", "-o", "json", *_TALKS)).json["id"]
    for words in (f"job exec {job} -- yes", f"job logs -f {talking}"):
        out, err = await piped(service, f"$JY {words} | head -c 4; echo ${{PIPESTATUS[0]}}")
        assert (out, err) == (f"y\ny\n{Exit.BROKEN_PIPE.value}\n", ""), words
    assert (await service.cli("job", "delete", "--force", talking)).code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_the_terminal_is_put_back_under_a_signal(
    service: Service, job: str, number: signal.Signals
) -> None:
    words = ("job", "exec", "-i", "-t", job, "--", "sh")
    async with at_terminal(service, *words) as (process, terminal):
        await until(lambda: terminal.mode() != terminal.before, what="a raw terminal")
        process.send_signal(number)
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            assert await process.wait() == 128 + number
        assert terminal.mode() == terminal.before
