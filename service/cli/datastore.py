"""`jobyard datastore …`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import git_store
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Output

app = typer.Typer()
add = typer.Typer()
app.add_typer(add, name="add", help="Adds a data store.", no_args_is_help=True)

Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="What volumes call it.")]


@command(add, "s3")
async def add_s3(
    client: Client,
    output: Output,
    alias: Alias,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its URL.")],
    region: Annotated[str, typer.Argument(metavar="REGION")],
    access_key: Annotated[str, typer.Argument(metavar="ACCESS_KEY")],
    secret_key: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECRET_KEY]",
            envvar="JOBYARD_S3_SECRET_KEY",
            help="Better left out: it is asked for then, and others on this machine do not see it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Adds an S3 data store. Its secret key is kept encrypted and never shown."""
    secret_key = secret_key or typer.prompt("Secret key", hide_input=True, err=True)
    body: dict[str, Any] = {
        "alias": alias,
        "type": "s3",
        "endpoint": endpoint,
        "owner": "customer",
        "credentials": {"s3": {"accessKey": access_key, "secretKey": secret_key, "region": region}},
    }
    output.done(f"added {alias}", await client.post("/datastore", body))


command(add, "git")(git_store.add)


@command(app, "get")
async def get(client: Client, output: Output, alias: Alias) -> None:
    """Shows one data store, without its secrets."""
    found = await client.get(f"/datastore/{segment(alias)}")
    shown = {name: found.get(name) for name in ("alias", "type", "endpoint", "owner")}
    output.item(found, shown | git_store.shown(found))


@command(app, "list")
async def list_stores(client: Client, output: Output) -> None:
    """Lists the data stores of your project."""
    items = await client.pages("/datastore")
    rows = [(each["alias"], each.get("type"), each.get("endpoint"), each.get("owner")) for each in items]
    output.items(items, ("ALIAS", "TYPE", "ENDPOINT", "OWNER"), rows)


@command(app, "delete")
async def delete(client: Client, alias: Alias) -> None:
    """Forgets a data store; what is in it stays where it is."""
    await client.delete(f"/datastore/{segment(alias)}")
    print(f"deleted {alias}")
