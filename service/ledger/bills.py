"""Reading bills: of a month as of a position, of one run, and all of them made anew from the events.

What is read is exact as of its position, though the rows may go on meanwhile: a row with a later event is
folded again from its own events up to there, and later orders about it are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec.structs import replace

from projections import billing
from projections.catalogue import FOLDS
from projections.replay import CONCERNED, Replay
from service.domain import events as ev
from service.domain.bills.run import Adjustment, Run
from service.domain.bills.statement import Month, ended_at
from service.domain.events import BODIES, Event
from service.domain.selectors import Selector
from service.errors import Invalid
from service.ledger.chain import event_of, events_from
from service.ledger.database import translated
from sql import queries

_SQL = queries("billing")
PAGE = 1000

_REPLAYED = [name for name, body in BODIES.items() if issubclass(body, CONCERNED)]
_BILLED = [*_REPLAYED, ev.CreditGranted.__name__, ev.BillCorrected.__name__]


async def of_month(
    pool: asyncpg.Pool, project: str, month: Month, position: int, selector: Selector | None = None
) -> list[Run]:
    """Every bill that a statement of the month may need, as of a position."""
    found: list[Run] = []
    after = ""
    while True:
        with translated():
            records = await pool.fetch(
                _SQL.month, project, month.start, month.end, position, _terms(selector), after, PAGE
            )
        for record in records:
            run = await as_of(pool, _row(record["row"]), position)
            found += [run] if run is not None else []
        if len(records) < PAGE:
            return found
        after = records[-1]["key"]


async def as_of(pool: asyncpg.Pool, run: Run, position: int) -> Run | None:
    """A run's bill as it was right after the event at a position; None before its first."""
    if run.positions[0] > position:
        return None
    if run.positions[-1] > position:
        folded: Run | None = None
        for event in await events_of(pool, UUID(run.job), run.run, position):
            folded = billing.evolve(folded, event)
        return folded
    if run.ordered and run.ordered[-1].position > position:
        return replace(run, ordered=tuple(each for each in run.ordered if each.position <= position))
    return run


async def of_run(pool: asyncpg.Pool, job: UUID, run: int) -> Run | None:
    with translated():
        records = await pool.fetch(_SQL.bills, [f"{job}/{run}"], None)
    return _row(records[0]["row"]) if records else None


async def events_of(pool: asyncpg.Pool, job: UUID, run: int, position: int) -> list[Event]:
    """The events that a run's bill is made of, up to a position, in order."""
    with translated():
        records = await pool.fetch(_SQL.run_events, job, run, position, _BILLED)
    return [event_of(record) for record in records]


async def credits(pool: asyncpg.Pool, project: str, position: int) -> list[Adjustment]:
    """The credits of a project that are no run's, as of a position."""
    decode = FOLDS["credits"].decoder.decode
    with translated():
        records = await pool.fetch(_SQL.credits, project, position)
    return [decode(record["row"]).adjustment for record in records]


async def check_cited(pool: asyncpg.Pool, project: str, positions: Sequence[int]) -> None:
    """Raise `Invalid` for a position that is no event of the project's, nor of the whole yard's."""
    with translated():
        records = await pool.fetch(_SQL.cited, list(positions), project)
    there = {record["position"] for record in records}
    for position in positions:
        if position not in there:
            raise Invalid("cites", position, f"the position of an event of project {project} or of the yard")


async def replayed(
    pool: asyncpg.Pool, project: str, position: int, selector: Selector | None = None, page: int = PAGE
) -> AsyncIterator[list[tuple[Run, Run]]]:
    """Every run whose window is over as of a position: its live bill, and the one that its events make.

    Page after page: of runs that are over nothing is kept, and the loop is left free between two pages.
    """
    replay = Replay()
    records = await _replayed_after(pool, project, 0, position, page)
    while True:
        last = len(records) < page
        # Postgres looks for the next page while this one is folded.
        following = (
            None
            if last
            else asyncio.create_task(_replayed_after(pool, project, records[-1]["position"], position, page))
        )
        try:
            over = await asyncio.to_thread(_fed, replay, records)
            if last:
                over += [run for run in replay.open if ended_at(run) is not None]
            placed = [run for run in over if run.marks.initializing_at is not None]
            if placed:
                yield await _beside(pool, placed, position, selector)
            if following is None:
                return
            records = await following
        finally:
            if following is not None and not following.done():
                following.cancel()
                await asyncio.wait([following])


async def _replayed_after(
    pool: asyncpg.Pool, project: str, after: int, position: int, page: int
) -> list[Any]:
    with translated():
        return await pool.fetch(_SQL.project_events, project, after, position, _REPLAYED, page)


def _fed(replay: Replay, records: Sequence[Any]) -> list[Run]:
    return replay.feed(events_from(records))


async def _beside(
    pool: asyncpg.Pool, runs: Iterable[Run], position: int, selector: Selector | None
) -> list[tuple[Run, Run]]:
    """Live bills beside the replayed; those that the selector hides are left out."""
    again = {f"{run.job}/{run.run}": run for run in runs}
    with translated():
        records = await pool.fetch(_SQL.bills, list(again), _terms(selector))
    live = {record["key"]: _row(record["row"]) for record in records}
    found = []
    for key, run in again.items():
        there = await as_of(pool, live[key], position) if key in live else None
        found += [(there, run)] if there is not None else []
    return found


def _terms(selector: Selector | None) -> str | None:
    return msgspec.json.encode(selector.terms).decode() if selector is not None else None


def _row(text: str) -> Run:
    decode: Callable[[str], Run] = FOLDS["billing"].decoder.decode
    return decode(text)
