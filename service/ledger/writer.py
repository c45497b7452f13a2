"""The one writer of a process: commands in, events out, many commands to a commit.

It takes whatever queued while the last commit ran (no timer), locks the head, loads what the commands are
decided on, decides each in turn, appends, folds, and commits once. A refusal answers its caller alone.

After a commit whose outcome is unknown it takes the head lock again, which waits for the lost transaction
to end, and asks which of its commands are there. Only those that are not are decided again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import asyncpg
import structlog

from service.domain.commands import Submission
from service.domain.events import Event
from service.errors import JobyardError, Rejected, Unavailable
from service.ledger import database
from service.ledger.commit import Receipt, Remembered, commit
from service.ledger.database import PASSING, close, milliseconds, raise_if_cancelled
from service.ledger.stuck import end_stuck
from sql import queries

_SQL = queries("ledger")
_log = structlog.get_logger()

#: As many commands as one commit takes at most.
BATCH_COMMANDS = 1000
#: How long a batch is tried again while Postgres does not answer.
PATIENCE_S = 20.0
RETRY_S = 0.2
#: A connection that nothing is written over is asked so often whether it still leads anywhere, and how long.
PING_S = 3.0
PING_TIMEOUT_S = 3.0

Connect = Callable[[], Awaitable[asyncpg.Connection]]


@dataclass
class _Waiting:
    submission: Submission
    answer: asyncio.Future[Receipt]


@dataclass
class Writer:
    """Submit commands with `submit`; run with `run` in a task of its own, once a process."""

    connect: Connect
    patience_s: float = PATIENCE_S
    on_append: Callable[[Sequence[Event]], None] | None = None
    #: Connects with the role of the URL itself; None leaves what holds the head to Postgres alone.
    owner: Connect | None = None
    #: The last attempt failed because Postgres had no disk space, and nothing was appended since.
    found_full: bool = False
    _queue: deque[_Waiting] = field(default_factory=deque)
    _came: asyncio.Event = field(default_factory=asyncio.Event)
    _connection: asyncpg.Connection | None = None
    _remembered: Remembered = field(default_factory=Remembered)
    _closed: bool = False

    async def submit(self, submission: Submission) -> Receipt:
        """Carry out one command. Raises the `Rejected` that refused it, or `Unavailable`.

        `Unavailable` leaves the outcome open: the same command id may be submitted again, and is carried
        out at most once.
        """
        if self._closed:
            raise Unavailable("the ledger is closing")
        answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(submission, answer))
        self._came.set()
        return await answer

    async def run(self) -> None:
        """Write until cancelled. What is queued then is answered `Unavailable`."""
        try:
            while True:
                batch = [await self._next()]
                try:
                    # One turn of the loop: who comes in the same one as the first shares its commit.
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    _refuse(batch, Unavailable("the ledger is closing"))
                    raise
                while self._queue and len(batch) < BATCH_COMMANDS:
                    batch.append(self._queue.popleft())
                await self._serve(batch)
        finally:
            self._closed = True
            while self._queue:
                _refuse([self._queue.popleft()], Unavailable("the ledger is closing"))
            await self._drop()

    async def _next(self) -> _Waiting:
        """The next that waits. Until there is one the connection is pinged: one that was cut without an end
        is found out now, and not by whoever comes next."""
        while not self._queue:
            self._came.clear()
            try:
                async with asyncio.timeout(PING_S):
                    await self._came.wait()
            except TimeoutError:
                await self._ping()
        return self._queue.popleft()

    async def _ping(self) -> None:
        if self._connection is None:
            return
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self._connection.fetchval(_SQL.ping)
        except Exception as error:  # noqa: BLE001 (what escaped would end the process's one writer for good)
            _log.warning("ledger writer cut off", error=type(error).__name__)
            self._remembered.forget()
            self._cut()

    async def _serve(self, batch: list[_Waiting]) -> None:
        """Answer every command of a batch, whatever happens."""
        try:
            await self._write_patiently(batch)
        except JobyardError as error:
            _refuse(batch, error)
        except asyncio.CancelledError:
            _refuse(batch, Unavailable("the ledger is closing; the outcome is unknown"))
            raise
        except Exception as error:  # noqa: BLE001 (whatever it is, its callers must hear of it)
            self._remembered.forget()
            await self._drop()
            if len(batch) == 1:
                _log.exception(
                    "command failed", command=_name(batch[0]), command_id=str(batch[0].submission.id)
                )
                _refuse(batch, error)
                return
            # One command of many broke the commit: each is tried alone, so that only that one fails.
            for waiting in batch:
                await self._serve([waiting])

    async def _write_patiently(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience_s
        while True:
            try:
                answers = await self._write([waiting.submission for waiting in batch])
                break
            except asyncpg.DiskFullError as error:
                # Rolled back, so nothing is unknown; a disk is not freed within anybody's patience.
                self._remembered.forget()
                await self._drop()
                self.found_full = True
                raise Unavailable("Postgres has no disk space left; nothing was recorded") from error
            except PASSING as error:
                self._remembered.forget()
                self._cut()
                raise_if_cancelled()
                if loop.time() >= deadline:
                    refused = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
                    said = "takes no writes" if refused else "does not answer"
                    raise Unavailable(f"Postgres {said}; the outcome is unknown, repeat it") from error
                _log.warning("ledger write interrupted", commands=len(batch), error=type(error).__name__)
                if self.owner is not None and isinstance(error, TimeoutError):
                    await end_stuck(self.owner)
                await asyncio.sleep(RETRY_S)
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.answer.done():
                if isinstance(answer, Receipt):
                    waiting.answer.set_result(answer)
                else:
                    waiting.answer.set_exception(answer)

    async def _write(self, submissions: list[Submission]) -> list[Receipt | Rejected]:
        """One transaction. Everything it changes in memory is thrown away when it does not commit."""
        answers, events = await commit(await self._connected(), self._remembered, submissions)
        if events:
            self.found_full = False
            if self.on_append is not None:
                self.on_append(events)
        return answers

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            connection = await self.connect()
            try:
                await connection.execute(
                    _SQL.bound,
                    milliseconds(database.IDLE_IN_TRANSACTION_S),
                    milliseconds(database.ANSWER_TIMEOUT_S + 2),
                )
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    def _cut(self) -> None:
        """Let go of a connection that may lead nowhere: a polite end would wait for its answer."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await close(connection)
            except Exception as error:  # noqa: BLE001 (it would end the writer, and leave its callers waiting)
                _log.warning("ledger writer's connection not closed", error=type(error).__name__)
                connection.terminate()


def _refuse(batch: list[_Waiting], error: BaseException) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)


def _name(waiting: _Waiting) -> str:
    return type(waiting.submission.command).__name__
