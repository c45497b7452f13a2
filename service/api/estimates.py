"""/v1/job/estimate: what a job would cost and whether it would be taken. Nothing is recorded."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from service.api import errors, jobs, reads, scope, wire
from service.api.call import Call
from service.domain import commands as cmd
from service.domain import estimate
from service.domain.budget import Standing
from service.domain.context import Context
from service.domain.decide import decide
from service.domain.directory import Node, PriceEntry
from service.domain.pricing import DEFAULT_POLICY
from service.domain.quota import Quota
from service.domain.spec import JobSpec, Resources
from service.errors import BudgetExceeded, NotFound, QuotaExceeded

#: The id of the job that is not made.
_NO_JOB = UUID(int=0)


async def estimated(call: Call) -> wire.Estimate:
    """A specification that cannot run is refused as a submit refuses it: it goes the same way."""
    spec = jobs.unsealed_spec(call)
    pool = call.ledger.pool
    project, quota, prices, nodes, (spend, now), runs = await asyncio.gather(
        call.ledger.project(call.project),
        call.ledger.quota(call.project),
        call.ledger.prices(),
        reads.nodes(pool),
        reads.spend(pool, call.project),
        reads.earlier_runs(pool, call.project, spec, scope.selector_of(call.token)),
    )
    command = cmd.SubmitJob(
        project=call.project,
        job=_NO_JOB,
        spec=spec,
        user=call.token.name,
        token_label=call.token.label_selector,
    )
    context = Context(now=now, project=project, quota=quota, prices=prices, budget=spend.standing(now))
    refusal = _refusal(command, context)
    listed = prices.entry(spec.resources.flavor, now)
    if listed is None:
        raise NotFound(f"there is no price for flavor {spec.resources.flavor}")
    return wire.Estimate(
        **_costs(spec, listed),
        quota=_quota(quota, spec.resources),
        budget=_budget(context.budget, listed.currency, scoped=call.token.label_selector is not None),
        nodes=tuple(_node(node, spec.resources) for node in nodes),
        earlier=_earlier(estimate.earlier(runs, listed.prices[spec.resources.flavor])),
        would_be_refused=refusal,
        as_of=now,
    )


def _costs(spec: JobSpec, listed: PriceEntry) -> dict[str, Any]:
    resources = spec.resources
    price = listed.prices[resources.flavor]
    cost = estimate.cost(spec, price)
    return {
        "flavor": resources.flavor,
        "kind": resources.kind,
        "units": resources.units,
        "hourly_price": price,
        "currency": listed.currency,
        "price_list": wire.PriceSource(position=listed.position, valid_from=listed.valid_from),
        "policy": DEFAULT_POLICY,
        "cost_per_minute": cost.per_minute,
        "cost_per_hour": cost.per_hour,
        "timeout": spec.timeout,
        "minutes_at_timeout": cost.minutes_at_timeout,
        "cost_at_timeout": cost.at_timeout,
        "restarts": spec.timeout_auto_restart,
    }


def _quota(quota: Quota, resources: Resources) -> wire.QuotaRoom:
    kind = resources.kind
    return wire.QuotaRoom(
        allows=quota.admits(kind, resources.units), used=quota.used(kind), limit=quota.limit(kind)
    )


def _budget(standing: Standing | None, currency: str, *, scoped: bool) -> wire.BudgetRoom | None:
    if standing is None:
        return None
    return wire.BudgetRoom(
        allows=standing.admits(currency),
        amount=None if scoped else standing.budget.amount,
        spent=None if scoped else standing.spent,
        remaining=None if scoped else standing.remaining,
        currency=standing.budget.currency,
        period_end=standing.month.end,
    )


def _node(node: Node, resources: Resources) -> wire.NodeRoom:
    needs = {"GPUs": resources.gpus, "CPUs": resources.cpus, "bytes of memory": resources.memory}
    has = {"GPUs": node.gpus, "CPUs": node.cpus, "bytes of memory": node.memory}
    lacks = next(
        (f"{need} {name}, and it has {has[name]}" for name, need in needs.items() if need > has[name]), None
    )
    return wire.NodeRoom(name=node.name, holds=lacks is None, lacks=lacks)


def _earlier(found: estimate.Earlier | None) -> wire.EarlierRuns | None:
    return None if found is None else wire.EarlierRuns(**found._asdict())


def _refusal(command: cmd.SubmitJob, context: Context) -> wire.Refusal | None:
    """Which limit a submit would be refused for at this moment. Raises what has to do with no limit: all of
    that is decided first."""
    try:
        decide(command, context)
    except (QuotaExceeded, BudgetExceeded) as error:
        return wire.Refusal(status=errors.status_of(error), code=error.code, message=error.message)
    return None
