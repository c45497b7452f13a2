"""`jobyard datastore …`"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Output
from service.errors import Invalid

app = typer.Typer()
add = typer.Typer()
app.add_typer(add, name="add", help="Adds a data store.", no_args_is_help=True)

GIT_PASSWORD = "JOBYARD_GIT_PASSWORD"  # noqa: S105 (a variable's name)

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


@command(add, "git")
async def add_git(
    client: Client,
    output: Output,
    alias: Alias,
    endpoint: Annotated[
        str,
        typer.Argument(
            metavar="ENDPOINT", help="https://HOST[/PATH], ssh://[USER@]HOST[/PATH] or USER@HOST:PATH"
        ),
    ],
    username: Annotated[
        str | None, typer.Option("--username", "-u", help="With https; none: public.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password or access token from stdin.")
    ] = False,
    private_key: Annotated[
        Path | None,
        typer.Option(
            "--ssh-private-key", metavar="FILE", help="With ssh; it has no passphrase.", dir_okay=False
        ),
    ] = None,
    host_keys: Annotated[
        list[str] | None,
        typer.Option("--ssh-host-key", metavar="'TYPE BASE64'", help="Else the first that it shows is kept."),
    ] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Ask the server first.")] = True,
) -> None:
    """Adds a data store of git repositories, for volumes that are read.

    The password is asked for, or comes from stdin or from JOBYARD_GIT_PASSWORD. It and a private key are kept
    encrypted and never shown.
    """
    keys: dict[str, Any] = {"hostKeys": host_keys} if host_keys else {}
    if username is not None:
        keys["basicAuth"] = {"username": username, "password": _password(password_stdin)}
    elif password_stdin:
        raise Invalid("--password-stdin", None, "a password needs its --username")
    if private_key is not None:
        try:
            keys["sshKeypair"] = {"privateKey": private_key.read_text()}
        except (OSError, UnicodeError) as error:
            raise Invalid("--ssh-private-key", str(private_key), f"a file to read ({error})") from None
    body = {"alias": alias, "type": "git", "endpoint": endpoint, "credentials": {"git": keys}}
    made = await client.post(f"/datastore{'' if check else '?check=false'}", body)
    output.done(f"added {alias}", made)


def _password(from_stdin: bool) -> str:
    """Never an argument: those are for everybody on this machine to read."""
    if not from_stdin:
        kept = os.environ.get(GIT_PASSWORD)
        return kept or str(typer.prompt("Password or access token", hide_input=True, err=True))
    password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not password:
        raise Invalid("--password-stdin", None, "stdin held no password")
    return password


@command(app, "get")
async def get(client: Client, output: Output, alias: Alias) -> None:
    """Shows one data store, without its secrets."""
    found = await client.get(f"/datastore/{segment(alias)}")
    shown = {name: found.get(name) for name in ("alias", "type", "endpoint", "owner")}
    git = found.get("credentials", {}).get("git", {})
    if "sshKeypair" in git:
        shown |= {"public key": git["sshKeypair"]["publicKey"], "host keys": ", ".join(git["hostKeys"])}
    elif "basicAuth" in git:
        shown |= {"user and password": "kept"}
    output.item(found, shown)


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
