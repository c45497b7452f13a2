"""`jobyard me` and `quota`: who you are, what you may use."""

from __future__ import annotations

import typer

from service.cli.client import Client
from service.cli.command import command
from service.cli.moments import AsOf, as_of
from service.cli.output import Output


def register(app: typer.Typer) -> None:
    """Adds both to `app`."""
    command(app, "me", example="me")(me)
    command(app, "quota", example="quota -o json")(quota)


async def me(client: Client, output: Output) -> None:
    """Shows whose token this is, its role and its project."""
    found = await client.get("/me")
    shown = {"name": found["name"], "role": found["role"], "project": found["tenant"]}
    output.item(found, shown | {"token": found.get("tokenKind")})


async def quota(client: Client, output: Output, then: AsOf = None) -> None:
    """Shows the units of your project: in use, and at most."""
    found = await client.get("/quota", asOf=as_of(then))
    rows = [(kind.upper(), found[f"{kind}Used"], found[kind]) for kind in ("cpu", "gpu")]
    output.items(found, ("KIND", "IN USE", "LIMIT"), rows)
