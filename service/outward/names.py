"""Looking up the names that users gave: in threads of their own, of which nobody can take all.

A name server that never answers holds its thread for as long as the system's resolver has patience, whatever
became of the request. So whoever asks has a few threads, and a line of his own in front of them; our own
names (the database's, for one) are the event loop's to look up, and wait for nobody's.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import structlog

from service.domain.shown import shown
from service.errors import Unavailable

_log = structlog.get_logger()

THREADS = 64
#: Of the threads, for one who asks; and how many more of his may wait.
EACH = 8
WAITING = 64

Look: TypeAlias = Callable[[str, int], list[str]]
"""Addresses of a host, as text. Blocks. Raises OSError and UnicodeError."""

_asker: ContextVar[str] = ContextVar("asker", default="")


@contextmanager
def asked_by(project: str) -> Iterator[None]:
    """Names that are looked up within, also by the tasks that begin there, are looked up for a project."""
    before = _asker.set(project)
    try:
        yield
    finally:
        _asker.reset(before)


def asker() -> str:
    """The project for which this is done; empty where nobody said."""
    return _asker.get()


def system(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Work(NamedTuple):
    host: str
    port: int
    answer: Future[list[str]]


_Turn: TypeAlias = tuple[str, _Work]
"""Who asks, and what."""


@dataclass
class _Line:
    """Who asks: how many threads are his now, and what waits for one."""

    busy: int = 0
    waiting: deque[_Work] = field(default_factory=deque)


class Names:
    """`look` looks up one name. For any number of event loops."""

    def __init__(
        self, look: Look = system, *, threads: int = THREADS, each: int = EACH, waiting: int = WAITING
    ) -> None:
        self._look = look
        self._threads, self._each, self._waiting = threads, each, waiting
        self._lock = threading.Lock()
        self._busy = 0
        #: Whoever had his turn stands at the end.
        self._lines: OrderedDict[str, _Line] = OrderedDict()

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses, as text. Raises OSError, UnicodeError, and Unavailable when too many wait, or no
        thread can be begun."""
        return await asyncio.wrap_future(self._asked(asker() or _domain(host), host, port))

    def _asked(self, asker: str, host: str, port: int) -> Future[list[str]]:
        work = _Work(host, port, Future())
        with self._lock:
            line = self._lines.setdefault(asker, _Line())
            if len(line.waiting) >= self._waiting:  # who was cancelled may be among them
                line.waiting = deque(each for each in line.waiting if not each.answer.cancelled())
            if len(line.waiting) >= self._waiting:
                raise _not_now(host, "too many others wait for an answer")
            line.waiting.append(work)
        self._begin()
        return work.answer

    def _begin(self) -> None:
        """Begin threads for those whose turn it is. Daemons: the process does not wait for them to end.

        Where the system has no more of them, the place is given back, maybe to others who wait for it by now.
        """
        turn = self._next()
        while turn is not None:
            asker, work = turn
            try:
                threading.Thread(target=self._run, args=turn, name="names", daemon=True).start()
            except (RuntimeError, MemoryError) as error:
                _log.error("thread not begun", what="names", error=str(error))
                work.answer.set_exception(_not_now(work.host, "the service has no thread left for it"))
                turn = self._next(after=asker)
            else:
                turn = self._next()

    def _run(self, asker: str, work: _Work) -> None:
        """One look-up after the other: who waits for a place needs no thread that may not be had."""
        turn: _Turn | None = (asker, work)
        while turn is not None:
            asker, work = turn
            try:
                found = self._look(work.host, work.port)
            except Exception as error:  # noqa: BLE001 (handed to the one who waits for it)
                work.answer.set_exception(error)
            else:
                work.answer.set_result(found)
            turn = self._next(after=asker)

    def _next(self, *, after: str | None = None) -> _Turn | None:
        """Whose turn it is, who has a place from now on; `after` somebody who gives his back."""
        with self._lock:
            if after is not None:
                self._busy -= 1
                self._lines[after].busy -= 1
                self._forget(after)
            while self._busy < self._threads:
                ready = (who for who, line in self._lines.items() if line.waiting and line.busy < self._each)
                asker = next(ready, None)
                if asker is None:
                    break
                line = self._lines[asker]
                work = line.waiting.popleft()
                self._lines.move_to_end(asker)
                if work.answer.set_running_or_notify_cancel():
                    line.busy += 1
                    self._busy += 1
                    return asker, work
                self._forget(asker)
        return None

    def _forget(self, asker: str) -> None:
        """Once nothing of his is left."""
        line = self._lines[asker]
        if not (line.busy or line.waiting):
            del self._lines[asker]


def _not_now(host: str, why: str) -> Unavailable:
    return Unavailable(f"the address of {shown(host)} cannot be looked up now: {why}; try again later")


def _domain(host: str) -> str:
    """Stands for who asks, where nobody said: one domain's name servers hold up its own names alone."""
    return ".".join(host.rstrip(".").lower().rsplit(".", 2)[-2:])


_names = Names()


async def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host by the system's resolver: see `Names.resolve`."""
    return await _names.resolve(host, port)
