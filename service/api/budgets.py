"""/v1/budget and /v1/project/{id}/budget: what a project may spend in a month, and has."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from itertools import count

from service.api import reads, wire
from service.api.call import Call
from service.api.projects import named
from service.domain import commands as cmd
from service.domain.bills import reading
from service.domain.bills.statement import Month
from service.domain.budget import Spend
from service.errors import Forbidden


async def own(call: Call) -> wire.Budget:
    """Of the caller's project. It tells what all jobs cost, so a token must see them all."""
    if call.token.label_selector is not None:
        raise Forbidden(
            f"token {call.token.name!r} is limited to jobs with {call.token.label_selector}; a budget is the "
            "whole project's, and says what all of its jobs cost"
        )
    return await _view(call, call.project)


async def get(call: Call) -> wire.Budget:
    project = await named(call)
    return await _view(call, project.id)


async def put(call: Call) -> wire.Budget:
    asked: wire.BudgetAsked = call.body
    project = await named(call)
    amount = None if asked.amount is None else reading.money("amount", asked.amount, reading.MAX_BUDGET)
    shares = None if asked.warn_at is None else map(_share, count(), asked.warn_at)
    given = {} if shares is None else {"warn_at": tuple(shares)}
    usual = call.service.parts.settings.currency
    command = cmd.SetBudget(
        project=project.id,
        amount=amount,
        currency=usual if asked.currency is None else reading.currency("currency", asked.currency),
        **given,
    )
    await call.submit(command)
    return await _view(call, project.id)


def _share(at: int, text: str) -> Decimal:
    return reading.share(f"warnAt[{at}]", text)


async def _view(call: Call, project: str) -> wire.Budget:
    spend, now = await reads.spend(call.ledger.pool, project)
    return view(spend, now, call.service.parts.settings.currency)


def view(spend: Spend, now: datetime, currency: str) -> wire.Budget:
    """How a project stands at its budget; without one, what it has spent in `currency`."""
    month = Month.of(now)
    standing = spend.standing(now)
    return wire.Budget(
        project=spend.project,
        amount=standing.budget.amount if standing else None,
        currency=standing.budget.currency if standing else currency,
        warn_at=standing.budget.warn_at if standing else (),
        period=str(month),
        period_start=month.start,
        period_end=month.end,
        spent=standing.spent if standing else spend.spent(month, currency, now),
        remaining=standing.remaining if standing else None,
        warned=standing.warned if standing else (),
        live_runs=len(spend.live),
        as_of=now,
    )
