"""`jobyard token …`"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from service.cli import complete, words
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Column, Output, clock

app = typer.Typer()


def shown_once(value: str | None) -> str:
    """What to say about a new token's value: a repeated request, whose first answer was lost, has none."""
    if value:
        return "the token is shown only now: keep it"
    return "the answer with its value was lost: delete this token and create another"


class Role(StrEnum):
    """What a token may do: OVHcloud's names, and the short ones of its command line."""

    ADMINISTRATOR = "administrator"
    OPERATOR = "ai_training_operator"
    READ = "ai_training_read"
    SHORT_OPERATOR = "operator"
    SHORT_READ = "read"


_LONG = {Role.SHORT_OPERATOR: Role.OPERATOR, Role.SHORT_READ: Role.READ}

TokenId = Annotated[
    str, typer.Argument(metavar="TOKEN", help="The token's id.", autocompletion=complete.tokens)
]


@command(app, "create", example="token create ci --role operator -l team=a")
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
    words.check_given("--label-selector", label)  # without one it would be good for all jobs
    spec = {"name": name, "role": str(_LONG.get(role, role))} | ({"labelSelector": label} if label else {})
    made = await client.post("/token", spec)
    value = made["status"].get("value")
    output.item(made, {"id": made["id"], "role": made["spec"]["role"], "token": value})
    output.note(shown_once(value))


@command(app, "list", aliases=["ls"], example="token list")
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
    extra = (Column("LABELS", extra=True), Column("CREATED", extra=True))
    columns = (Column("ID", whole=True), "NAME", "ROLE", *extra)
    output.items(items, columns, rows)


@command(app, "get", example="token get 3a1d9f40-…")
async def get(client: Client, output: Output, token_id: TokenId) -> None:
    """Shows one token, without its value."""
    found = await client.get(f"/token/{segment(token_id)}")
    shown = {
        "id": found["id"],
        "name": found["spec"]["name"],
        "role": found["spec"]["role"],
        "labels": found["spec"].get("labelSelector"),
        "version": found["status"]["version"],
        "created": clock(found["createdAt"]),
        "updated": clock(found["updatedAt"]),
    }
    output.item(found, shown)


@command(app, "renew", example="token renew 3a1d9f40-…")
async def renew(client: Client, output: Output, token_id: TokenId) -> None:
    """Gives a token another value, shown this once; the old one stops working."""
    made = await client.post(f"/token/{segment(token_id)}/renew", None)
    value = made["status"].get("value")
    output.item(made, {"id": made["id"], "version": made["status"]["version"], "token": value})
    output.note(shown_once(value))


@command(app, "delete", aliases=["rm"], example="token delete 3a1d9f40-…")
async def delete(client: Client, output: Output, token_id: TokenId) -> None:
    """Revokes a token."""
    await client.delete(f"/token/{segment(token_id)}")
    output.deleted(token_id)
