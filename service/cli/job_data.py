"""`jobyard job push-data` and `pull-data`: data moved when somebody says so, and what became of it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from service.cli import exits, job
from service.cli.client import Client
from service.cli.command import command
from service.cli.output import Output
from service.cli.watch import moved

POLL_S = 0.4

Volume = Annotated[str | None, typer.Option("--volume", help="One volume: its mount path or its id.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Until it has ended; without, once it is ordered.")
]


def register(app: typer.Typer) -> None:
    command(app, "push-data", example="job push-data 5d1f0c2e-… --volume /out")(push)
    command(app, "pull-data", example="job pull-data 5d1f0c2e-…")(pull)


async def push(
    client: Client, output: Output, job_id: job.JobId, volume: Volume = None, wait: Wait = True
) -> None:
    """Pushes the volumes of a running job now, or of an ended one again after a push that failed."""
    await _sync(client, output, job_id, {"direction": "push", "volume": volume}, wait)


async def pull(
    client: Client, output: Output, job_id: job.RunningJobId, volume: Volume = None, wait: Wait = True
) -> None:
    """Pulls what is new in the data stores into the volumes of a running job."""
    await _sync(client, output, job_id, {"direction": "pull", "volume": volume}, wait)


async def _sync(client: Client, output: Output, job_id: str, asked: dict[str, Any], wait: bool) -> None:
    word = asked["direction"]
    sync = await client.post(job.path(job_id, "datasync"), asked)
    look = f"jobyard job get {job_id} -o json shows, under dataSync, what became of it"
    if not wait:
        output.done(f"{word} of {job_id} ordered; {look}", sync)
        return
    try:
        sync = await _ended(client, job_id, sync)
    except asyncio.CancelledError:
        output.note(f"the {word} goes on; {look}")
        raise
    state, why = sync["status"]["state"], sync["status"]["info"]["message"]
    for each in sync["status"]["progress"]:
        output.note("; ".join(filter(None, (moved(each), each["info"]))))
    if state == "DONE":
        output.done(f"{word} of {job_id} done", sync)
        return
    output.done(f"{word} of {job_id} {'failed' if state == 'FAILED' else 'not done'}: {why}", sync)
    raise typer.Exit(exits.Exit.FAILED)


async def _ended(client: Client, job_id: str, sync: Any) -> Any:
    """The order as it ended, or as it was last seen when its job has none such any more."""
    while sync["status"]["state"] not in ("DONE", "FAILED"):
        found = (await client.get(job.path(job_id)))["status"]["dataSync"]
        now = next((each for each in found if each["id"] == sync["id"]), None)
        if now is None:
            sync["status"]["info"]["message"] = "the run ended before it began"
            return sync
        sync = now
        if sync["status"]["state"] not in ("DONE", "FAILED"):
            await asyncio.sleep(POLL_S)
    return sync
