"""What the API needs of the parts beside it. `service.app` hands in the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from service.config import Settings
from service.domain.directory import DataStore
from service.domain.gitstores import GitEndpoint, GitLogin
from service.held import Room
from service.ledger.ledger import Ledger
from service.webhooks.send import Sender
from service.webhooks.tally import Tally

#: Of messages on their way through sockets to jobs, and of what commands say, in one process, beside what
#: that needs itself (some 150 MiB): eight of the largest messages at once, each held twice while it is
#: written. Usual ones are gone at once.
MOST_HELD_BYTES = 256 * 1024**2


class Logs(Protocol):
    """The kept output of runs, as bytes. A run that has no log yet reads as empty. Projects take turns:
    `project` is whose reader it is."""

    def read(
        self,
        job: UUID,
        run: int,
        *,
        project: str,
        tail: int | None = None,
        since: datetime | None = None,
        timestamps: bool = False,
        page: int | None = None,
        size: int = 1000,
    ) -> AsyncGenerator[bytes, None]:
        """What there is now, in chunks; empty ones while nothing of what was read is wanted."""

    def follow(
        self,
        job: UUID,
        run: int,
        *,
        project: str,
        tail: int | None = None,
        since: datetime | None = None,
        timestamps: bool = False,
    ) -> AsyncGenerator[bytes | None, None]:
        """What there is, then what comes, until the log is complete. As above; None when all was read that
        there is now, and more is waited for."""

    async def exists(self, job: UUID, run: int, *, project: str) -> bool:
        """Whether there is any file of the run's log, if only an empty one."""


class StoredObject(Protocol):
    """One object of a container. Sizes are bytes."""

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def modified(self) -> datetime: ...


class Download(Protocol):
    """An object being read; `stream` lives as long as the context that gave it."""

    @property
    def info(self) -> StoredObject: ...

    @property
    def stream(self) -> AsyncIterator[bytes]: ...


class Store(Protocol):
    """One data store, opened with its keys. Raises `StoreRefused`, `UnsafeKey` or `Unavailable`."""

    @property
    def most_bytes(self) -> int:
        """Of an upload."""

    async def check(self) -> None:
        """Raise `StoreRefused` when the keys are wrong."""

    async def containers(self) -> Sequence[str]:
        """Their names."""

    async def ensure_container(self, name: str) -> None: ...

    def list(self, container: str, prefix: str = "", after: str = "") -> AsyncGenerator[StoredObject, None]:
        """Those behind the key `after`, in the order of their keys."""

    async def upload(self, container: str, key: str, stream: AsyncIterator[bytes]) -> StoredObject: ...

    def download(self, container: str, key: str) -> AbstractAsyncContextManager[Download]: ...

    async def delete_object(self, container: str, key: str) -> None: ...


class Stores(Protocol):
    def open(self, project: str, store: DataStore) -> AbstractAsyncContextManager[Store]:
        """Open a project's data store of type s3; its keys are unsealed here and nowhere in the API."""

    async def ask_git(self, endpoint: GitEndpoint, login: GitLogin | None) -> tuple[str, ...]:
        """Ask a git server whether it takes the login; answers the keys of one with ssh.

        Raises `FetchDenied`, `HostKeyRefused`, another `FetchRefused`, or `Unavailable`.
        """


class OnDuty(Protocol):
    """The supervisor of this very process."""

    @property
    def at_work(self) -> bool:
        """Whether it holds its engine's lease and looks after the engine."""

    async def engine(self) -> str:
        """The id of its engine, when that answers. Raises `Unavailable` or `EngineError`."""

    async def version(self) -> str:
        """Of its engine, likewise."""


class ExecOutput(Protocol):
    """What a command wrote: to its standard output (1) or error (2)."""

    @property
    def stream(self) -> int: ...

    @property
    def data(self) -> bytes: ...


class RunningExec(Protocol):
    """A command that runs in a container. Raises `Unavailable` when the engine's line breaks."""

    def output(self) -> AsyncIterator[ExecOutput]:
        """Everything it writes, until it has closed both streams."""

    async def write(self, data: bytes) -> None: ...

    async def end_input(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def exit_code(self) -> int:
        """After its output has ended."""


class Execs(Protocol):
    def open(
        self,
        container_id: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
    ) -> AbstractAsyncContextManager[RunningExec]:
        """Run a command while the context lasts. Raises `EngineError` or `Unavailable`."""


class Addresses(Protocol):
    async def ip_of(self, container_id: str) -> str | None:
        """Where a container that runs is reached, or None. Raises `Unavailable`."""


@dataclass(frozen=True)
class Hooks:
    """What sends to webhooks, what was sent by this process, and how many may be tried, and hosts of new ones
    be looked up, at the same time: names that nobody answers for hold the threads that deliveries need."""

    sender: Sender = field(default_factory=Sender)
    tally: Tally = field(default_factory=Tally)
    tests: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    lookups: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))


def _nobody() -> None:
    """There is no supervisor in this process."""


@dataclass(frozen=True)
class ApiParts:
    """Everything the API is made of. `on_duty` tells who supervises in this process, if anybody does."""

    ledger: Ledger
    settings: Settings
    logs: Logs
    stores: Stores
    execs: Execs
    addresses: Addresses
    on_duty: Callable[[], OnDuty | None] = _nobody
    hooks: Hooks = field(default_factory=Hooks)
    #: What strangers have in hand here.
    held: Room = field(default_factory=lambda: Room(MOST_HELD_BYTES))
