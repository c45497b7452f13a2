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

from service.domain.shown import shown
from service.errors import Unavailable

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
        """The addresses, as text. Raises OSError, UnicodeError, and Unavailable when too many wait."""
        return await asyncio.wrap_future(self._asked(asker() or _domain(host), host, port))

    def _asked(self, asker: str, host: str, port: int) -> Future[list[str]]:
        work = _Work(host, port, Future())
        with self._lock:
            line = self._lines.setdefault(asker, _Line())
            if len(line.waiting) >= self._waiting:  # who was cancelled may be among them
                line.waiting = deque(each for each in line.waiting if not each.answer.cancelled())
            if len(line.waiting) >= self._waiting:
                why = "too many others wait for an answer"
                raise Unavailable(
                    f"the address of {shown(host)} cannot be looked up now: {why}; try again later"
                )
            line.waiting.append(work)
        self._go_on()
        return work.answer

    def _go_on(self) -> None:
        """Begin what there is a thread for. They are daemons: the process does not wait for them to end."""
        with self._lock:
            begun = list(self._next())
        for asker, work in begun:
            threading.Thread(target=self._run, args=(asker, work), name="names", daemon=True).start()

    def _next(self) -> Iterator[tuple[str, _Work]]:
        while self._busy < self._threads:
            ready = (who for who, line in self._lines.items() if line.waiting and line.busy < self._each)
            asker = next(ready, None)
            if asker is None:
                return
            line = self._lines[asker]
            work = line.waiting.popleft()
            self._lines.move_to_end(asker)
            if work.answer.set_running_or_notify_cancel():
                line.busy += 1
                self._busy += 1
                yield asker, work
            else:
                self._forget(asker)

    def _forget(self, asker: str) -> None:
        """Once nothing of his is left."""
        line = self._lines[asker]
        if not (line.busy or line.waiting):
            del self._lines[asker]

    def _run(self, asker: str, work: _Work) -> None:
        try:
            found = self._look(work.host, work.port)
        except Exception as error:  # noqa: BLE001 (handed to the one who waits for it)
            work.answer.set_exception(error)
        else:
            work.answer.set_result(found)
        with self._lock:
            self._busy -= 1
            self._lines[asker].busy -= 1
            self._forget(asker)
        self._go_on()


def _domain(host: str) -> str:
    """Stands for who asks, where nobody said: one domain's name servers hold up its own names alone."""
    return ".".join(host.rstrip(".").lower().rsplit(".", 2)[-2:])


_names = Names()


async def resolve(host: str, port: int) -> list[str]:
    """Addresses of a host by the system's resolver: see `Names.resolve`."""
    return await _names.resolve(host, port)
