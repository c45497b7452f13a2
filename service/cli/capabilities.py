"""`jobyard capabilities …`: what jobs can be asked for here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import complete
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Column, Output

app = typer.Typer()
_flavor = typer.Typer()
_image = typer.Typer()
_preset = typer.Typer()
app.add_typer(_flavor, name="flavor", help="What jobs run on.", no_args_is_help=True)
app.add_typer(_image, name="image", help="Images that are recommended.", no_args_is_help=True)
app.add_typer(_preset, name="preset", help="Jobs to begin with.", no_args_is_help=True)

_GIB = 1024**3


@command(_flavor, "list", aliases=["ls"], example="capabilities flavor list")
async def flavors(client: Client, output: Output) -> None:
    """Lists the flavors that some node here can hold."""
    found = await client.get("/capabilities/flavor")
    columns = (
        *(Column("ID", whole=True), "TYPE", "MAX", "CPU", "MEMORY", "GPU", "PRICE/H"),
        Column("DESCRIPTION", extra=True),
    )
    output.items(found, columns, map(_row, found))


@command(_flavor, "get", example="capabilities flavor get ai1-1-gpu")
async def flavor(
    client: Client,
    output: Output,
    name: Annotated[str, typer.Argument(metavar="FLAVOR", autocompletion=complete.flavors)],
) -> None:
    """Shows one flavor, by unit."""
    found = await client.get(f"/capabilities/flavor/{segment(name)}")
    per_unit = found["resourcesPerUnit"]
    shown = {
        "id": found["id"],
        "type": found["type"],
        "description": found["description"],
        "default": found["default"],
        "most units a job": found["max"],
        "cpu": per_unit["cpu"],
        "memory": _gib(per_unit["memory"]),
        "storage": _gib(per_unit["ephemeralStorage"]),
        "gpu": _gpu(found),
        "price an hour": _price(found),
    }
    output.item(found, shown)


@command(_image, "list", aliases=["ls"], example="capabilities image list")
async def images(client: Client, output: Output) -> None:
    """Lists the recommended images; any other may be used as well."""
    found = await client.get("/capabilities/job/image")
    rows = [(each["id"], " ".join(each["versions"]), each["description"]) for each in found]
    output.items(found, ("ID", "VERSIONS", "DESCRIPTION"), rows)


@command(_preset, "list", aliases=["ls"], example="capabilities preset list")
async def presets(client: Client, output: Output) -> None:
    """Lists the presets."""
    found = await client.get("/capabilities/preset", type="job")
    rows = [(each["id"], each["name"], each["snippet"]) for each in found]
    output.items(found, ("ID", "NAME", "SNIPPET"), rows)


@command(_preset, "get", example="capabilities preset get classify")
async def preset(
    client: Client,
    output: Output,
    name: Annotated[str, typer.Argument(metavar="PRESET", autocompletion=complete.presets)],
) -> None:
    """Shows one preset."""
    found = await client.get(f"/capabilities/preset/{segment(name)}")
    shown = {
        "id": found["id"],
        "name": found["name"],
        "snippet": found["snippet"],
        "about": " ".join(found["descriptions"]),
        "flavors": " ".join(found["capabilities"]["flavorTypes"]),
    }
    output.item(found, shown)


@command(app, "quota", example="capabilities quota")
async def quota(client: Client, output: Output) -> None:
    """Shows the most units that the jobs of your project may hold together."""
    found = await client.get("/capabilities/quota")
    rows = [(kind, most) for each in found for kind, most in each["resources"].items()]
    output.items(found, ("KIND", "LIMIT"), rows)


def _row(flavor: Any) -> tuple[Any, ...]:
    per_unit = flavor["resourcesPerUnit"]
    return (
        flavor["id"],
        flavor["type"],
        flavor["max"],
        per_unit["cpu"],
        _gib(per_unit["memory"]),
        _gpu(flavor),
        _price(flavor),
        flavor["description"],
    )


def _gib(size: int) -> str:
    return f"{size / _GIB:g} GiB"


def _gpu(flavor: Any) -> str | None:
    found = flavor.get("gpuInformation") or {}
    return " ".join(filter(None, (found.get("gpuBrand"), found.get("gpuModel")))) or None


def _price(flavor: Any) -> str | None:
    return f"{flavor['hourlyPrice']} {flavor['currency']}" if flavor["hourlyPrice"] is not None else None
