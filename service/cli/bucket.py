"""`jobyard bucket object …`: the objects of a container, in OVHcloud's words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli import objects, parse
from service.cli.client import Client, object_path
from service.cli.command import command
from service.cli.output import Output, clock, size

app = typer.Typer()
object_app = typer.Typer()
app.add_typer(object_app, name="object", help="Upload, download, list and delete.", no_args_is_help=True)

Container = Annotated[str, typer.Argument(metavar="CONTAINER[@ALIAS]", help="Where the objects are.")]
Prefix = Annotated[str, typer.Option("--prefix", "-p", help="Only keys that begin so.")]


@command(object_app, "upload")
async def upload(
    client: Client,
    output: Output,
    container: Container,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files and folders.")],
    prefix: Annotated[str, typer.Option("--prefix", "-p", help="The folder they go into.")] = "",
) -> None:
    """Uploads files, and folders with all they hold."""
    alias, name = await objects.placed(client, parse.bucket(container))
    pairs = objects.keys_of(files, prefix)
    moved = await objects.upload(client, alias, name, pairs, _told(output))
    output.done(_total("uploaded", moved), [each.as_json() for each in moved])


@command(object_app, "download")
async def download(
    client: Client,
    container: Container,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY...]", help="All, if none is named.")
    ] = None,
    folder: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where to.")] = Path(),
    prefix: Prefix = "",
) -> None:
    """Downloads objects; each goes to its key below the folder."""
    output = Output()
    alias, name = await objects.placed(client, parse.bucket(container))
    wanted = keys or [each["key"] for each in await objects.listed(client, alias, name, prefix)]
    moved = await objects.download(client, alias, name, wanted, folder, _told(output))
    output.done(_total("downloaded", moved))


@command(object_app, "list")
async def list_objects(client: Client, output: Output, container: Container, prefix: Prefix = "") -> None:
    """Lists objects."""
    alias, name = await objects.placed(client, parse.bucket(container))
    items = await objects.listed(client, alias, name, prefix)
    rows = [(each["key"], size(each["size"]), clock(each.get("modified"))) for each in items]
    output.items(items, ("KEY", "SIZE", "MODIFIED"), rows)


@command(object_app, "delete")
async def delete(
    client: Client,
    container: Container,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...")],
) -> None:
    """Deletes objects."""
    alias, name = await objects.placed(client, parse.bucket(container))
    for key in keys:
        await client.delete(object_path(alias, name, key))
        print(f"deleted {key}")


def _told(output: Output) -> objects.Told:
    def told(moved: objects.Moved) -> None:
        output.note(f"{moved.key}  {size(moved.size_bytes)}")

    return told


def _total(word: str, moved: list[objects.Moved]) -> str:
    count = len(moved)
    return f"{word} {count} object{'' if count == 1 else 's'}, {size(sum(each.size_bytes for each in moved))}"
