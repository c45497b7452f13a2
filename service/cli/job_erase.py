"""`jobyard job erase`: its secrets are destroyed for good, and nothing else is."""

from __future__ import annotations

import typer

from service.cli import ask, job
from service.cli.client import Client
from service.cli.command import command
from service.cli.output import Output


def register(app: typer.Typer) -> None:
    """Adds `erase` to the commands of `job`."""
    command(app, "erase", example="job erase 5d1f0c2e-… --yes")(erase)


async def erase(client: Client, output: Output, job_id: job.EndedJobId, yes: ask.Yes = False) -> None:
    """Destroys the key of a job that has ended: its secrets are unreadable, its history stays."""
    if not yes:
        ask.agreed(f"Erase the secrets of job {job_id} for good?", otherwise=ask.SURE)
    await client.delete(job.path(job_id, "key"))
    output.done(f"erased the secrets of job {job_id}", {"erased": job_id})
