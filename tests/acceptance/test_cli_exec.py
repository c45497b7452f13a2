"""`jobyard job exec` and the commands that change a running job, as processes, against a real service."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.cli.exits import Exit
from tests.acceptance.running import ANSWER_DEADLINE_S, Said, Service, environment, started
from tests.acceptance.terminal import at_terminal
from tests.images import BUSYBOX
from tests.support.waiting import until

WAITS = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done")


@pytest.fixture
async def job(service: Service) -> AsyncIterator[str]:
    """A job that is RUNNING."""
    made = await service.cli("job", "run", "-c", "1", "-l", "team=a", "-o", "json", BUSYBOX, "--", *WAITS)
    job_id: str = made.json["id"]

    async def runs() -> bool:
        shown = await service.cli("job", "get", job_id, "-o", "json")
        return bool(shown.json["status"]["state"] == "RUNNING")

    await until(runs, ANSWER_DEADLINE_S)  # each look is a process of its own
    yield job_id
    await service.cli("job", "delete", "--force", job_id)


async def fed(service: Service, data: bytes, *words: str) -> Said:
    """A command with something on its standard input."""
    settings = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, "env": environment(service.state)}
    async with started(*words, **settings) as process, asyncio.timeout(ANSWER_DEADLINE_S):
        out, err = await process.communicate(data)
    return Said(process.returncode or 0, out.decode(), err.decode())


async def test_a_commands_streams_and_exit_status_are_its_own(service: Service, job: str) -> None:
    said = await service.cli("job", "exec", job, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (said.code, said.out, said.err) == (7, "out\n", "err\n")
    assert (await service.cli("job", "exec", job, "--", "true")).code == 0
    words = await service.cli("job", "exec", job, "--", "printf", "[%s]", "-x", "--tty", "a b", "")
    assert words.out == "[-x][--tty][a b][]"


async def test_input_from_a_pipe_and_from_a_file(service: Service, job: str, tmp_path: Path) -> None:
    data = os.urandom(300_000).hex().encode()
    said = await fed(service, data, "job", "exec", "-i", job, "--", "cat")
    assert (said.code, said.out) == (0, data.decode())
    file = tmp_path / "input"
    file.write_bytes(data)
    words = ("job", "exec", "-i", job, "--")
    with file.open() as stdin:
        settings = {"stdin": stdin, "stdout": PIPE, "env": environment(service.state)}
        async with started(*words, "wc", "-c", **settings) as process, asyncio.timeout(ANSWER_DEADLINE_S):
            out, _ = await process.communicate()
    assert (process.returncode, out.strip()) == (0, str(len(data)).encode())
    # A command that ends first leaves nobody waiting for input that never comes.
    settings = {"stdin": PIPE, "env": environment(service.state)}
    async with started(*words, "true", **settings) as early, asyncio.timeout(ANSWER_DEADLINE_S):
        assert await early.wait() == 0


async def test_a_terminal_follows_ours_and_is_restored(service: Service, job: str) -> None:
    words = ("job", "exec", "-i", "-t", job, "--", "sh")
    async with at_terminal(service, *words, rows=33, columns=99) as (process, terminal):
        await until(lambda: terminal.shows(b"$ "), what="a prompt")
        terminal.type(b"stty size\n")
        await until(lambda: terminal.shows(b"33 99"), what="the size of our terminal")
        terminal.resize(21, 77)
        process.send_signal(signal.SIGWINCH)

        async def follows() -> bool:
            terminal.type(b"stty size\n")
            await asyncio.sleep(0.1)
            return terminal.shows(b"21 77")

        await until(follows, what="the new size")
        terminal.type(b"exit 5\n")
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            assert await process.wait() == 5
        assert terminal.mode() == terminal.before


async def test_what_cannot_be_run_is_told(service: Service, job: str) -> None:
    missing = await service.cli("job", "exec", job, "--", "no-such-program")
    assert missing.code in (126, 127)
    assert "no-such-program" in missing.out + missing.err
    nowhere = await service.cli("job", "exec", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "--", "true")
    assert (nowhere.code, "there is no job" in nowhere.err) == (Exit.NOT_FOUND, True)
    ended = await service.cli("job", "run", "-c", "1", "-o", "json", BUSYBOX, "--", "true")
    await service.cli("job", "wait", ended.json["id"])
    late = await service.cli("job", "exec", ended.json["id"], "--", "true")
    assert (late.code, "while it is RUNNING" in late.err) == (Exit.REFUSED, True)


async def test_a_running_job_is_edited_labelled_and_found(service: Service, job: str) -> None:
    assert (await service.cli("job", "edit", job, "--timeout", "2h", "--timeout-auto-restart")).code == 0
    assert (await service.cli("job", "label", job, "stage=prod", "team-")).code == 0
    spec = (await service.cli("job", "get", job, "-o", "json")).json["spec"]
    assert (spec["timeout"], spec["timeoutAutoRestart"]) == (7200, True)
    assert spec["labels"]["stage"] == "prod"
    assert "team" not in spec["labels"]
    found = await service.cli("job", "list", "-l", "stage in (prod,test)", "-l", "!team", "-o", "json")
    assert [each["id"] for each in found.json] == [job]
    bad = await service.cli("job", "label", job, "nothing")
    assert (bad.code, "NAME=VALUE" in bad.err) == (Exit.USAGE, True)
    short = await service.cli("job", "edit", job)
    assert (short.code, "timeout" in short.err) == (Exit.USAGE, True)
    moved = await service.cli("job", "push-data", job)
    assert (moved.code, "the job has no volumes" in moved.err) == (Exit.USAGE, True)


async def test_tokens_and_capabilities(service: Service) -> None:
    made = (await service.cli("token", "create", "ci", "-l", "team in (a,b)", "-o", "json")).json
    renewed = (await service.cli("token", "renew", made["id"], "-o", "json")).json
    assert renewed["status"]["version"] == 2
    assert renewed["status"]["value"] != made["status"]["value"]
    assert (await service.cli("me", JOBYARD_TOKEN=made["status"]["value"])).code == Exit.REFUSED
    assert (await service.cli("me", JOBYARD_TOKEN=renewed["status"]["value"])).code == 0
    flavors = await service.cli("capabilities", "flavor", "list")
    assert "ai1-1-cpu" in flavors.out
    assert "0.03 EUR" in (await service.cli("capabilities", "flavor", "get", "ai1-1-cpu")).out
    assert (await service.cli("capabilities", "flavor", "get", "nothing")).code == Exit.NOT_FOUND
    for noun in ("image", "preset"):
        assert (await service.cli("capabilities", noun, "list")).code == 0
