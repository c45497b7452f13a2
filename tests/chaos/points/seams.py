"""The seams of a process, watched: whatever it does to Postgres, the engine, the object store and files.

The product has no hooks for this. Its parts are wrapped here, in a process that only tests start.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from service.ledger.ledger import Ledger
from service.supervisor.data.s3.store import Multipart, Store
from service.supervisor.data.volume import beneath
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.exec import Execs
from sql import queries
from tests.chaos.points.points import Points, without_ids

_APPEND = queries("ledger").append
#: Not what each sweep does anew: rules of the firewall are looked at at any time, also after the end.
_ENGINE = ("pull", "create", "start", "stop", "remove", "ensure_network", "drop_network")
_STORE = ("put", "get", "delete_object", "ensure_container", "_create", "_complete", "_abort")
#: What Python's audit events call a change to files, and which arguments of each are a path and its folder.
_CHANGES = {
    "os.mkdir": (0, 2),
    "os.rename": (1, 3),
    "os.link": (1, 3),
    "os.remove": (0, 1),
    "os.rmdir": (0, 1),
    "os.truncate": (0, None),
    "os.chmod": (0, 2),
    "os.chown": (0, 3),
    "os.utime": (0, 3),
}
_MAKING = os.O_CREAT | os.O_TRUNC


def watch_parts(points: Points, state: Path) -> None:
    """The engine, the object store and files below `state`, of this whole process and for good."""
    for name in _ENGINE:
        _around(DockerEngine, name, points, f"engine {name}")
    for name in _STORE:
        _around(Store, name, points, f"store {name.lstrip('_')}")
    _around(Multipart, "send", points, "store part")
    _exec(points)
    _files(points, state)


def watch_ledger(points: Points, ledger: Ledger) -> None:
    """What this one does in Postgres: commits, leases, keys."""
    for owner, name in (
        (ledger, "take_lease"),
        (ledger, "release_lease"),
        (ledger.keys, "of"),
        (ledger.keys, "of_job"),
    ):
        _around(owner, name, points, f"ledger {name}")
    writer = ledger._writer
    connect = writer.connect

    async def watched() -> Any:
        return Connection(await connect(), points)

    writer.connect = watched


def _around(owner: Any, name: str, points: Points, what: str) -> None:
    """Cross a point before and after each call of a coroutine function."""
    inner = getattr(owner, name)

    @functools.wraps(inner)
    async def watched(*args: Any, **kwargs: Any) -> Any:
        points.cross(f"{what}, before")
        answer = await inner(*args, **kwargs)
        points.cross(f"{what}, after")
        return answer

    setattr(owner, name, watched)


def _exec(points: Points) -> None:
    inner = Execs.open

    @asynccontextmanager
    async def watched(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        points.cross("engine exec, before")
        async with inner(*args, **kwargs) as running:
            points.cross("engine exec, after")
            yield running

    setattr(Execs, "open", watched)  # noqa: B010 (mypy knows its type)


class Connection:
    """The writer's connection. What is appended names the points around it: by the types of its events,
    each once."""

    def __init__(self, inner: Any, points: Points) -> None:
        self._inner = inner
        self._points = points
        self._appended = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def execute(self, statement: str, *arguments: Any) -> Any:
        if statement != _APPEND:
            return await self._inner.execute(statement, *arguments)
        self._appended = "+".join(dict.fromkeys(event[4] for event in arguments[0]))
        self._points.cross(f"append {self._appended}, before")
        return await self._inner.execute(statement, *arguments)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        self._appended = ""
        async with self._inner.transaction():
            yield
            if self._appended:
                self._points.cross(f"append {self._appended}, before its commit")
        if self._appended:
            self._points.cross(f"append {self._appended}, committed and not answered")


def _files(points: Points, state: Path) -> None:
    """Before each change to a file. Names of folders that a change is relative to are looked up."""
    below = f"{state}/"

    def named(path: Any, folder: Any = None) -> str | None:
        """Below the state directory, without ids; None for what is elsewhere."""
        if isinstance(path, int):
            path = _path_of(path)
        text = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0 and not text.startswith("/"):
            text = f"{_path_of(folder)}/{text}"
        return without_ids(text.removeprefix(below)) if text.startswith(below) else None

    def heard(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if not isinstance(path, str | bytes | os.PathLike) or not flags & _MAKING:
                return
            text = os.fsdecode(path)
            # The audit event does not tell the folder. Nothing else makes files by a relative name.
            name = named(text) if text.startswith("/") else f".../{text}"
            what = "make"
        elif event in _CHANGES:
            path_at, folder_at = _CHANGES[event]
            name = named(args[path_at], None if folder_at is None else args[folder_at])
            what = event.removeprefix("os.")
        else:
            return
        if name is not None:
            points.cross(f"file {what} {name}")

    sys.addaudithook(heard)

    def before(call: Callable[..., Any], what: str, at: int = 0) -> Callable[..., Any]:
        """`at`: which argument is the descriptor of what is changed."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            name = named(args[at])
            if name is not None:
                points.cross(f"file {what} {name}")
            return call(*args, **kwargs)

        return watched

    for call, at in (("write", 0), ("fsync", 0), ("copy_file_range", 1)):
        setattr(os, call, before(getattr(os, call), call, at))
    setattr(beneath, "settle", before(beneath.settle, "settle"))  # noqa: B010


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 (many a time, and below `pathlib`)
    except OSError:
        return ""
