"""`jobyard project erase`: its secrets are destroyed for good, and nothing else is."""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli import ask, complete
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.output import Output


def register(app: typer.Typer) -> None:
    """Adds `erase` to the commands of `project`."""
    command(app, "erase", example="project erase vision --yes")(erase)


async def erase(
    client: Client,
    output: Output,
    project: Annotated[
        str, typer.Argument(metavar="PROJECT", help="Its id.", autocompletion=complete.projects)
    ],
    yes: ask.Yes = False,
) -> None:
    """Destroys the key of a project without live jobs: the secrets of its jobs, data stores, registries and
    webhooks, which are paused."""
    if not yes:
        question = (
            f"Erase all secrets of project {project}, also of its data stores, registries and webhooks "
            "(which are paused), for good?"
        )
        ask.agreed(question, otherwise=ask.SURE)
    await client.delete(f"/project/{segment(project)}/key")
    output.done(f"erased the secrets of project {project}", {"erased": project})
