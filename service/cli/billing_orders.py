"""`jobyard billing credit` and `correct`: what who looks after the yard orders beside a bill."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli.amounts import AmountCommand
from service.cli.billing import Project, RunArgument, run_of, signed
from service.cli.client import Client
from service.cli.command import command
from service.cli.output import Output

_Reason = Annotated[str, typer.Option("--reason", help="Why; it stands beside the line for ever.")]
_Cites = Annotated[
    list[int] | None,
    typer.Option("--cites", metavar="POSITION", help="An event that it is about; repeat it."),
]


def register(app: typer.Typer) -> None:
    said = "--reason 'the store was slow'"
    command(app, "credit", example=f"billing credit 2.50 {said} --job 5d1f0c2e-…", cls=AmountCommand)(credit)
    command(app, "correct", example=f"billing correct 5d1f0c2e-…/1 --minutes 12 {said}")(correct)


async def credit(
    client: Client,
    output: Output,
    amount: Annotated[str, typer.Argument(metavar="AMOUNT", help="What is given back, such as 2.50.")],
    reason: _Reason,
    job: Annotated[
        str | None,
        typer.Option("--job", "-j", metavar="JOB[/RUN]", help="For a run; without RUN the job's last."),
    ] = None,
    currency: Annotated[str | None, typer.Option("--currency", help="Such as EUR; the usual one.")] = None,
    project: Project = None,
    cites: _Cites = None,
) -> None:
    """Gives a project back an amount, for one of its runs or at large."""
    asked: dict[str, Any] = {"amount": amount, "reason": reason, "currency": currency, "project": project}
    if job is not None:
        asked["job"], number = await run_of(client, job, project)
        asked["run"] = int(number)
    _ordered(output, await client.post("/billing/credit", _filled(asked, cites)))


async def correct(
    client: Client,
    output: Output,
    run: RunArgument,
    reason: _Reason,
    amount: Annotated[str | None, typer.Option("--amount", help="What the line should be.")] = None,
    minutes: Annotated[int | None, typer.Option("--minutes", help="What its minutes should be.")] = None,
    price: Annotated[str | None, typer.Option("--price", help="What its price an hour should be.")] = None,
    project: Project = None,
    cites: _Cites = None,
) -> None:
    """Sets a run's line right: what differs from what it comes to by now is recorded, the line stays.

    Of --minutes and --price the one that is left out is as the run's last correction left it, else as in the
    line.
    """
    job, number = await run_of(client, run, project)
    asked: dict[str, Any] = {
        **{"job": job, "run": int(number), "reason": reason, "project": project},
        **{"amount": amount, "minutes": minutes, "hourlyPrice": price},
    }
    _ordered(output, await client.post("/billing/correction", _filled(asked, cites)))


def _filled(asked: dict[str, Any], cites: list[int] | None) -> dict[str, Any]:
    found = {name: value for name, value in asked.items() if value is not None}
    return found | ({"cites": cites} if cites else {})


def _ordered(output: Output, made: Any) -> None:
    what = f"run {made['run']} of job {made['job']}" if made["job"] else f"project {made['project']}"
    text = f"event {made['position']}: {signed(made['amount'])} {made['currency']} for {what}"
    if made.get("minutes") is not None:
        many = "minute" if made["minutes"] == 1 else "minutes"
        text += (
            f"; now {made['minutes']} {many} x {made['units']} x {made['hourlyPrice']} / 60"
            f" = {made['corrected']} {made['currency']}"
        )
    output.done(text, made)
