"""The one writer of a process: commands in, events out, many commands to a commit.

It takes whatever queued while the last commit ran (no timer), locks the head, loads what the commands are
decided on, decides each in turn, appends, folds, and commits once. A refusal answers its caller alone.

After a commit whose outcome is unknown it takes the head lock again, which waits for the lost transaction
to end, and asks which of its commands are there. Only those that are not are decided again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import structlog

from projections import store
from projections.rows import Rows
from service.domain import commands as cmd
from service.domain.commands import Submission
from service.domain.events import Event
from service.domain.states import LIVE
from service.errors import Conflict, JobyardError, Rejected, Unavailable
from service.ledger.batch import Batch, command_columns, insert_columns, keys_of
from service.ledger.chain import event_of
from service.ledger.database import LOST, PASSING, close
from sql import queries

_SQL = queries("ledger")
_log = structlog.get_logger()

#: As many commands as one commit takes at most.
BATCH_COMMANDS = 1000
#: As many fold rows as are kept between commits while nobody else writes.
ROWS_KEPT = 20_000
#: How long a batch is tried again while Postgres does not answer.
PATIENCE_S = 20.0
RETRY_S = 0.2

Connect = Callable[[], Awaitable[asyncpg.Connection]]


@dataclass(frozen=True)
class Receipt:
    """What became of a command: its events, in order; `repeated` when it had been carried out before."""

    events: tuple[Event, ...]
    position: int
    repeated: bool = False


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
    _queue: asyncio.Queue[_Waiting] = field(default_factory=asyncio.Queue)
    _connection: asyncpg.Connection | None = None
    _rows: Rows = field(default_factory=Rows)
    _rows_at: tuple[int, int] = (-1, -1)
    _closed: bool = False

    async def submit(self, submission: Submission) -> Receipt:
        """Carry out one command. Raises the `Rejected` that refused it, or `Unavailable`.

        `Unavailable` leaves the outcome open: the same command id may be submitted again, and is carried
        out at most once.
        """
        if self._closed:
            raise Unavailable("the ledger is closing")
        answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(submission, answer))
        return await answer

    async def run(self) -> None:
        """Write until cancelled. What is queued then is answered `Unavailable`."""
        try:
            while True:
                batch = [await self._queue.get()]
                while len(batch) < BATCH_COMMANDS and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                await self._serve(batch)
        finally:
            self._closed = True
            while not self._queue.empty():
                _refuse([self._queue.get_nowait()], Unavailable("the ledger is closing"))
            await self._drop()

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
            self._forget()
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
            except PASSING as error:
                self._forget()
                await self._drop()
                if loop.time() >= deadline:
                    raise Unavailable(
                        "Postgres does not answer; the outcome is unknown, repeat it"
                    ) from error
                _log.warning("ledger write interrupted", commands=len(batch), error=type(error).__name__)
                await asyncio.sleep(RETRY_S)
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.answer.done():
                if isinstance(answer, Receipt):
                    waiting.answer.set_result(answer)
                else:
                    waiting.answer.set_exception(answer)

    async def _write(self, submissions: list[Submission]) -> list[Receipt | Rejected]:
        """One transaction. Everything it changes in memory is thrown away when it does not commit."""
        connection = await self._connected()
        async with connection.transaction():
            head: Any = await connection.fetchrow(_SQL.lock_head)
            batch = await self._loaded(connection, head, submissions)
            earlier = await self._earlier(connection, submissions)
            answers: list[Receipt | Rejected] = []
            done: dict[UUID, tuple[Submission, list[Event]]] = {}
            for submission in submissions:
                if submission.id in earlier:
                    answers.append(_repeat(submission, *earlier[submission.id]))
                    continue
                outcome = batch.carry_out(submission)
                if isinstance(outcome, Rejected):
                    answers.append(outcome)
                    continue
                answers.append(Receipt(tuple(outcome), batch.position))
                if outcome:
                    done[submission.id] = (submission, outcome)
                    earlier[submission.id] = (submission.digest, tuple(outcome))
            if batch.appended:
                await store.load(connection, self._rows, batch.missing())
                batch.fold_postponed()
                await connection.execute(
                    _SQL.append,
                    *insert_columns(batch.appended),
                    *command_columns(done),
                    *store.columns(self._rows.take_changed()),
                    batch.position,
                    batch.hash,
                    batch.now,
                )
        self._rows_at = (batch.position, head["rebuilds"])
        self._rows.trim(ROWS_KEPT)
        events = [entry.event for entry in batch.appended]
        if events and self.on_append is not None:
            self.on_append(events)
        return answers

    async def _loaded(self, connection: Any, head: Any, submissions: list[Submission]) -> Batch:
        """The batch with everything its commands are decided on, loaded under the head lock."""
        if (head["position"], head["rebuilds"]) != self._rows_at:
            self._forget()  # somebody else wrote, or made the rows anew: what we remember may be old
        keys = [key for submission in submissions for key in keys_of(submission.command)]
        await store.load(connection, self._rows, keys)
        engines = {
            submission.command.engine
            for submission in submissions
            if isinstance(submission.command, cmd.EngineCommand)
        }
        leases = await connection.fetch(_SQL.epochs, list(engines)) if engines else []
        losing = {
            submission.command.project
            for submission in submissions
            if isinstance(submission.command, cmd.RemoveDataStore)
        }
        used = await connection.fetch(_SQL.stores_in_use, list(losing), sorted(LIVE)) if losing else []
        stores_used: dict[str, set[str]] = {}
        for found in used:
            stores_used.setdefault(found["project"], set()).add(found["alias"])
        return Batch(
            now=head["now"],
            position=head["position"],
            hash=head["hash"],
            rows=self._rows,
            epochs={lease["engine"]: lease["epoch"] for lease in leases},
            stores_used=stores_used,
        )

    async def _earlier(
        self, connection: Any, submissions: list[Submission]
    ) -> dict[UUID, tuple[bytes | None, tuple[Event, ...]]]:
        """Which of these commands were carried out before, with their digests and events."""
        known = await connection.fetch(_SQL.known_commands, [submission.id for submission in submissions])
        found = {}
        for record in known:
            first, last = record["first_position"], record["last_position"]
            records = await connection.fetch(_SQL.read_after, first - 1, last, last - first + 1)
            found[UUID(int=record["id"].int)] = (record["digest"], tuple(event_of(r) for r in records))
        return found

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self.connect()
        return self._connection

    def _forget(self) -> None:
        self._rows = Rows()
        self._rows_at = (-1, -1)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*LOST):
                await close(connection)


def _repeat(submission: Submission, digest: bytes | None, events: tuple[Event, ...]) -> Receipt | Rejected:
    if digest is not None and submission.digest is not None and digest != submission.digest:
        return Conflict("Idempotency-Key: it was used for another request; use a new key for this one")
    return Receipt(events, events[-1].position, repeated=True)


def _refuse(batch: list[_Waiting], error: BaseException) -> None:
    for waiting in batch:
        if not waiting.answer.done():
            waiting.answer.set_exception(error)


def _name(waiting: _Waiting) -> str:
    return type(waiting.submission.command).__name__
