"""`jobyard me`, `quota` and `billing`: who you are, what you may use, what it cost."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import complete
from service.cli.client import Client
from service.cli.command import command
from service.cli.output import Column, Output

_COLUMNS = (
    Column("JOB", whole=True),
    "RUN",
    Column("FLAVOR", extra=True),
    "UNITS",
    Column("PRICE/H", extra=True),
    "MINUTES",
    Column("AMOUNT", whole=True),
    "",
    Column("POLICY", extra=True),
)


def register(app: typer.Typer) -> None:
    """Adds the three to `app`."""
    command(app, "me", example="me")(me)
    command(app, "quota", example="quota -o json")(quota)
    command(app, "billing", example="billing --from 2026-11-01T00:00:00Z --policy 2023-12")(billing)


async def me(client: Client, output: Output) -> None:
    """Shows whose token this is, its role and its project."""
    found = await client.get("/me")
    shown = {"name": found["name"], "role": found["role"], "project": found["tenant"]}
    output.item(found, shown | {"token": found.get("tokenKind")})


async def quota(client: Client, output: Output) -> None:
    """Shows the units of your project: in use, and at most."""
    found = await client.get("/quota")
    rows = [(kind.upper(), found[f"{kind}Used"], found[kind]) for kind in ("cpu", "gpu")]
    output.items(found, ("KIND", "IN USE", "LIMIT"), rows)


async def billing(
    client: Client,
    output: Output,
    job: Annotated[
        str | None,
        typer.Option("--job", "-j", help="Only this job.", autocompletion=complete.jobs),
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", help="As this policy would bill: 2021-05, 2023-12, 2026-01.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="Runs from this time on (RFC 3339).")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Runs before this time (RFC 3339).")] = None,
) -> None:
    """Shows what your runs cost, line by line."""
    params: dict[str, str | int | list[str] | None] = {
        "job": job,
        "policy": policy,
        "from": since,
        "to": until,
    }
    found = await client.get("/billing", **params)
    output.items(found, _COLUMNS, [_line(item) for item in found["items"]])
    if output.format is None and found["total"] is not None:
        output.done(f"total {found['total']} {found['currency']}".rstrip())


def _line(item: Any) -> tuple[Any, ...]:
    return (
        item["job"],
        item["run"],
        item["flavor"],
        item["units"],
        item["hourlyPrice"],
        item["minutes"],
        f"{item['amount']} {item['currency']}".rstrip(),
        "credited" if item["credited"] else "",
        item["policy"],
    )
