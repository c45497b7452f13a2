"""One commit: under the head's lock commands become events, and events and rows are written.

Four round trips where nothing special is asked for: the transaction begins; the head is locked, and what is
decided on comes with it; what was made of it is sent; it is committed. Of many commands what the first ones
made is sent while the next are decided, so that Postgres and this process work at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from projections import store
from projections.rows import Rows
from service.domain import commands as cmd
from service.domain.commands import Submission
from service.domain.events import BudgetWarned, Event
from service.domain.states import LIVE
from service.errors import Conflict, Rejected
from service.ledger.batch import Appended, Batch, Done, command_records, event_records, keys_of
from service.ledger.chain import event_of
from service.ledger.sending import Sending
from sql import queries

_SQL = queries("ledger")

#: So many events are sent while more are decided.
EVENTS_AT_ONCE = 50
#: As many fold rows as are kept between commits while nobody else writes.
ROWS_KEPT = 20_000

#: Where a ledger ends: the position, the hash of the event there, and how often rows were made anew.
_At = tuple[int, bytes, int]
#: Where none does: what is remembered is not used.
_UNKNOWN: _At = (-1, b"", -1)

#: Commands that were carried out: their digests, their events, and where the ledger ended then.
Earlier = dict[UUID, tuple[bytes | None, tuple[Event, ...], int]]


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What became of a command: its events, in order; `repeated` when it had been carried out before."""

    events: tuple[Event, ...]
    position: int
    repeated: bool = False


@dataclass
class Remembered:
    """The rows that the last commit left, and the head that they belong to.

    Its hash is part of it: after a failover that lost events others may have brought the ledger to the same
    position again.
    """

    rows: Rows = field(default_factory=Rows)
    at: _At = _UNKNOWN

    def forget(self) -> None:
        self.rows = Rows()
        self.at = _UNKNOWN


async def commit(
    connection: Any, remembered: Remembered, submissions: Sequence[Submission]
) -> tuple[list[Receipt | Rejected], list[Event]]:
    """Carry out all of them in one transaction: what each is answered, and the events there are since.

    Raises what the database raises; `remembered` is then to be forgotten.
    """
    async with connection.transaction(), Sending(connection) as sending:
        batch, rebuilds, earlier = await _loaded(connection, remembered, submissions)
        answers: list[Receipt | Rejected] = []
        done: list[Done] = []
        for submission in submissions:
            if len(batch.appended) - batch.sent >= EVENTS_AT_ONCE:
                await _send(sending, batch, done)
            if submission.id in earlier:
                answers.append(_repeat(submission.digest, *earlier[submission.id]))
                continue
            outcome = batch.carry_out(submission)
            if isinstance(outcome, Rejected):
                answers.append(outcome)
                continue
            answers.append(Receipt(_asked_for(outcome), batch.position))
            # One that changed nothing is kept where it may be repeated: by then it might change something.
            if outcome or submission.digest is not None:
                done.append(Done(submission, outcome, batch.position))
                earlier[submission.id] = (submission.digest, tuple(outcome), batch.position)
        if batch.appended:
            await _send(sending, batch, done)
        elif done:
            await sending.execute(_SQL.keep, command_records(done))
        await sending.all()
    remembered.at = (batch.position, batch.hash, rebuilds)
    remembered.rows.trim(ROWS_KEPT)
    return answers, [entry.event for entry in batch.appended]


async def _send(sending: Sending, batch: Batch, done: list[Done]) -> None:
    """Append what was decided since the last time. Postgres works on it while more is decided."""
    if missing := batch.missing():
        await sending.all()
        await store.load(sending.connection, batch.rows, missing)
    batch.fold_postponed()
    made, changed = batch.rows.take_apart()
    appended: list[Appended] = batch.unsent()
    arguments = (event_records(appended), command_records(done), made, changed)
    done.clear()
    await sending.execute(_SQL.append, *arguments, batch.position, batch.hash, batch.now)


async def _loaded(
    connection: Any, remembered: Remembered, submissions: Sequence[Submission]
) -> tuple[Batch, int, Earlier]:
    """The batch with everything its commands are decided on, loaded under the head lock; how often rows had
    been made anew; and which of the commands were carried out before."""
    keys = list(dict.fromkeys(key for submission in submissions for key in keys_of(submission.command)))
    missing = remembered.rows.missing(keys)
    ids = [submission.id for submission in submissions]
    head: Any = await connection.fetchrow(
        _SQL.take_head, [fold for fold, _ in missing], [key for _, key in missing], ids
    )
    if (head["at"], head["hash"], head["rebuilds"]) != remembered.at:
        remembered.forget()  # somebody else wrote, or made the rows anew: what we remember may be old
    remembered.at = _UNKNOWN  # until this transaction has committed
    store.put(remembered.rows, missing, head["rows"])
    await store.load(connection, remembered.rows, keys)
    batch = Batch(
        now=head["now"],
        position=head["at"],
        hash=head["hash"],
        rows=remembered.rows,
        epochs=await _epochs(connection, submissions),
        stores_used=await _by_project(connection, _SQL.stores_in_use, submissions, cmd.RemoveDataStore),
        live_jobs=await _by_project(connection, _SQL.live_jobs_of, submissions, cmd.EraseProject),
    )
    return batch, head["rebuilds"], await _earlier(connection, head["known"])


async def _epochs(connection: Any, submissions: Sequence[Submission]) -> dict[str, int]:
    """Of the engines that commands come from."""
    commands = [submission.command for submission in submissions]
    engines = {command.engine for command in commands if isinstance(command, cmd.EngineCommand)}
    leases = await connection.fetch(_SQL.epochs, list(engines)) if engines else []
    return {lease["engine"]: lease["epoch"] for lease in leases}


async def _by_project(
    connection: Any, statement: str, submissions: Sequence[Submission], kind: type[cmd.Command]
) -> dict[str, set[str]]:
    """What a statement finds in the projects that commands of a kind are about."""
    commands = [submission.command for submission in submissions]
    projects = {command.project for command in commands if isinstance(command, kind)}
    found: dict[str, set[str]] = {}
    for project, name in await connection.fetch(statement, list(projects), sorted(LIVE)) if projects else []:
        found.setdefault(project, set()).add(name)
    return found


async def _earlier(connection: Any, known: Sequence[Any]) -> Earlier:
    """The commands that were carried out before, with their events."""
    found = {}
    for record in known:
        first, last = record["first_position"], record["last_position"]
        count = last - first + 1
        records = await connection.fetch(_SQL.read_after, first - 1, last, count) if count else ()
        found[UUID(int=record["id"].int)] = (record["digest"], tuple(event_of(r) for r in records), last)
    return found


async def recalled(source: Any, command_id: UUID, digest: bytes | None) -> Receipt | None:
    """What became of a command, if it was carried out before. Raises `Conflict` when it was another one."""
    known = await source.fetchrow(_SQL.command, command_id)
    if known is None:
        return None
    (found,) = (await _earlier(source, [known])).values()
    receipt = _repeat(digest, *found)
    if isinstance(receipt, Rejected):
        raise receipt
    return receipt


def _repeat(
    asked: bytes | None, digest: bytes | None, events: tuple[Event, ...], position: int
) -> Receipt | Rejected:
    if digest is not None and asked is not None and digest != asked:
        return Conflict("Idempotency-Key: it was used for another request; use a new key for this one")
    return Receipt(_asked_for(events), position, repeated=True)


def _asked_for(events: Sequence[Event]) -> tuple[Event, ...]:
    """Without the warnings of a budget that a command set off beside what it was to do."""
    return tuple(event for event in events if not isinstance(event.body, BudgetWarned))
