"""/v1/whatif: the project's history once more, with another quota or another node."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from projections.waiting.compare import GRAIN, Compared, ModelError, Told, compared, model_error
from projections.waiting.history import history
from projections.waiting.simulate import Change
from service.api import scope, wire
from service.api.call import Call
from service.domain.bills.run import ZERO
from service.domain.flavors import KINDS, Kind
from service.domain.pricing import PolicyName, seconds
from service.domain.times import FIRST, with_zone
from service.errors import Invalid
from service.ledger import past

#: As many moves as a window may hold: they are planned again three times.
MOST_MOVES = 20_000
#: Any project may have some recorded each minute, and each is a run that might have been.
MOST_REFUSALS = 20_000
MOST_ITEMS = 200
MOST_UNITS = 1_000_000
MOST_GPUS = 1000
MOST_BYTES = 2**50

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)")


async def whatif(call: Call) -> wire.WhatIf:
    asked: wire.WhatIfAsked = call.body
    since, until = await _window(call, asked)
    change = _change(call, asked, since)
    async with call.service.planning.taken(call.request, call.project):
        found = await _compared(call, since, until, change, asked.policy)
    return await _answer(call, since, until, found)


async def _window(call: Call, asked: wire.WhatIfAsked) -> tuple[datetime, datetime]:
    now = await call.ledger.now()
    since = _time("from", asked.since)
    until = now if asked.until is None else _time("to", asked.until)
    if until > now:
        raise Invalid("to", asked.until, f"the window must be over: it is {_said(now)}")
    if since >= until:
        raise Invalid("from", asked.since, f"it must be before the window's end, {_said(until)}")
    return since, until


def _said(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _time(field: str, text: str) -> datetime:
    # What is no time, or has an offset that leads out of the calendar.
    with suppress(ValueError, OverflowError):
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text).astimezone(UTC)
    wanted = "it must be a time such as 2026-01-31T12:00:00Z"
    raise Invalid(field, text, "; ".join(filter(None, (wanted, with_zone(text)))))


def _change(call: Call, asked: wire.WhatIfAsked, since: datetime) -> Change:
    quota: dict[Kind, int] = {}
    for kind in KINDS:
        units = getattr(asked.quota, kind) if asked.quota else None
        if units is not None:
            quota[kind] = _within(f"quota.{kind}", units, 0, MOST_UNITS)
    capacity = asked.capacity or wire.CapacityAsked()
    return Change(
        since,
        call.project,
        quota,
        cpus=_optional("capacity.cpus", capacity.cpus, 1, MOST_UNITS),
        memory=_optional("capacity.memory", capacity.memory, 1, MOST_BYTES),
        gpus=_optional("capacity.gpus", capacity.gpus, 0, MOST_GPUS),
    )


def _optional(field: str, given: int | None, least: int, most: int) -> int | None:
    return None if given is None else _within(field, given, least, most)


def _within(field: str, given: int, least: int, most: int) -> int:
    if not least <= given <= most:
        raise Invalid(field, given, f"a whole number from {least} to {most}")
    return given


async def _compared(
    call: Call, since: datetime, until: datetime, change: Change, policy: PolicyName | None
) -> list[Compared]:
    """The window, and before it as long as a patience lasts: so it is known who has been first since when."""
    pool = call.ledger.pool
    patience = timedelta(seconds=call.service.parts.settings.patience_s)
    begin = since - min(patience, since - FIRST)
    after, upto = await past.position_at(pool, begin), await past.position_at(pool, until)
    if await past.moves_within(pool, after, upto, MOST_MOVES + 1) > MOST_MOVES:
        allowed = f"the window may hold {MOST_MOVES} moves of jobs, of all projects: choose a shorter one"
        raise Invalid("from", _said(since), allowed)
    found = await past.load(pool, begin, after, upto, ends=True)
    refused = await past.refusals(pool, after, upto, MOST_REFUSALS + 1)
    if len(refused) > MOST_REFUSALS:
        allowed = f"the window may hold {MOST_REFUSALS} refusals, of all projects: choose a shorter one"
        raise Invalid("from", _said(since), allowed)
    limits, prices = await past.limits(pool, upto), await past.prices(pool, upto)

    def work() -> list[Compared]:
        made = history(
            found.yard,
            found.events,
            found.gaps,
            begin,
            until,
            before=found.before,
            refused=refused,
            limits=limits,
            prices=prices,
        )
        return compared(made, change, policy)

    return await asyncio.to_thread(work)


async def _answer(call: Call, since: datetime, until: datetime, found: list[Compared]) -> wire.WhatIf:
    own = [each for each in found if each.piece.project == call.project]
    known = {job.id: job for job in await call.ledger.jobs_of(each.piece.key[0] for each in own)}
    selector = scope.selector_of(call.token)

    def is_seen(each: Compared) -> bool:
        job = known.get(each.piece.key[0])
        return selector is None or selector.matches(each.piece.labels if job is None else job.spec.labels)

    seen = [each for each in own if is_seen(each)]
    named = {id(each) for each in seen}
    seen.sort(key=_weight, reverse=True)
    return wire.WhatIf(
        since=since,
        until=until,
        model_error=_error(model_error(found)),
        items=[_run(each) for each in seen[:MOST_ITEMS]],
        more=max(0, len(seen) - MOST_ITEMS),
        totals=_sums(seen, currency=call.service.parts.settings.currency),
        others=_sums([each for each in found if id(each) not in named]),
    )


def _weight(each: Compared) -> tuple[bool, bool, float]:
    """What changes goes first, and what only has a place in one of the two before all."""
    difference = each.difference
    other = each.whatif.fate.outcome != each.baseline.fate.outcome
    return each.changed, other, abs(difference.total_seconds()) if difference is not None else 0.0


def _run(each: Compared) -> wire.WhatIfRun:
    job, run = each.piece.key
    return wire.WhatIfRun(
        job=str(job),
        run=run,
        name=each.piece.name,
        asked_at=each.piece.asked[0].at,
        actual=_fate(each.actual),
        baseline=_fate(each.baseline),
        what_if=_fate(each.whatif),
        difference_seconds=_seconds(each.difference),
        moved_seconds=_seconds(each.moved),
        cost_difference=each.cost_difference,
        currency=each.currency,
        estimated=each.piece.course is not None and each.piece.course.estimated,
        changed=each.changed,
    )


def _fate(told: Told) -> wire.RunFate:
    return wire.RunFate(
        outcome=told.fate.outcome,
        placed_at=told.fate.placed_at,
        wait_seconds=_seconds(told.wait),
        cost=told.cost,
    )


def _seconds(lasted: timedelta | None) -> Decimal | None:
    return None if lasted is None else seconds(lasted)


def _error(error: ModelError) -> wire.ModelError:
    return wire.ModelError(
        runs=error.runs,
        median_seconds=seconds(error.median),
        most_seconds=seconds(error.most),
        otherwise=error.otherwise,
    )


def _sums(found: Iterable[Compared], *, currency: str = "") -> wire.WhatIfSums:
    """With costs where a currency is named: that of no difference at all."""
    runs, with_cost = list(found), bool(currency)
    moves = [each.moved for each in runs if each.moved is not None]
    costs = [each.cost_difference for each in runs if each.changed]
    currencies = {each.currency for each in runs if each.changed and each.currency}
    cost: Decimal | None = None
    if with_cost and len(currencies) <= 1 and None not in costs:
        cost = sum((each for each in costs if each is not None), ZERO)
    return wire.WhatIfSums(
        runs=len(runs),
        changed=sum(each.changed for each in runs),
        sooner=sum(each <= -GRAIN for each in moves),
        later=sum(each >= GRAIN for each in moves),
        taken=sum(_is_placed(each.whatif) and not _is_placed(each.baseline) for each in runs),
        lost=sum(_is_placed(each.baseline) and not _is_placed(each.whatif) for each in runs),
        wait_seconds=seconds(sum((each.difference or timedelta() for each in runs), timedelta())),
        cost_difference=cost,
        currency=_of_all(currencies or {currency}) if with_cost else "",
    )


def _of_all(currencies: set[str]) -> str:
    return "".join(currencies) if len(currencies) == 1 else ""


def _is_placed(told: Told) -> bool:
    return told.fate.outcome == "placed"
