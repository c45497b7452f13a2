"""`python3 -m service test`: every check of this repository, in order, against real parts."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from service.errors import JobyardError, Misconfigured
from service.local import apt
from service.local.environment import clone_around
from service.local.parts import Parts
from service.local.throwaway import throwaway_parts

_CHAOS_TESTS = ("tests/chaos", "tests/api/test_events_crash.py")
_QUICK_TESTS = ("tests/unit", "tests/properties")  # those that need no part
#: The tests start hundreds of processes from this tree: with it set, each compiles the whole of it again.
_DROPPED = ("PYTHONDONTWRITEBYTECODE",)
#: Names the file that the tests' ids are written to that failed.
FAILED_VARIABLE = "JOBYARD_TEST_FAILED"
#: So many that fail beside others are run again alone. More are no accident.
_MOST_UNSTEADY = 3
_TESTS_FAILED = 1  # pytest's exit status; the others say that it could not run them
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Outcome:
    """How one check went; `code` is its exit status, `took_s` its time."""

    name: str
    code: int
    took_s: float
    #: The tests among it that failed beside others and passed alone.
    unsteady: tuple[str, ...] = ()


def test(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Only tests that need no Docker.")] = False,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="Only the tests that break things, at full length: hours.")
    ] = False,
    expression: Annotated[
        str | None, typer.Option("-k", help="Only tests that match, as pytest's -k.")
    ] = None,
) -> None:
    """Checks everything: ruff, mypy, layers, tests. Further arguments go to pytest."""
    arguments = [*context.args, *(["-k", expression] if expression else [])]
    if (quick or chaos) and not any(Path(each.partition("::")[0]).exists() for each in arguments):
        arguments += _CHAOS_TESTS if chaos else _QUICK_TESTS
    if chaos:
        arguments.append("--chaos")
    try:
        outcomes = asyncio.run(_run_all(_root(), arguments, quick=quick))
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except asyncio.CancelledError:
        raise typer.Exit(TERMINATED) from None
    _report(outcomes)
    raise typer.Exit(1 if any(outcome.code for outcome in outcomes) else 0)


def _root() -> Path:
    clone = clone_around(Path(__file__).parents[1])
    if clone is None:
        raise typer.BadParameter("the tests are in the repository: run this from a clone")
    return clone.root


async def _run_all(root: Path, arguments: Sequence[str], *, quick: bool) -> list[Outcome]:
    programs = Path(sysconfig.get_path("scripts"))
    commands = {
        "ruff check": [str(programs / "ruff"), "check", "."],
        "ruff format": [str(programs / "ruff"), "format", "--check", "."],
        "mypy": [sys.executable, "-m", "mypy"],
        "lint-imports": [str(programs / "lint-imports")],
    }
    outcomes = []
    async with asyncio.TaskGroup() as group:
        group.create_task(_compile(root, arguments))
        for name, command in commands.items():
            _headline(name)
            began = time.monotonic()
            outcomes.append(Outcome(name, await run(command, root, {}), time.monotonic() - began))
    _headline("pytest")
    outcomes.append(await _pytest(root, arguments, quick=quick))
    return outcomes


async def _compile(root: Path, arguments: Sequence[str]) -> None:
    """Have pytest compile the tests, once: its processes begin together, and each would compile them all.
    What is wrong with them is told when they are run."""
    await run([sys.executable, "-m", "pytest", "--collect-only", *arguments], root, {}, silent=True)


async def _pytest(root: Path, arguments: Sequence[str], *, quick: bool) -> Outcome:
    began = time.monotonic()
    code = 1
    unsteady: tuple[str, ...] = ()
    try:
        if quick:
            code, unsteady = await _tests(root, arguments, {})
        else:
            async with _parts() as parts:
                code, unsteady = await _tests(root, arguments, variables(parts))
    except JobyardError as error:
        print(f"jobyard: {error.message}", file=sys.stderr, flush=True)
    return Outcome("pytest", code, time.monotonic() - began, unsteady)


async def _tests(
    root: Path, arguments: Sequence[str], environ: Mapping[str, str]
) -> tuple[int, tuple[str, ...]]:
    """pytest's exit status, and the tests that failed beside others but not alone.

    Four processes and their parts share two cores: a test whose patience was too short for that once in a
    thousand runs would otherwise decide over all. It is named at the end, to be mended.
    """
    # A file at a time in each process, in the tests' own order. There are more processes than cores, as they
    # wait for the parts as long as they compute.
    processes = ["-n", "4", "--dist", "loadfile", "--no-loadscope-reorder"]
    split = [] if any(each.startswith("-n") for each in arguments) else processes
    command = [sys.executable, "-m", "pytest", *split, *arguments]
    if not split or "--chaos" in arguments:
        return await run(command, root, environ), ()
    with tempfile.TemporaryDirectory(prefix="jobyard-failed-") as directory:
        told = Path(directory) / "failed.json"
        code = await run(command, root, {**environ, FAILED_VARIABLE: str(told)})
        failed = json.loads(told.read_text()) if told.exists() else []
    if code != _TESTS_FAILED or not 0 < len(failed) <= _MOST_UNSTEADY:
        return code, ()
    _headline("pytest, what failed, alone")
    code = await run([sys.executable, "-m", "pytest", *failed], root, environ)
    return code, tuple(failed) if code == 0 else ()


@asynccontextmanager
async def _parts() -> AsyncIterator[Parts]:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)

    await asyncio.to_thread(_ensure_busybox, say)
    await asyncio.to_thread(_ensure_programs, say)
    say("Starting Postgres, Docker and the object store")
    async with throwaway_parts(say=say, in_memory=True) as parts:
        say(f"Ready; Docker at {parts.docker_host}" + (" (ours)" if parts.engine_is_ours else ""))
        yield parts
        say("Stopping them")


def variables(parts: Parts) -> dict[str, str]:
    """The environment variables by which the tests find the parts."""
    if parts.s3 is None:
        raise Misconfigured("the tests need an object store")
    return {
        "JOBYARD_TEST_DATABASE_URL": parts.database_url,
        "JOBYARD_TEST_DOCKER_HOST": parts.docker_host,
        "JOBYARD_TEST_S3": msgspec.json.encode(parts.s3).decode(),
    }


def _ensure_busybox(say: apt.Say) -> None:
    """The tests' image is one static program, so that no registry is needed."""
    found = shutil.which("busybox")
    # A dynamic one names the loader it needs in its first page and would not start in an empty image.
    if found is None or b"/ld-" in Path(found).read_bytes()[:4096]:
        apt.install(["busybox-static"], why="the tests' container image", say=say)


#: Programs that the tests use as users would, each with its Debian package.
PROGRAMS = {
    "docker-registry": "docker-registry",
    "git": "git",
    "curl": "curl",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
}


def _ensure_programs(say: apt.Say) -> None:
    """A registry that asks for passwords, servers of repositories, clients of URLs and of SSH: all real."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])  # users may have none of sbin
    missing = sorted(
        package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None
    )
    if missing:
        apt.install(missing, why="what the tests talk to and talk with", say=say)


async def run(
    command: Sequence[str], root: Path, variables: Mapping[str, str], *, silent: bool = False
) -> int:
    """Runs with our own terminal; on Ctrl-C or SIGTERM it gets the chance to end in order first."""
    environ = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    output = asyncio.subprocess.DEVNULL if silent else None
    child = await asyncio.create_subprocess_exec(
        *command,
        cwd=root,
        env={**environ, **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )
    try:
        return await child.wait()
    except asyncio.CancelledError:
        await _end(child)
        raise


async def _end(child: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if child.returncode is not None:
            return
        child.send_signal(number)
        try:
            async with asyncio.timeout(15):
                await child.wait()
        except TimeoutError:
            continue


def _headline(name: str) -> None:
    print(f"\n── {name} {'─' * (70 - len(name))}", flush=True)


def _report(outcomes: Sequence[Outcome]) -> None:
    _headline("summary")
    for outcome in outcomes:
        verdict = "ok" if outcome.code == 0 else f"FAILED ({outcome.code})"
        print(f"{outcome.name:<14}{verdict:<14}{outcome.took_s:8.1f} s")
        for test in outcome.unsteady:
            print(f"{'':<14}failed beside others, passed alone: {test}")
    sys.stdout.flush()
