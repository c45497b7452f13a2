"""`jobyard volume …`: volumes that the project has, for its jobs to name by their ids."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import complete, parse
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Column, Output, clock

app = typer.Typer()

VolumeId = Annotated[str, typer.Argument(metavar="VOLUME", help="Its id.", autocompletion=complete.volumes)]
_EXAMPLE = "volume get 0f5c8a52-…"
_SOURCES = """\b
SOURCE is one of
  CONTAINER@ALIAS[/PREFIX]                  objects of a data store
  CONTAINER@ALIAS/KEY:archive               one object, unpacked
  https://HOST/REPOSITORY[#BRANCH-OR-TAG]   a public git repository
  https://HOST/FILE.tar.gz                  a public archive
  standalone                                empty at first

A job uses it with: jobyard job run -v VOLUME-ID:/PATH:ro ..."""


@command(app, "create", example="volume create data@local/set/", epilog=_SOURCES)
async def create(
    client: Client,
    output: Output,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="What it holds, see below.")],
    cache: Annotated[
        bool | None,
        typer.Option(
            "--cache/--no-cache", help="Keep what was pulled for the next jobs, as is done by default."
        ),
    ] = None,
) -> None:
    """Makes a volume of the project, for any of its jobs; one that is standalone is shared by them."""
    body = parse.source("SOURCE", source) | ({} if cache is None else {"cache": cache})
    made = await client.post("/volume", body)
    output.done(made["id"], made)


@command(app, "list", aliases=["ls"], example="volume list -o json")
async def list_volumes(client: Client, output: Output) -> None:
    """Lists the volumes of your project, the newest first."""
    items = await client.pages("/volume")
    rows = [(each["id"], _source(each), each["cache"], clock(each["createdAt"])) for each in items]
    output.items(items, (Column("ID", whole=True), "SOURCE", "CACHE", Column("CREATED", extra=True)), rows)


@command(app, "get", example=_EXAMPLE)
async def get(client: Client, output: Output, volume_id: VolumeId) -> None:
    """Shows one volume."""
    found = await client.get(f"/volume/{segment(volume_id)}")
    shown = {
        "id": found["id"],
        "source": _source(found),
        "cache": found["cache"],
        "created": clock(found["createdAt"]),
        "updated": clock(found["updatedAt"]),
    }
    output.item(found, shown)


@command(app, "delete", aliases=["rm"], example=_EXAMPLE.replace("get", "delete"))
async def delete(client: Client, output: Output, volume_id: VolumeId) -> None:
    """Deletes a volume that no live job uses; what lies in a data store stays there."""
    await client.delete(f"/volume/{segment(volume_id)}")
    output.deleted(volume_id)


def _source(volume: Any) -> str:
    """As `create` takes it."""
    store = volume.get("dataStore")
    if store:
        place = f"{store['container']}@{store['alias']}"
        if store.get("archive"):
            return f"{place}/{store['archive']}:archive"
        return f"{place}/{store['prefix']}" if store.get("prefix") else place
    for kind in ("publicGit", "publicSwift"):
        if volume.get(kind):
            return str(volume[kind]["url"])
    return "standalone"
