"""What a job would cost, as `jobyard job run --dry-run` shows it, and whether any node could ever hold it."""

from __future__ import annotations

import asyncio
from typing import Any

import typer

from service.cli import exits
from service.cli.client import Client
from service.cli.output import Output, span
from service.errors import JobyardError

#: Whoever has submitted a job does not wait longer to be told of it.
_ASKED_S = 2.0


def show(output: Output, found: Any) -> None:
    """The estimate. Leaves with the status that the submit would have left with."""
    currency, units = found["currency"], found["units"]
    refused = found["wouldBeRefused"]
    output.item(
        found,
        {
            "resources": f"{units} {found['kind'].upper()} ({found['flavor']})",
            "price": f"{found['hourlyPrice']} {currency} an hour and unit, by event"
            f" {found['priceList']['position']}",
            "a begun minute": f"{found['costPerMinute']} {currency}",
            "an hour": f"{found['costPerHour']} {currency}",
            "at the timeout": _at_timeout(found),
            "earlier runs": _earlier(found["earlier"], currency),
            "quota": _allowed(
                found["quota"], f"{found['quota']['used']} of {found['quota']['limit']} in use"
            ),
            "budget": _budget(found["budget"]),
            "nodes": _nodes(found["nodes"]),
            "submit": _taken(found) if refused is None else f"would be refused: {refused['message']}",
        },
    )
    if refused is not None:
        raise typer.Exit(exits.Exit.REFUSED)


async def waits_for_ever(client: Client, spec: dict[str, Any]) -> list[str]:
    """Why a job that was just submitted waits, where no node could ever hold it; otherwise nothing.

    The job is there by now: what is not answered at once is not said, and `job why` tells it.
    """
    try:
        async with asyncio.timeout(_ASKED_S):
            found = await client.post("/job/estimate", spec)
    except (JobyardError, TimeoutError):
        return []
    if not _fits_nowhere(found):
        return []
    said = [f"No node can hold the job, so it waits for ever as things are: {_nodes(found['nodes'])}."]
    resources = spec.get("resources") or {}
    if found["kind"] == "gpu" and not resources.get("gpu"):
        said.append("Where neither -c nor -g is given, a job asks for a GPU; -c 1 asks for a CPU.")
    return said


def _fits_nowhere(found: Any) -> bool:
    """False also where no node is known yet: nobody can tell."""
    return bool(found["nodes"]) and not any(node["holds"] for node in found["nodes"])


def _taken(found: Any) -> str:
    never = ", and the job would wait for ever as things are: no node can hold it"
    return f"would be taken{never if _fits_nowhere(found) else ''}"


def _at_timeout(found: Any) -> str:
    cost = f"{found['costAtTimeout']} {found['currency']} for {span(found['timeout'])} of RUNNING"
    return f"{cost}, and each restart as much again" if found["restarts"] else cost


def _earlier(found: Any, currency: str) -> str:
    if found is None:
        return "none of this image and command"
    jobs = len(found["jobs"])
    return (
        f"{found['runs']}: half took {found['medianMinutes']} min ({found['medianCost']} {currency}) or less,"
        f" nine of ten {found['p90Minutes']} min ({found['p90Cost']} {currency}); such as"
        f" {' '.join(found['jobs'][:3])}{' …' if jobs > 3 else ''}"
    )


def _allowed(found: Any, said: str) -> str:
    return said if found["allows"] else f"{said}: no room"


def _budget(found: Any) -> str:
    if found is None:
        return "none"
    if found["amount"] is None:
        return _allowed(found, "there is one")
    left = f"{found['remaining']} of {found['amount']} {found['currency']} are left"
    return _allowed(found, f"{left} until {found['periodEnd']}")


def _nodes(found: Any) -> str:
    if not found:
        return "none is known yet"
    return ", ".join(
        f"{node['name']} could hold it" if node["holds"] else f"{node['name']} cannot: {node['lacks']}"
        for node in found
    )
