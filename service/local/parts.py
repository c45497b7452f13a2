"""Everything Jobyard needs on one machine: Postgres, a Docker Engine and, if asked for, an object store."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.config.stores import S3Access
from service.errors import Misconfigured
from service.local import stopping
from service.local.apt import Say
from service.local.docker import DockerEngine
from service.local.objectstore import ObjectStore
from service.local.places import open_in_state, written_in
from service.local.postgres import EmbeddedPostgres
from service.local.watch import Part, kept_running


@dataclass(frozen=True)
class Parts:
    """What runs. `database_url` is the superuser's (or the one configured; it may hold a password);
    `engine_is_ours` says whether the engine at `docker_host` is a dockerd of this state directory."""

    database_url: str = field(repr=False)
    docker_host: str
    engine_is_ours: bool
    s3: S3Access | None


@asynccontextmanager
async def local_parts(
    state: Path,
    *,
    database_url: str | None,
    docker_host: str | None,
    store: bool,
    say: Say,
    own_engine: bool = False,
    engine_stays_in_use: bool = False,
    first: Callable[[], None] | None = None,
) -> AsyncIterator[Parts]:
    """Runs the parts of the state directory `state` while the context lasts.

    `database_url`, `docker_host`: configured ones, used instead of starting any. `store`: also an S3
    server. `own_engine`: a dockerd of ours even if the machine has one. `engine_stays_in_use`: a dockerd of
    ours is left running as long as its containers do. `say` gets lines for people.
    `first` is called once the directory is ours and before anything is started, for checks that are cheap.
    A part of ours that dies meanwhile is started again, at the same address.
    Containers of a dockerd of ours live on after the end; the next run takes them over, as it does with
    parts that a killed run left. Ctrl-C, SIGTERM and SIGHUP cancel the current task; all parts are stopped
    then.
    Raises Misconfigured or Unavailable, in one line.
    """
    state = _made(state)
    engine = DockerEngine(
        state, configured=docker_host, say=say, own=own_engine, stays_in_use=engine_stays_in_use
    )
    postgres = EmbeddedPostgres(state, say=say)
    objects = ObjectStore(state, say=say)
    parts: list[Part] = [engine, *([] if database_url else [postgres]), *([objects] if store else [])]
    async with AsyncExitStack() as stack:
        stack.enter_context(_only_one(state))
        if first is not None:
            first()
        stack.enter_context(stopping.cancelling())
        for part in parts:
            stack.push_async_callback(part.stop)  # does nothing for one that never started
        await _all(*(part.start() for part in parts))
        await stack.enter_async_context(kept_running(parts, say))
        url = database_url or postgres.url("jobyard")
        yield Parts(url, engine.host, engine.is_ours, objects.access if store else None)


def _made(state: Path) -> Path:
    state.mkdir(mode=0o755, parents=True, exist_ok=True)
    return state.resolve()


async def _all(*starting: Coroutine[None, None, None]) -> None:
    """Runs all at once; the first error cancels the rest and is the one that is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in starting:
                group.create_task(each)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


@contextlib.contextmanager
def _only_one(state: Path) -> Iterator[None]:
    """One Jobyard per state directory; the kernel frees the lock even after a kill -9."""
    with open_in_state(state / "lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "of unknown number"
            raise Misconfigured(
                f"{state} is in use by another Jobyard (process {holder}):"
                " stop it, or choose another directory"
            ) from None
        with written_in(state):
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        yield
