"""Local parts in a state directory that lasts as long as their use: for the checks, demos and benchmarks."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from service.errors import JobyardError
from service.local import engine_api, processes
from service.local.apt import Say
from service.local.docker import DockerEngine
from service.local.parts import Parts, local_parts
from service.local.postgres import EmbeddedPostgres
from service.local.postgres_home import lie_in

_PREFIX = "jobyard-throwaway-"
_MEMORY = Path("/dev/shm")  # noqa: S108 (a folder of a name of its own is made in it)
#: A server's log of changes takes up to one GiB, its databases some hundred MiB.
_PLENTY_BYTES = 6 * 1024**3


@asynccontextmanager
async def throwaway_parts(
    *, say: Say, own_engine: bool = False, in_memory: bool = False
) -> AsyncIterator[Parts]:
    """Parts in a fresh temporary state directory; at the end nothing of them is left.

    What an earlier run left that was killed with -9 is cleaned first. An engine that is not ours is used
    and left as it is. With `in_memory` the database's files do not lie on a disk, where there is plenty of
    memory: a database for each test takes a third of the time then.
    """
    await _sweep(say)
    state = await asyncio.to_thread(_make)
    with _held(state):  # until it is gone: who finds it half removed must not take it for a killed run's
        if in_memory:
            await asyncio.to_thread(keep_in_memory, state)
        try:
            async with _emptied(state, say=say, own_engine=own_engine) as parts:
                yield parts
        finally:
            await asyncio.to_thread(remove, state)


@asynccontextmanager
async def _emptied(state: Path, *, say: Say, own_engine: bool) -> AsyncIterator[Parts]:
    async with local_parts(
        state, database_url=None, docker_host=None, store=True, say=say, own_engine=own_engine
    ) as parts:
        try:
            yield parts
        finally:
            if parts.engine_is_ours:
                await engine_api.remove_all(parts.docker_host)


async def _sweep(say: Say) -> None:
    for state in await asyncio.to_thread(_there):
        with _held(state) as ours:
            if ours and _is_abandoned(state):
                await _clean(state, say)


def _there() -> list[Path]:
    return sorted(Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"))


async def _clean(state: Path, say: Say) -> None:
    say(f"Removing what a killed run left: {state}")
    try:
        # Entering takes over what still runs, leaving stops it.
        async with _emptied(state, say=_unsaid, own_engine=(state / "docker" / "data").exists()):
            pass
    except JobyardError as error:
        say(f"{state} stays, it cannot be cleaned: {error.message}")
    else:
        await asyncio.to_thread(remove, state)


@contextmanager
def _held(state: Path) -> Iterator[bool]:
    """Whether the directory is there and no other run's; it is none's while the context lasts. The lock is on
    the directory itself: one on a file in it would be gone before the directory is."""
    try:
        handle = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone, or somebody else's, or no directory
        yield False
        return
    try:
        yield _is_locked(handle, state)
    finally:
        os.close(handle)


def _is_locked(handle: int, state: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return state.exists()  # names are random, so it is the very same


def _make() -> Path:
    state = Path(tempfile.mkdtemp(prefix=_PREFIX))
    state.chmod(0o755)  # Postgres runs as another user than root; what is secret has its own mode
    return state


def keep_in_memory(state: Path) -> None:
    """Has a database that is to be made in memory, if this machine has plenty; else it is as ever."""
    mounted = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    if [str(_MEMORY), "tmpfs"] in mounted and shutil.disk_usage(_MEMORY).free >= _PLENTY_BYTES:
        lie_in(state, _MEMORY / state.name)


def _is_abandoned(state: Path) -> bool:
    """Whether it is one of our user's, had parts, and no process uses them: not even one of an older version,
    which locks nothing else."""
    lock = state / "lock"
    if state.stat().st_uid != os.geteuid() or not lock.exists():
        return False
    with lock.open("a") as handle:
        return _is_locked(handle.fileno(), state)


def remove(state: Path) -> None:
    """Deletes a state directory whose parts are stopped, with what lies outside of it on its behalf."""
    postgres, engine = EmbeddedPostgres(state, say=_unsaid), DockerEngine(state, configured=None, say=_unsaid)
    engine.remove_network()
    for folder in (*postgres.outside(), *engine.outside(), state):
        _unmount_below(folder)
        if folder.exists():
            shutil.rmtree(folder)


def _unsaid(_text: str) -> None:
    """For what nobody needs to read."""


def _unmount_below(folder: Path) -> None:
    """dockerd leaves mounts of its containers' files and network namespaces."""
    points = [Path(line.split()[1]) for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((point for point in points if folder in point.parents), reverse=True):
        program = processes.which("umount") or "umount"
        subprocess.run([program, "--lazy", str(point)], check=True, capture_output=True)
