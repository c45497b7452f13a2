"""`jobyard bucket …`: the containers of a data store and what is in them, in OVHcloud's words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli import ask, complete, objects, parse
from service.cli.client import Client, object_path, segment
from service.cli.command import command
from service.cli.output import Format, Output, clock, size
from service.errors import Invalid

app = typer.Typer()
object_app = typer.Typer()
app.add_typer(object_app, name="object", help="Upload, download, list and delete.", no_args_is_help=True)

Alias = Annotated[
    str, typer.Argument(metavar="ALIAS", help="The data store.", autocompletion=complete.data_stores)
]
Container = Annotated[str, typer.Argument(metavar="CONTAINER[@ALIAS]", help="Where the objects are.")]
Prefix = Annotated[str, typer.Option("--prefix", "-p", help="Only keys that begin so.")]


@command(app, "list", aliases=["ls"], example="bucket list local")
async def list_containers(client: Client, output: Output, alias: Alias) -> None:
    """Lists the containers of a data store."""
    items = await client.pages(f"/datastore/{segment(alias)}/container")
    output.items(items, ("NAME",), [(each["name"],) for each in items])


@command(app, "create", example="bucket create local data")
async def create(
    client: Client,
    output: Output,
    alias: Alias,
    container: Annotated[str, typer.Argument(metavar="CONTAINER", help="Its name.")],
) -> None:
    """Makes a container in a data store; one that is yours already is left as it is."""
    made = await client.put(f"/datastore/{segment(alias)}/container/{segment(container)}")
    output.done(f"created {container}@{alias}", made)


@command(object_app, "upload", example="bucket object upload data@local train.csv images/")
async def upload(
    client: Client,
    output: Output,
    container: Container,
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Files and folders.")],
    prefix: Annotated[
        str, typer.Option("--prefix", "--add-prefix", "-p", help="The folder they go into.")
    ] = "",
    key: Annotated[
        str | None, typer.Option("--object-name", help="The key of a single file, in place of its name.")
    ] = None,
) -> None:
    """Uploads files, and folders with all they hold."""
    alias, name = await objects.placed(client, parse.bucket(container))
    pairs = objects.keys_of(files, prefix) if key is None else _single(files, prefix, key)
    moved = await objects.upload(client, alias, name, pairs, _told(output))
    output.done(_total("uploaded", moved), [each.as_json() for each in moved])


@command(object_app, "download", example="bucket object download models@local --prefix first/ --output out")
async def download(
    client: Client,
    container: Container,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY", help="All, if none is named.")] = None,
    folder: Annotated[
        Path, typer.Option("--output", "--output-dir", "-o", metavar="DIR", help="Where to.")
    ] = Path(),
    prefix: Prefix = "",
    format: Annotated[
        Format | None, typer.Option("--format", help="Print this format, and nothing else.")
    ] = None,
) -> None:
    """Downloads objects; each goes to its key below the folder. Without KEY, folder marks are left out."""
    output = Output(format)
    alias, name = await objects.placed(client, parse.bucket(container))
    wanted = keys or objects.without_folders(await objects.listed(client, alias, name, prefix))
    moved = await objects.download(client, alias, name, wanted, folder, _told(output))
    output.done(_total("downloaded", moved), [each.as_json() for each in moved])


@command(object_app, "list", aliases=["ls"], example="bucket object list models@local --prefix first/")
async def list_objects(client: Client, output: Output, container: Container, prefix: Prefix = "") -> None:
    """Lists objects."""
    alias, name = await objects.placed(client, parse.bucket(container))
    items = await objects.listed(client, alias, name, prefix)
    rows = [(each["key"], size(each["size"]), clock(each.get("modified"))) for each in items]
    output.items(items, ("KEY", "SIZE", "MODIFIED"), rows)


@command(object_app, "delete", aliases=["rm"], example="bucket object delete models@local first/model.csv")
async def delete(
    client: Client,
    output: Output,
    container: Container,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All objects, or those of --prefix.")] = False,
    prefix: Prefix = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --all: without asking.")] = False,
) -> None:
    """Deletes objects."""
    if bool(keys) == everything:
        raise Invalid("KEY", None, "name the objects, or give --all")
    if prefix and not everything:
        raise Invalid("--prefix", prefix, "it goes with --all")
    alias, name = await objects.placed(client, parse.bucket(container))
    if everything:
        keys = [each["key"] for each in await objects.listed(client, alias, name, prefix)]
        if keys and not yes:
            ask.agreed(
                f"Delete {len(keys)} objects of {name}@{alias}?", otherwise="--yes does it without asking"
            )
    for key in keys or ():
        await client.delete(object_path(alias, name, key))
        output.done(f"deleted {key}")
    if output.format is not None:
        output.item([{"deleted": key} for key in keys or ()])


def _single(files: list[Path], prefix: str, key: str) -> list[tuple[str, Path]]:
    if len(files) != 1 or not files[0].is_file():
        raise Invalid("--object-name", key, "it names the object of a single file")
    return [(f"{prefix.strip('/')}/{key}" if prefix.strip("/") else key, files[0])]


def _told(output: Output) -> objects.Told:
    def told(moved: objects.Moved) -> None:
        output.note(f"{moved.key}  {size(moved.size_bytes)}")

    return told


def _total(word: str, moved: list[objects.Moved]) -> str:
    return f"{word} {_count(len(moved))}, {size(sum(each.size_bytes for each in moved))}"


def _count(count: int) -> str:
    return f"{count} object{'' if count == 1 else 's'}"
