"""`jobyard budget …`: what a project may spend in a month, and has."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import complete
from service.cli.amounts import AmountCommand
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Output

app = typer.Typer()

_NONE = "none"


@command(app, "get", example="budget get")
async def get(
    client: Client,
    output: Output,
    project: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROJECT]", help="Another project, for overseers.", autocompletion=complete.projects
        ),
    ] = None,
) -> None:
    """Shows the budget of a project, and what was spent of it this month."""
    _show(output, await client.get("/budget" if project is None else f"/project/{segment(project)}/budget"))


@command(app, "set", example="budget set vision 250 --warn-at 0.8 --warn-at 1", cls=AmountCommand)
async def set_budget(
    client: Client,
    output: Output,
    project: Annotated[
        str, typer.Argument(metavar="PROJECT", help="Its id.", autocompletion=complete.projects)
    ],
    amount: Annotated[
        str, typer.Argument(metavar="AMOUNT", help="The most that a month may cost; `none` for no budget.")
    ],
    currency: Annotated[
        str | None, typer.Option("--currency", metavar="CODE", help="Else that of the service's prices.")
    ] = None,
    warn_at: Annotated[
        list[str] | None,
        typer.Option("--warn-at", metavar="SHARE", help="Warn at this share; repeat for more: 0.5, 0.8, 1."),
    ] = None,
) -> None:
    """Sets the budget of a project."""
    asked: dict[str, Any] = {"amount": None if amount == _NONE else amount}
    if currency is not None:
        asked["currency"] = currency
    if warn_at:
        asked["warnAt"] = warn_at
    _show(output, await client.put(f"/project/{segment(project)}/budget", asked))


def _show(output: Output, found: Any) -> None:
    currency = found["currency"]
    output.item(
        found,
        {
            "project": found["project"],
            "month": found["period"],
            "budget": "none" if found["amount"] is None else f"{found['amount']} {currency}",
            "spent": f"{found['spent']} {currency}",
            "remaining": None if found["remaining"] is None else f"{found['remaining']} {currency}",
            "warnings at": ", ".join(found["warnAt"]),
            "warned at": ", ".join(found["warned"]),
            "live runs": found["liveRuns"],
        },
    )
