"""`jobyard token …`"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Output, clock

app = typer.Typer()


def shown_once(value: str | None) -> str:
    """What to say about a new token's value: a repeated request, whose first answer was lost, has none."""
    if value:
        return "the token is shown only now: keep it"
    return "the answer with its value was lost: delete this token and create another"


class Role(StrEnum):
    """What a token may do. Source: api.md of OVHcloud's product, "Token"."""

    ADMINISTRATOR = "administrator"
    OPERATOR = "ai_training_operator"
    READ = "ai_training_read"


@command(app, "create")
async def create(
    client: Client,
    output: Output,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    role: Annotated[Role, typer.Option("--role", "-r", help="What it may do.")] = Role.OPERATOR,
    label: Annotated[
        str | None, typer.Option("--label-selector", "-l", help="Only for jobs whose labels match.")
    ] = None,
) -> None:
    """Makes a token; its value is shown this once."""
    spec = {"name": name, "role": str(role)} | ({"labelSelector": label} if label else {})
    made = await client.post("/token", spec)
    value = made["status"].get("value")
    output.item(made, {"id": made["id"], "role": made["spec"]["role"], "token": value})
    output.note(shown_once(value))


@command(app, "list")
async def list_tokens(client: Client, output: Output) -> None:
    """Lists the tokens; their values are not kept anywhere."""
    items = await client.pages("/token")
    rows = [
        (
            each["id"],
            each["spec"]["name"],
            each["spec"]["role"],
            each["spec"].get("labelSelector"),
            clock(each["createdAt"]),
        )
        for each in items
    ]
    output.items(items, ("ID", "NAME", "ROLE", "LABELS", "CREATED"), rows)


@command(app, "renew")
async def renew(
    client: Client,
    output: Output,
    token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="The token's id.")],
) -> None:
    """Gives a token another value, shown this once; the old one stops working."""
    made = await client.post(f"/token/{segment(token_id)}/renew", None)
    value = made["status"].get("value")
    output.item(made, {"id": made["id"], "version": made["status"]["version"], "token": value})
    output.note(shown_once(value))


@command(app, "delete")
async def delete(
    client: Client, token_id: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id.")]
) -> None:
    """Revokes a token."""
    await client.delete(f"/token/{segment(token_id)}")
    print(f"deleted {token_id}")
