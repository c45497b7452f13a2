"""`jobyard job diff`: what changed of a job between two moments, and by which events."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from service.cli import job
from service.cli.client import Client
from service.cli.command import command
from service.cli.moments import moment_of
from service.cli.output import Column, Output, clock

_CHANGES = (Column("FIELD", whole=True), "BEFORE", "AFTER")
_EVENTS = (
    Column("POSITION", whole=True),
    Column("TIME", whole=True),
    Column("EVENT", whole=True),
    Column("RUN", extra=True),
    Column("ACTOR", extra=True),
)


def register(app: typer.Typer) -> None:
    command(app, "diff", example="job diff 5d1f0c2e-… --from 2h")(diff)


async def diff(
    client: Client,
    output: Output,
    job_id: job.JobId,
    since: Annotated[
        str,
        typer.Option("--from", metavar="MOMENT", help="A time (RFC 3339), so long ago (2h), or a position."),
    ],
    until: Annotated[
        str | None, typer.Option("--to", metavar="MOMENT", help="As --from; now when it is left out.")
    ] = None,
) -> None:
    """Shows what changed of a job between two moments, field by field, and the events that changed it."""
    moments = {
        "from": moment_of("--from", since),
        "to": None if until is None else moment_of("--to", until),
    }
    found = await client.get(job.path(job_id, "diff"), **moments)
    if output.format is not None:
        output.item(found)
        return
    if not found["events"]:
        output.done("nothing happened in between")
    if found["changes"]:
        output.items(found, _CHANGES, map(_change, found["changes"]))
    if found["events"]:
        print()
        output.items(found, _EVENTS, map(_event, found["events"]))
    if found["eventsLeftOut"]:
        output.note(f"and {found['eventsLeftOut']} events more; name a closer --to to see them")


def _change(change: Any) -> tuple[str, str, str]:
    return change["field"], _shown(change["before"]), _shown(change["after"])


def _shown(value: Any) -> str:
    """Text as it is, nothing as nothing, and the rest as JSON has it."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _event(event: Any) -> tuple[Any, ...]:
    return event["position"], clock(event["recordedAt"]), event["type"], event["run"], event["actor"]
