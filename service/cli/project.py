"""`jobyard project …`: for administrators."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Output

app = typer.Typer()

_Cpu = Annotated[int | None, typer.Option("--cpu", min=0, help="CPU units at most.")]
_Gpu = Annotated[int | None, typer.Option("--gpu", min=0, help="GPU units at most.")]


@command(app, "create")
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
    output.item(made, {"project": project, "token": made["token"]["status"]["value"]})
    output.note("the token is shown only now: keep it")


@command(app, "list")
async def list_projects(client: Client, output: Output) -> None:
    """Lists the projects and their quota."""
    found = await client.get("/project")
    items = found["items"] if isinstance(found, dict) else found
    output.items(items, ("PROJECT", "NAME", "CPU", "GPU"), map(_row, items))


@command(app, "quota")
async def quota(
    client: Client,
    output: Output,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="Its id.")],
    cpu: _Cpu = None,
    gpu: _Gpu = None,
) -> None:
    """Changes the quota of a project."""
    if cpu is None and gpu is None:
        raise typer.BadParameter("give --cpu, --gpu or both")
    asked = {"cpu": cpu, "gpu": gpu}
    answer = await client.put(
        f"/project/{segment(project)}/quota", {k: v for k, v in asked.items() if v is not None}
    )
    output.done(f"quota of {project} changed", answer)


def _row(item: Any) -> tuple[Any, ...]:
    quota = item.get("quota") or item
    return item["id"], item.get("name"), quota.get("cpu"), quota.get("gpu")
