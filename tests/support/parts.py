"""The parts that tests need, where the environment names none: started for the session, gone after it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from service.local import throwaway
from service.local.docker import DockerEngine
from service.local.objectstore import ObjectStore
from service.local.postgres import EmbeddedPostgres
from tests.support.registry import RegistryServer

DATABASE, DOCKER, STORE = "JOBYARD_TEST_DATABASE_URL", "JOBYARD_TEST_DOCKER_HOST", "JOBYARD_TEST_S3"
REGISTRY = "JOBYARD_TEST_REGISTRY"

#: Which parts each folder of tests needs; the others need none, or start their own.
NEEDED: dict[str, tuple[str, ...]] = {
    "ledger": (DATABASE,),
    "webhooks": (DATABASE,),
    "api": (DATABASE, DOCKER, STORE, REGISTRY),
    "audit": (DATABASE, STORE),
    "data": (STORE,),
    "ssh": (DATABASE, DOCKER),
    "supervisor": (DATABASE, DOCKER, REGISTRY),
    "acceptance": (DATABASE, DOCKER, STORE, REGISTRY),
    "chaos": (DATABASE, DOCKER, STORE),
}


@contextmanager
def provided(folders: Collection[str]) -> Iterator[None]:
    """While it lasts, the environment names every part that tests in these folders need."""
    needed = {name for folder in folders for name in NEEDED.get(folder, ())}
    missing = sorted(name for name in needed if name not in os.environ)
    with ExitStack() as stack:
        if missing:
            stack.enter_context(_interrupted_by_sigterm())
            state = throwaway_state(stack)
            for name in missing:
                value, stop = _STARTS[name](state)
                stack.callback(stop)
                _set(stack, name, value)
        if DOCKER in os.environ and "DOCKER_HOST" not in os.environ:
            _set(stack, "DOCKER_HOST", os.environ[DOCKER])
        yield


def throwaway_state(stack: ExitStack) -> Path:
    """A state directory with the name and the lock by which `service.local.throwaway` finds one whose
    holder was killed, and cleans up after it."""
    state = Path(tempfile.mkdtemp(prefix="jobyard-throwaway-"))
    state.chmod(0o755)  # Postgres runs as another user than root
    stack.callback(throwaway.remove, state)
    lock = stack.enter_context((state / "lock").open("a"))
    fcntl.flock(lock, fcntl.LOCK_EX)
    return state


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM then ends pytest as Ctrl-C does: the parts are stopped, and not left behind."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _set(stack: ExitStack, name: str, value: str) -> None:
    os.environ[name] = value
    stack.callback(os.environ.pop, name, None)


Started = tuple[str, Callable[[], None]]


def _postgres(state: Path) -> Started:
    throwaway.keep_in_memory(state)
    part = EmbeddedPostgres(state, say=print)
    asyncio.run(part.start())
    return part.url("postgres"), lambda: asyncio.run(part.stop())


def _docker(state: Path) -> Started:
    part = DockerEngine(state, configured=None, say=print)
    asyncio.run(part.start())
    return part.host, lambda: asyncio.run(part.stop())


def _store(state: Path) -> Started:
    part = ObjectStore(state, say=print)
    asyncio.run(part.start())
    access = part.access
    names = {
        "endpoint": access.endpoint,
        "accessKey": access.access_key,
        "secretKey": access.secret_key,
        "region": access.region,
    }
    return json.dumps(names), lambda: asyncio.run(part.stop())


def _registry(state: Path) -> Started:
    part = RegistryServer(state)
    asyncio.run(part.start())
    return part.told, lambda: asyncio.run(part.stop())


_STARTS = {DATABASE: _postgres, DOCKER: _docker, STORE: _store, REGISTRY: _registry}
