"""Local parts in a state directory that lasts as long as their use: for the checks, demos and benchmarks."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from service.errors import JobyardError
from service.local import docker, processes
from service.local.apt import Say
from service.local.docker import DockerEngine
from service.local.parts import Parts, local_parts
from service.local.postgres import EmbeddedPostgres, lie_in

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
                await docker.remove_all(parts.docker_host)


async def _sweep(say: Say) -> None:
    for state in await asyncio.to_thread(_abandoned):
        say(f"Removing what a killed run left: {state}")
        try:
            # Entering takes over what still runs, leaving stops it.
            async with _emptied(state, say=_unsaid, own_engine=(state / "docker" / "data").exists()):
                pass
        except JobyardError as error:
            say(f"{state} stays, it cannot be cleaned: {error.message}")
        else:
            await asyncio.to_thread(remove, state)


def _make() -> Path:
    state = Path(tempfile.mkdtemp(prefix=_PREFIX))
    state.chmod(0o755)  # Postgres runs as another user than root; what is secret has its own mode
    return state


def keep_in_memory(state: Path) -> None:
    """Has a database that is to be made in memory, if this machine has plenty; else it is as ever."""
    mounted = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    if [str(_MEMORY), "tmpfs"] in mounted and shutil.disk_usage(_MEMORY).free >= _PLENTY_BYTES:
        lie_in(state, _MEMORY / state.name)


def _abandoned() -> list[Path]:
    """Throw-away state directories of ours whose lock nobody holds."""
    found = []
    for state in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        lock = state / "lock"
        if state.is_symlink() or state.stat().st_uid != os.geteuid() or not lock.exists():
            continue
        with lock.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            found.append(state)
    return found


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
