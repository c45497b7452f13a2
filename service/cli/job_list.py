"""`jobyard job list`: the jobs of a project, as they are, as they were, or kept up to date."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.live import Live

from service.cli import job
from service.cli.client import MOST_ROWS, PAGE_SIZE, Client
from service.cli.command import command
from service.cli.moments import AsOf, as_of, time_of
from service.cli.output import Column, Output, ago, clock, reader_left, span, table
from service.domain.states import State
from service.errors import Invalid

_COLUMNS = (
    Column("ID", whole=True),
    "NAME",
    Column("STATE", whole=True),
    Column("AGE", extra=True),
    Column("RAN", extra=True),
    Column("RESOURCES", extra=True),
    Column("IMAGE", extra=True),
)
#: An age is of now, and says nothing of then.
_COLUMNS_OF_THEN = tuple(
    Column("CREATED", extra=True) if isinstance(column, Column) and column.name == "AGE" else column
    for column in _COLUMNS
)
_REFRESH_S = 1.0


def register(app: typer.Typer) -> None:
    example = "job list --watch -l team=a --job-state RUNNING"
    command(app, "list", aliases=["ls"], example=example)(list_jobs)


async def list_jobs(
    client: Client,
    output: Output,
    states: Annotated[
        list[State] | None,
        typer.Option("--job-state", "--states", "-s", help="Only jobs in this state; repeat for more."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", help="Only jobs that match: a=b, a!=b, 'a in (b,c)', a, '!a'."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Only jobs of this name.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only jobs of this user.")] = None,
    updated_after: Annotated[
        str | None, typer.Option("--updated-after", help="Changed since this time (RFC 3339), or 10m ago.")
    ] = None,
    updated_before: Annotated[
        str | None, typer.Option("--updated-before", help="Not changed since this time.")
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="By this field, such as status.state or spec.name.")
    ] = "createdAt",
    ascending: Annotated[bool, typer.Option("--asc", help="The first in that order first.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many at most.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", hidden=True, help="All are listed anyway.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep the list up to date.")] = False,
    then: AsOf = None,
) -> None:
    """Lists the jobs of your project, the newest first."""
    if watch and then is not None:
        raise Invalid("--watch", "--as-of", "what was does not change any more: leave one of the two out")
    moment = as_of(then)
    selector = ",".join(label or []) or None
    order = "asc" if ascending else "desc"
    after, before = _seconds("--updated-after", updated_after), _seconds("--updated-before", updated_before)

    async def read() -> list[Any]:
        wanted = [str(each) for each in states or []] or None
        return await client.in_order(
            "/job",
            size=PAGE_SIZE if moment is None else MOST_ROWS,
            limit=limit,
            order=order,
            sort=sort,
            statusState=wanted,
            labelSelector=selector,
            name=name,
            userName=user,
            updatedAfter=after,
            updatedBefore=before,
            asOf=moment,
        )

    if watch and output.format is None:
        await _watch(read, output)
        return
    jobs = await read()
    if moment is None:
        output.items(jobs, _COLUMNS, map(_row, jobs))
    else:
        output.items(jobs, _COLUMNS_OF_THEN, [_row(each, clock(each["createdAt"])) for each in jobs])


async def _watch(read: Any, output: Output) -> None:
    """Redraws the list on a terminal; elsewhere prints a line for each change of state."""
    if output.out.is_terminal:
        with Live(console=output.out, auto_refresh=False, screen=False) as live:
            while True:
                live.update(table(_COLUMNS, map(_row, await read()), output.out.width), refresh=True)
                await asyncio.sleep(_REFRESH_S)
    known: dict[str, str] = {}
    while True:
        for each in reversed(await read()):
            if known.get(each["id"]) != each["status"]["state"]:
                known[each["id"]] = each["status"]["state"]
                print("  ".join(map(str, _row(each))), flush=True)
        if reader_left(sys.stdout):
            raise BrokenPipeError  # there may be nothing to write for long, which would find it out
        await asyncio.sleep(_REFRESH_S)


def _row(found: Any, when: str | None = None) -> tuple[Any, ...]:
    """`when` it was made, in words; None: how long ago."""
    spec, status = found["spec"], found["status"]
    return (
        found["id"],
        spec.get("name"),
        status["state"],
        ago(found["createdAt"]) if when is None else when,
        span(status.get("duration") or 0),
        job.resources(spec),
        spec["image"],
    )


def _seconds(option: str, text: str | None) -> int | None:
    """A time as whole seconds since 1970."""
    return None if text is None else int(datetime.fromisoformat(time_of(option, text)).timestamp())
