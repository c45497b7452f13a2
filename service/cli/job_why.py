"""`jobyard job why`: a run's wait as a line of time, with what bound it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from service.cli.client import Client
from service.cli.command import command
from service.cli.job import JobId, path
from service.cli.output import Output, clock
from service.domain.sizes import binary

#: What a stretch's constraint is called.
_WORDS = {
    "cpu": "CPUs",
    "memory": "memory",
    "gpu": "GPUs",
    "disk": "space on the node's disk",
    "quota": "the quota",
    "budget": "the budget",
    "registry": "the registry",
    "data": "its data",
    "clock": "the database's clock",
    "node": "the node's own work",
    "node-lost": "the node",
}
_BEFORE = {
    "earlier-in-line": "earlier in line",
    "waited-longer": "first in its line for too long",
    "smaller-share": "its project has less of the node",
    "being-placed": "being given its place",
}
_NAMED = 3


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    command(app, "why", example="job why 5d1f0c2e-…")(why)


async def why(
    client: Client,
    output: Output,
    job_id: JobId,
    run: Annotated[int | None, typer.Option("--run", min=1, help="An earlier run of the job.")] = None,
) -> None:
    """Tells what a job waits for, or waited for: since when, who has it, which jobs are ahead."""
    found = await client.get(path(job_id, "why"), run=run)
    if output.format is not None:
        output.item(found)
        return
    for line in lines(found):
        output.done(line)


def lines(found: Any) -> Iterator[str]:
    """The answer for people, line by line. Neighbours of one reason are told together."""
    goes_on = "waits" if found["waiting"] else "waited"
    yield f"job {found['job']} ({found['name']}), run {found['run']}, {found['state']}"
    yield f"{goes_on} {lasted(float(found['waitSeconds']))} since {clock(found['queuedAt'])}"
    refused = found["refused"]
    if refused:
        yield (
            f"refused before that, {_times(refused['times'])} since {clock(refused['since'])}: "
            f"{refused['info']['message']} (event {_positions(refused['positions'])})"
        )
    for group in _grouped(found["stretches"]):
        yield from _told(group)


def _grouped(stretches: list[Any]) -> Iterator[list[Any]]:
    group: list[Any] = []
    for each in stretches:
        if group and _reason(group[-1]) != _reason(each):
            yield group
            group = []
        group.append(each)
    if group:
        yield group


def _reason(stretch: Any) -> tuple[str, str, str]:
    return stretch["phase"], stretch["constraint"], stretch["info"]["message"]


def _told(group: list[Any]) -> Iterator[str]:
    first, last = group[0], group[-1]
    seconds = sum(float(each["seconds"]) for each in group)
    positions = [at for each in group for at in each["positions"]]
    event = f"  (event {_positions(positions)})" if positions else ""
    yield (
        f"{clock(first['since'])}  {first['phase']:<12}  {lasted(seconds):>8}  "
        f"for {_WORDS[first['constraint']]}: {first['info']['message']}{event}"
    )
    for stretch, when in ((first, "at first "), (last, "at last ")) if len(group) > 1 else ((first, ""),):
        if held := _held(stretch):
            yield f"    {when}held by {held}"
        if ahead := _ahead(stretch):
            yield f"    {when}ahead: {ahead}"


def _held(stretch: Any) -> str:
    named = [f"{each['name']} ({_amount(stretch, each['amount'])})" for each in stretch["heldBy"]]
    others = stretch["heldByOthers"]
    if others["jobs"]:
        named.append(f"{_jobs(others['jobs'])} of others ({_amount(stretch, others['amount'])})")
    return ", ".join(named)


def _ahead(stretch: Any) -> str:
    ahead = stretch["ahead"]
    named = [f"{each['name']} ({_BEFORE[each['why']]})" for each in ahead[:_NAMED]]
    if more := len(ahead) - _NAMED + stretch["more"]:
        named += [f"{_jobs(more)} more"] if more > 0 else []
    if stretch["aheadOfOthers"]["jobs"]:
        named.append(f"{_jobs(stretch['aheadOfOthers']['jobs'])} of others")
    return ", ".join(named)


def _amount(stretch: Any, amount: int) -> str:
    if stretch["constraint"] == "memory":
        return binary(amount)
    return f"{amount} {stretch['constraint'].upper()}"


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _positions(positions: list[int]) -> str:
    shown = ", ".join(map(str, positions[:_NAMED]))
    return f"{shown}, …" if len(positions) > _NAMED else shown


def lasted(seconds: float) -> str:
    """A duration to the second, or to a tenth when it is short: `2d 3h`, `4m 10s`, `0.4s`."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    parts = [(whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")]
    told = [f"{count}{unit}" for count, unit in parts if count]
    return " ".join(told[:2])
