"""`jobyard whatif`: the project's history once more, with another quota or another node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from service.cli.client import Client
from service.cli.command import command
from service.cli.job_why import lasted
from service.cli.moments import time_of
from service.cli.output import Column, Output, clock
from service.cli.parse import amounts

_COLUMNS = (
    Column("JOB", whole=True),
    "RUN",
    "NAME",
    "ACTUAL",
    "MODEL",
    "WHAT IF",
    "DIFFERENCE",
    Column("COST", whole=True),
    Column("", extra=True),
)


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    command(app, "whatif", example="whatif --quota gpu=8 --capacity gpus=8,cpus=104 --from 7d")(whatif)


async def whatif(
    client: Client,
    output: Output,
    since: Annotated[str, typer.Option("--from", help="From this time (RFC 3339) on, or so long ago (7d).")],
    until: Annotated[str | None, typer.Option("--to", help="To this time; now, unless given.")] = None,
    quota: Annotated[
        list[str] | None,
        typer.Option("--quota", help="Your project's: gpu=8, cpu=40; what is not named stays."),
    ] = None,
    capacity: Annotated[
        list[str] | None, typer.Option("--capacity", help="The node's: gpus=4,cpus=32,memory=128G.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="As this policy bills: 2021-05, 2023-12, 2026-01.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also runs that nothing changes for.")
    ] = False,
) -> None:
    """Tells whose wait would change, by how much and at what cost, had there been more or less."""
    limits = amounts("--quota", quota or [], ("cpu", "gpu"))
    node = amounts("--capacity", capacity or [], ("cpus", "memory", "gpus"), sizes=("memory",))
    body = {
        "from": time_of("--from", since),
        "to": None if until is None else time_of("--to", until),
        "quota": limits or None,
        "capacity": node or None,
        "policy": policy,
    }
    found = await client.post("/whatif", body)
    shown = [item for item in found["items"] if everything or item["changed"]]
    if output.format is not None or shown:
        output.items(found, _COLUMNS, map(_row, shown))
    if output.format is None:
        if left := unlisted(found, everything):
            output.done(left)
        for line in summary(found):
            output.done(line)


def unlisted(found: Any, everything: bool) -> str | None:
    """What to say of runs that the answer counts and has no line for: it has those that change most."""
    changed = sum(item["changed"] for item in found["items"])
    left = found["more"] if everything else found["totals"]["changed"] - changed
    if not left:
        return None
    kind = "" if everything else " that changes" if left == 1 else " that change"
    verb = "is" if left == 1 else "are"
    return f"{_runs(left)} more{kind} {verb} not listed, which change least; ask of a shorter window"


def summary(found: Any) -> Iterator[str]:
    """What the table comes to, and how far the model can be trusted."""
    totals, others, error = found["totals"], found["others"], found["modelError"]
    yield f"{clock(found['from'])} to {clock(found['to'])}: {_changes(totals)}"
    yield f"waits in all: {difference(float(totals['waitSeconds']))}; cost: {_cost(totals)}"
    theirs = difference(float(others["waitSeconds"]))
    yield f"of others on the node: {_changes(others)}; waits in all: {theirs}"
    wrong = f"; {_runs(error['otherwise'])} came to another end" if error["otherwise"] else ""
    yield (
        f"the model's own error on what really happened: median {float(error['medianSeconds']):.3f} s, "
        f"at most {float(error['mostSeconds']):.3f} s, over {_runs(error['runs'])}{wrong}"
    )


_WORDS = (
    ("sooner", "sooner"),
    ("later", "later"),
    ("taken", "placed only then"),
    ("lost", "no longer placed"),
)


def _changes(sums: Any) -> str:
    parts = [f"{sums[name]} {word}" for name, word in _WORDS if sums[name]]
    told = f" ({', '.join(parts)})" if parts else ""
    return (
        f"{sums['changed']} of {_runs(sums['runs'])} {'changes' if sums['changed'] == 1 else 'change'}{told}"
    )


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _cost(sums: Any) -> str:
    cost = sums["costDifference"]
    return "not known yet" if cost is None else f"{_signed(cost)} {sums['currency']}".rstrip()


def _signed(amount: str) -> str:
    return amount if amount.startswith("-") else f"+{amount}"


def difference(seconds: float) -> str:
    """`-4m 10s`: so much sooner; `+0.0s` when it is the same."""
    return f"{'-' if seconds < 0 else '+'}{lasted(abs(seconds))}"


def _row(item: Any) -> Sequence[Any]:
    changed = item["differenceSeconds"]
    cost = item["costDifference"]
    return (
        item["job"],
        item["run"],
        item["name"],
        _fate(item["actual"]),
        _fate(item["baseline"]),
        _fate(item["whatIf"]),
        "" if changed is None else difference(float(changed)),
        "?" if cost is None else f"{_signed(cost)} {item['currency']}".rstrip(),
        "estimated" if item["estimated"] else "",
    )


def _fate(fate: Any) -> str:
    """How long it waited for its place, or why it has none."""
    if fate["outcome"] == "placed":
        return lasted(float(fate["waitSeconds"]))
    waits = "" if fate["waitSeconds"] is None else f" {lasted(float(fate['waitSeconds']))}"
    return f"{fate['outcome']}{waits}"
