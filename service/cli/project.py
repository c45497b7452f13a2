"""`jobyard project …`: for administrators."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import complete
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Output
from service.cli.token import shown_once

app = typer.Typer()

_Cpu = Annotated[int | None, typer.Option("--cpu", min=0, help="CPU units at most.")]
_Gpu = Annotated[int | None, typer.Option("--gpu", min=0, help="GPU units at most.")]


@command(app, "create", example="project create vision --gpu 2")
async def create(
    client: Client,
    output: Output,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="Its id.")],
    name: Annotated[str | None, typer.Option("--name", "-n", help="What people call it.")] = None,
    cpu: _Cpu = None,
    gpu: _Gpu = None,
) -> None:
    """Makes a project, and a token for it that is shown this once."""
    asked = {"id": project, "name": name, "cpu": cpu, "gpu": gpu}
    made = await client.post("/project", {k: v for k, v in asked.items() if v is not None})
    value = made["token"]["status"].get("value")
    output.item(made, {"project": project, "token": value})
    output.note(shown_once(value))


@command(app, "list", aliases=["ls"], example="project list")
async def list_projects(client: Client, output: Output) -> None:
    """Lists the projects and their quota."""
    items = await client.pages("/project")
    output.items(items, ("PROJECT", "NAME", "CPU", "GPU"), map(_row, items))


@command(app, "get", example="project get vision")
async def get(
    client: Client,
    output: Output,
    project: Annotated[
        str, typer.Argument(metavar="PROJECT", help="Its id.", autocompletion=complete.projects)
    ],
) -> None:
    """Shows a project and its quota."""
    output.item(await client.get(f"/project/{segment(project)}"))


@command(app, "quota", example="project quota vision --gpu 4")
async def quota(
    client: Client,
    output: Output,
    project: Annotated[
        str, typer.Argument(metavar="PROJECT", help="Its id.", autocompletion=complete.projects)
    ],
    cpu: _Cpu = None,
    gpu: _Gpu = None,
) -> None:
    """Changes the quota of a project."""
    if cpu is None and gpu is None:
        raise typer.BadParameter("give --cpu, --gpu or both")
    asked = {"cpu": cpu, "gpu": gpu}
    await client.put(f"/project/{segment(project)}/quota", {k: v for k, v in asked.items() if v is not None})
    output.done(f"quota of {project} changed", await client.get(f"/project/{segment(project)}"))


def _row(item: Any) -> tuple[Any, ...]:
    return item["id"], item["name"], item["cpu"], item["gpu"]
