"""`jobyard registry …`"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from service.cli import ask, complete, words
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Column, Output, clock
from service.errors import Invalid

app = typer.Typer()

PASSWORD = "JOBYARD_REGISTRY_PASSWORD"  # noqa: S105 (a variable's name)
_OTHERWISE = f"give it with --password-stdin, or in {PASSWORD}"

_COLUMNS = (
    *(Column("ID", whole=True), "URL", "USERNAME"),
    *(Column("USER", extra=True), Column("CREATED", extra=True)),
)

_Id = Annotated[str, typer.Argument(metavar="REGISTRY", help="Its id.", autocompletion=complete.registries)]
_Stdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")]
_Check = Annotated[bool, typer.Option("--check/--no-check", help="Try the credentials first.")]


@command(app, "add", example="registry add ghcr.io ann")
async def add(
    client: Client,
    output: Output,
    place: Annotated[str, typer.Argument(metavar="URL", help="[https://]HOST[:PORT], as images name it.")],
    username: Annotated[
        str | None, typer.Argument(metavar="USERNAME", help="Asked for when it is left out.")
    ] = None,
    password_stdin: _Stdin = False,
    check: _Check = True,
) -> None:
    """Attaches a private registry to your project.

    Its password is asked for, or comes from stdin or from JOBYARD_REGISTRY_PASSWORD; it is kept encrypted and
    never shown.
    """
    if username is None:
        username = ask.line("Username", otherwise="give it after the URL")
    password = _password(password_stdin) or ask.secret("Password", otherwise=_OTHERWISE)
    body = {"url": place, "username": username, "password": password}
    made = await client.post(_checked("/registry", check), body)
    output.item(made, _shown(made))


@command(app, "list", aliases=["ls"], example="registry list")
async def list_registries(client: Client, output: Output) -> None:
    """Lists the registries that are attached to your project."""
    items = await client.pages("/registry")
    rows = [
        (each["id"], each["url"], each["username"], each["user"], clock(each["createdAt"])) for each in items
    ]
    output.items(items, _COLUMNS, rows)


@command(app, "get", example="registry get 91b7c5de-…")
async def get(client: Client, output: Output, registry: _Id) -> None:
    """Shows one registry, without its password."""
    found = await client.get(f"/registry/{segment(registry)}")
    output.item(found, _shown(found))


@command(app, "update", example="registry update 91b7c5de-… --password")
async def update(
    client: Client,
    output: Output,
    registry: _Id,
    place: Annotated[
        str | None, typer.Option("--registry-url", help="Its new URL; needs the password again.")
    ] = None,
    username: Annotated[str | None, typer.Option("--username", "-u", help="The new user.")] = None,
    ask_password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
    password_stdin: _Stdin = False,
    check: _Check = True,
) -> None:
    """Changes what is given of a registry; JOBYARD_REGISTRY_PASSWORD counts as given."""
    password = _password(password_stdin)
    if password is None and ask_password:
        password = ask.secret("Password", otherwise=_OTHERWISE)
    asked = {"url": place, "username": username, "password": password}
    changed = {name: value for name, value in asked.items() if value is not None}
    if not changed:
        raise typer.BadParameter("give --registry-url, --username, --password or several of them")
    path = f"/registry/{segment(registry)}"
    await client.put(_checked(path, check), changed)
    output.done(f"changed {registry}", None if output.format is None else await client.get(path))


@command(app, "delete", aliases=["rm"], example="registry delete 91b7c5de-…")
async def delete(client: Client, output: Output, registry: _Id) -> None:
    """Detaches a registry; jobs that run keep running, and the next ones cannot pull its private images."""
    await client.delete(f"/registry/{segment(registry)}")
    output.deleted(registry)


def _password(from_stdin: bool) -> str | None:
    """From stdin if told so, else from the environment; None when there is none. Never an argument: those
    are for everybody on this machine to read."""
    if not from_stdin:
        return words.kept_in(PASSWORD)
    password = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not password:
        raise Invalid("--password-stdin", "", "stdin held no password")
    return password


def _checked(path: str, check: bool) -> str:
    return path if check else f"{path}?check=false"


def _shown(item: Any) -> dict[str, Any]:
    return {
        "id": item["id"],
        "url": item["url"],
        "username": item["username"],
        "user": item["user"],
        "created": clock(item["createdAt"]),
        "updated": clock(item["updatedAt"]),
    }
