"""The machine as a seed has it: its names, locks, threads, disks and clocks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import structlog

from service.domain.room import Level
from tests.chaos.simulation.stores import Objects

#: Of the node's disk in bytes; what is kept free.
DISK, RESERVE = 100 * 2**30, 2**30
#: `<host>/<process>` of the supervisor whose task this is.
HOST: ContextVar[str] = ContextVar("host")


class _HostLock:
    """The lock of a host, which goes with its process."""

    holders: dict[str, object] = {}  # noqa: RUF012 (emptied for each seed)

    def __init__(self, *_: Any) -> None:
        self._host = HOST.get().partition("/")[0]

    def take(self) -> bool:
        return self.holders.setdefault(self._host, self) is self

    @property
    def held(self) -> bool:
        return self.holders.get(self._host) is self

    def sign(self) -> None: ...

    def other(self) -> None: ...

    def release(self) -> None:
        if self.held:
            del self.holders[self._host]


def _is_gone(holder: str) -> bool:
    """A host has one process at a time: whoever was there before has ended."""
    return holder.partition("/")[0] == HOST.get().partition("/")[0]


class _Here:
    """An executor without threads."""

    def submit(self, work: Callable[..., Any], *args: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*args))
        except Exception as error:  # noqa: BLE001 (whoever waits for it gets it)
            done.set_exception(error)
        return done


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _dropped(*_: Any) -> Any:
    raise structlog.DropEvent


@contextmanager
def silent() -> Iterator[None]:
    """Nothing is logged."""
    before = structlog.get_config()
    structlog.configure(
        processors=[_dropped], wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL)
    )
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def without_chance(chance: Random, objects: Objects, disk_free: Callable[[], int]) -> Iterator[None]:
    """What the product takes from the machine by itself comes from the seed."""
    _HostLock.holders = {}
    with (
        silent(),
        patch("service.supervisor.supervisor.holder_name", lambda: HOST.get()),
        patch("service.supervisor.supervisor.HostLock", _HostLock),
        patch("service.supervisor.guard.is_gone", _is_gone),
        patch("service.supervisor.images.random.uniform", chance.uniform),
        # A ping finds out what is cut without an end, which nothing is here.
        patch("service.ledger.writer.PING_S", 15.0),
        patch("service.api.auth.time", SimpleNamespace(monotonic=_now_s)),
        patch("service.supervisor.data.s3.shelf.Store", objects),
        patch("service.supervisor.data.disk.SLICE_S", 1e9),
        patch("service.supervisor.storage.threads._THREADS", _Here()),
        patch("service.supervisor.storage.threads.time", SimpleNamespace(thread_time=lambda: 0.0)),
        patch("service.supervisor.data.progress.time", SimpleNamespace(monotonic=_now_s)),
        patch("service.supervisor.room.read", lambda _: [Level("state", disk_free(), DISK)]),
    ):
        yield
