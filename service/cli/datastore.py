"""`jobyard datastore …`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import ask, complete, git_store, words
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Output, clock

app = typer.Typer()
add = typer.Typer()
update = typer.Typer()
app.add_typer(add, name="add", help="Adds a data store.", no_args_is_help=True)
app.add_typer(
    update, name="update", help="Gives a data store other keys, or another place.", no_args_is_help=True
)

SECRET_KEY = "JOBYARD_S3_SECRET_KEY"  # noqa: S105 (a variable's name)

Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="What volumes call it.")]
KnownAlias = Annotated[
    str,
    typer.Argument(metavar="ALIAS", help="What volumes call it.", autocompletion=complete.data_stores),
]
Endpoint = Annotated[str, typer.Argument(metavar="ENDPOINT", help="Its URL.")]
Region = Annotated[str, typer.Argument(metavar="REGION")]
AccessKey = Annotated[str, typer.Argument(metavar="ACCESS_KEY")]
SecretKey = Annotated[
    str | None,
    typer.Argument(
        metavar="SECRET_KEY",
        envvar=SECRET_KEY,
        help="Better left out: it is asked for then, and others on this machine do not see it.",
        show_default=False,
    ),
]
Check = Annotated[bool, typer.Option("--check/--no-check", help="Try the keys first.")]
Locally = Annotated[
    bool,
    typer.Option(
        "--store-credentials-locally", hidden=True, help="Not needed: objects go through the service."
    ),
]
_GIT = "datastore {} git team https://git.example.org/team --username ann"
_ADD = "datastore {} s3 gra https://s3.gra.io.cloud.ovh.net gra ACCESS_KEY"


@command(add, "s3", example=_ADD.format("add"))
async def add_s3(
    client: Client,
    output: Output,
    alias: Alias,
    endpoint: Endpoint,
    region: Region,
    access_key: AccessKey,
    secret_key: SecretKey = None,
    check: Check = True,
    locally: Locally = False,
) -> None:
    """Adds an S3 data store. Its secret key is kept encrypted and never shown."""
    body = _s3(alias, endpoint, region, access_key, secret_key)
    output.done(f"added {alias}", await client.post(_checked("/datastore", check), body))


@command(update, "s3", example=_ADD.format("update"))
async def update_s3(
    client: Client,
    output: Output,
    alias: KnownAlias,
    endpoint: Endpoint,
    region: Region,
    access_key: AccessKey,
    secret_key: SecretKey = None,
    check: Check = True,
    locally: Locally = False,
) -> None:
    """Replaces all of an S3 data store but its alias; volumes that name it go there from now on."""
    path = f"/datastore/{segment(alias)}"
    await client.put(_checked(path, check), _s3(alias, endpoint, region, access_key, secret_key))
    output.done(f"changed {alias}", None if output.format is None else await client.get(path))


command(add, "git", example=_GIT.format("add"))(git_store.add)
command(update, "git", example=_GIT.format("update"))(git_store.update)


@command(app, "list", aliases=["ls"], example="datastore list")
async def list_stores(client: Client, output: Output) -> None:
    """Lists the data stores of your project."""
    items = await client.pages("/datastore")
    rows = [(each["alias"], each.get("type"), each.get("endpoint"), each.get("owner")) for each in items]
    output.items(items, ("ALIAS", "TYPE", "ENDPOINT", "OWNER"), rows)


@command(app, "get", example="datastore get gra")
async def get(client: Client, output: Output, alias: KnownAlias) -> None:
    """Shows one data store, without its secrets."""
    found = await client.get(f"/datastore/{segment(alias)}")
    shown = {
        "alias": found["alias"],
        "type": found["type"],
        "endpoint": found["endpoint"],
        "region": found["credentials"].get("s3", {}).get("region"),
        **git_store.shown(found),
        "owner": found["owner"],
        "created": clock(found["createdAt"]),
        "updated": clock(found["updatedAt"]),
    }
    output.item(found, shown)


@command(app, "delete", aliases=["rm"], example="datastore delete gra")
async def delete(client: Client, output: Output, alias: KnownAlias) -> None:
    """Forgets a data store; what is in it stays where it is."""
    await client.delete(f"/datastore/{segment(alias)}")
    output.deleted(alias)


def _s3(alias: str, endpoint: str, region: str, access_key: str, secret_key: str | None) -> dict[str, Any]:
    otherwise = f"give it as the last argument, or in {SECRET_KEY}"
    keys = {
        "accessKey": access_key,
        "secretKey": secret_key or words.kept_in(SECRET_KEY) or ask.secret("Secret key", otherwise=otherwise),
        "region": region,
    }
    return {
        "alias": alias,
        "type": "s3",
        "endpoint": endpoint,
        "owner": "customer",
        "credentials": {"s3": keys},
    }


def _checked(path: str, check: bool) -> str:
    return path if check else f"{path}?check=false"
