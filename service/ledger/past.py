"""The past for those who plan it again: who was there at a moment, and what moved from then on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from projections.waiting.moments import absences
from projections.waiting.yard import MOVE_TYPES, PastYard
from service.domain.events import Event, SubmissionRefused
from service.domain.pricing import Interval
from service.domain.refusals import digest_of
from service.domain.states import LIVE
from service.ledger.asof import moments
from service.ledger.chain import event_of
from service.ledger.database import translated
from sql import queries

_SQL = queries("past")
_LIVE = sorted(LIVE)

#: So many refusals of a project are looked at, and so many jobs that may have been what was wanted.
MOST_REFUSALS = 500


@dataclass
class Past:
    """The yard as it was at `begin`, and the moves and supervisors after that, in order. `before` are the
    moves that brought it there, of the jobs that were there or come later; `gaps` are the times in which
    nobody looked after the node; `moves` says how many events moved a job."""

    begin: datetime
    yard: PastYard
    before: list[Event]
    events: list[Event]
    gaps: list[Interval]
    moves: int = 0


async def position_at(source: Any, at: datetime) -> int:
    """The position of the last event recorded at `at` or before; 0 when there is none."""
    return await moments.position_at(source, at)


async def moves_within(source: Any, after: int, upto: int, most: int) -> int:
    """How many events moved a job, or `most` when they are more."""
    with translated():
        records = await source.fetch(_SQL.moved, after, upto, list(MOVE_TYPES), most)
    return sum(record["moves"] for record in records)


async def since_moves(source: Any, after: int, upto: int, most: int) -> int | None:
    """The position after which there are at most `most` moves up to `upto`; None when there are no more."""
    with translated():
        found: int | None = await source.fetchval(_SQL.since_moves, after, upto, list(MOVE_TYPES), most)
    return found


async def load(source: Any, begin: datetime, after: int, upto: int, *, ends: bool = False) -> Past:
    """The yard after the event at `after`, which was the last one at `begin`, and what moved it as far as
    `upto`. `ends`: also what came later to the jobs of that time."""
    with translated():
        there = await source.fetch(_SQL.there_at, after, _LIVE)
        moved = await source.fetch(_SQL.moved, after, upto, list(MOVE_TYPES), 2**31)
        ids = {UUID(int=record["job"].int) for record in (*there, *moved)}
        last = 2**62 if ends else upto
        moves = await source.fetch(_SQL.of_jobs, ids, list(MOVE_TYPES), last, 0, None)
        began = await source.fetch(_SQL.supervisors, after)
    # Thousands of events may be read here: not on the loop, which has others to answer.
    made = await asyncio.to_thread(_made, begin, after, upto, began, moves)
    made.moves = sum(record["moves"] for record in moved)
    return made


def _made(begin: datetime, after: int, upto: int, began: Iterable[Any], moved: Iterable[Any]) -> Past:
    supervisors, moves = [event_of(record) for record in began], [event_of(record) for record in moved]
    yard = PastYard()
    for event in (*supervisors, *moves):
        if event.position <= after:
            yard.apply(event)
    events = [*(event for event in supervisors if event.position <= upto), *moves]
    following = sorted(
        (event for event in events if event.position > after), key=lambda event: event.position
    )
    before = [event for event in moves if event.position <= after]
    return Past(begin, yard, before, following, absences(supervisors))


async def limits(source: Any, upto: int) -> list[Event]:
    """What every project might use, from the beginning."""
    return await _all(source, _SQL.limits, upto)


async def prices(source: Any, upto: int) -> list[Event]:
    """The price books, from the beginning."""
    return await _all(source, _SQL.prices, upto)


async def refusals(source: Any, after: int, upto: int, most: int) -> list[Event]:
    """What any project was refused in a part of the ledger: the first `most` of it."""
    return await _all(source, _SQL.all_refused, after, upto, most)


async def _all(source: Any, statement: str, *arguments: int) -> list[Event]:
    with translated():
        return [event_of(record) for record in await source.fetch(statement, *arguments)]


async def of_job(
    source: Any,
    job: UUID,
    types: Iterable[str],
    *,
    runs: Iterable[int] | None = None,
    after: int = 0,
    upto: int = 2**62,
) -> list[Event]:
    """The events of some types about a job, in order: of some runs only, or of a part of the ledger."""
    asked = None if runs is None else list(runs)
    with translated():
        records = await source.fetch(_SQL.of_jobs, [job], list(types), upto, after, asked)
    # A run that was given much to push has thousands of them.
    return await asyncio.to_thread(lambda: [event_of(record) for record in records])


async def refusals_before(source: Any, submitted: Event, spec_digest: str) -> list[Event]:
    """The times that the same work was refused since it was last taken, in order."""
    with translated():
        records = await source.fetch(_SQL.refused, submitted.project, 0, submitted.position, MOST_REFUSALS)
        wanted = [event for event in map(event_of, records) if _wanted(event, submitted, spec_digest)]
        if not wanted:
            return []
        image = submitted.body.spec.image
        taken = await source.fetch(
            _SQL.submitted, submitted.project, wanted[-1].position, submitted.position, image, MOST_REFUSALS
        )
    same = (event.position for event in map(event_of, taken) if digest_of(event.body.spec) == spec_digest)
    since = next(same, 0)
    return [event for event in reversed(wanted) if event.position > since]


def _wanted(event: Event, submitted: Event, spec_digest: str) -> bool:
    body: SubmissionRefused = event.body
    return event.job is None and (body.wanted == str(submitted.job) or body.digest == spec_digest)
