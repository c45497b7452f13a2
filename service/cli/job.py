"""`jobyard job …`: what is done with one job that is there; see `main` for where the others are."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from service.cli import complete, exits, watch
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.moments import AsOf, as_of, time_of
from service.cli.output import Output, clock, span
from service.cli.parse import duration_s, labels
from service.errors import Invalid

app = typer.Typer()


def _argument(completion: complete.Completion) -> Any:
    return typer.Argument(metavar="JOB", help="The job's id.", autocompletion=completion)


JobId = Annotated[str, _argument(complete.jobs)]
LiveJobId = Annotated[str, _argument(complete.live_jobs)]
RunningJobId = Annotated[str, _argument(complete.running_jobs)]
EndedJobId = Annotated[str, _argument(complete.ended_jobs)]


def path(job_id: str, *rest: str) -> str:
    """The API's path of a job."""
    return "/".join(("/job", segment(job_id), *rest))


@command(app, "get", example="job get 5d1f0c2e-… -o yaml")
async def get(client: Client, output: Output, job_id: JobId, then: AsOf = None) -> None:
    """Shows one job, as it is or as it was."""
    job = await client.get(path(job_id), asOf=as_of(then))
    output.item(job, shown(job))


@command(app, "wait", example="job wait 5d1f0c2e-… && echo it went well")
async def wait(client: Client, output: Output, job_id: JobId) -> None:
    """Waits until the job has ended; the exit status tells how (see `jobyard --help`)."""
    job = await _to_the_end(client, output, job_id, with_log=False)
    output.done(job["status"]["state"], job)
    raise typer.Exit(exits.of_state(job["status"]["state"]))


@command(app, "logs", aliases=["log"], example="job logs --follow 5d1f0c2e-…")
async def logs(
    client: Client,
    output: Output,
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", min=0, help="Only the last lines.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only after this time (RFC 3339), or so long ago (10m).")
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="A time before every line.")] = False,
    run: Annotated[int | None, typer.Option("--run", min=1, help="An earlier run of the job.")] = None,
) -> None:
    """Prints what the job wrote. Followed, it goes on where it was when the connection breaks off or the
    service restarts; with --tail it ends there."""
    params: dict[str, Any] = {
        "tail": tail,
        "since": None if since is None else time_of("--since", since),
        "run": run,
    }
    params |= {"timestamps": "true" if timestamps else None}
    if follow:
        await watch.follow_log(client, path(job_id), sys.stdout.buffer, output.note, params)
        return
    async with client.stream(path(job_id, "log"), **params) as chunks:
        async for chunk in chunks:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


@command(app, "stop", aliases=["kill"], example="job stop 5d1f0c2e-…")
async def stop(client: Client, output: Output, job_id: LiveJobId) -> None:
    """Interrupts the job: its process is told to end, then its volumes are pushed."""
    await client.put(path(job_id, "kill"))
    await _done(client, output, job_id, f"interrupting {job_id}")


@command(app, "start", example="job start 5d1f0c2e-… --watch")
async def start(
    client: Client,
    output: Output,
    job_id: EndedJobId,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")] = False,
    discard_volumes: Annotated[
        bool, typer.Option("--discard-volumes", help="Give up what the last run could not push.")
    ] = False,
) -> None:
    """Starts an ended job again, as a new run."""
    before = await client.get(path(job_id))
    await client.put(path(job_id, "start"), discardVolumes="true" if discard_volumes else None)
    if not watch:
        await _done(client, output, job_id, f"queued {job_id}")
    else:
        output.done(f"queued {job_id}")
        seen = before["status"]["history"][-1]
        job = await _to_the_end(client, output, job_id, with_log=True, seen=seen)
        if output.format is not None:
            output.item(job)
        raise typer.Exit(exits.of_state(job["status"]["state"]))


@command(app, "delete", aliases=["rm"], example="job delete --force 5d1f0c2e-…")
async def delete(
    client: Client,
    output: Output,
    job_id: JobId,
    force: Annotated[
        bool, typer.Option("--force", help="Also one that runs or pushes: that is stopped.")
    ] = False,
) -> None:
    """Deletes an ended job. Its bill and its events stay."""
    await client.delete(path(job_id), force="true" if force else None)
    output.deleted(job_id)


@command(app, "edit", aliases=["update"], example="job edit 5d1f0c2e-… --timeout 2h")
async def edit(
    client: Client,
    output: Output,
    job_id: JobId,
    timeout: Annotated[
        str | None, typer.Option("--timeout", "-t", help="Counted from the run's start: 90s, 10m, 2h, 1d.")
    ] = None,
    restart: Annotated[
        bool | None, typer.Option("--timeout-auto-restart/--no-timeout-auto-restart", help="At the timeout.")
    ] = None,
) -> None:
    """Changes the timeout of a job, also while it runs."""
    seconds = None if timeout is None else duration_s("--timeout", timeout)
    await client.put(path(job_id), {"timeout": seconds, "timeoutAutoRestart": restart})
    await _done(client, output, job_id, f"edited {job_id}")


@command(app, "label", aliases=["set-label"], example="job label 5d1f0c2e-… stage=prod team-")
async def label(
    client: Client,
    output: Output,
    job_id: JobId,
    changes: Annotated[list[str], typer.Argument(metavar="NAME=VALUE|NAME-", help="NAME- takes it away.")],
) -> None:
    """Sets labels of a job, or takes them away."""
    edits = [_label_edit(change) for change in changes]
    for each in edits:
        await client.put(path(job_id, "label"), each)
    await _done(client, output, job_id, f"labelled {job_id}")


def _label_edit(text: str) -> dict[str, str | None]:
    if "=" in text:
        ((name, value),) = labels([text]).items()
        return {"name": name, "value": value}
    if text.endswith("-"):
        return {"name": text[:-1], "value": None}
    raise Invalid("NAME=VALUE", text, "NAME=VALUE sets a label, NAME- takes it away")


async def _done(client: Client, output: Output, job_id: str, text: str) -> None:
    """What was done with a job: in words, or the job as it is then."""
    output.done(text, None if output.format is None else await client.get(path(job_id)))


def shown(job: Any) -> dict[str, Any]:
    """A job for people, the most telling first."""
    spec, status = job["spec"], job["status"]
    return {
        "id": job["id"],
        "name": spec.get("name"),
        "state": status["state"],
        "info": status.get("info", {}).get("message"),
        "exit code": _exit_code(status),
        "image": spec["image"],
        "digest": status.get("imageDigest"),
        "command": " ".join(spec.get("command") or []).replace("\n", "\\n"),
        "resources": resources(spec),
        "volumes": "  ".join(map(_volume, spec.get("volumes") or [])),
        "labels": "  ".join(f"{name}={value}" for name, value in (spec.get("labels") or {}).items()),
        "user": job.get("user"),
        "url": status.get("url"),
        "ssh": status.get("sshUrl"),
        "created": clock(job.get("createdAt")),
        "started": clock(status.get("startedAt")),
        "ran": span(status.get("duration") or 0) if status.get("startedAt") else None,
        "history": " > ".join(visit["state"] for visit in status.get("history", [])),
        "secrets": f"erased {clock(status['erasedAt'])}" if status.get("erasedAt") else None,
    }


def _exit_code(status: Any) -> Any:
    """The process's own, or whose it is."""
    code = status.get("exitCode")
    if code is None or status.get("info", {}).get("code") != "unknown-outcome":
        return code
    return f"{code}, as the engine says, which missed how the process ended"


async def _to_the_end(
    client: Client, output: Output, job_id: str, *, with_log: bool, seen: Any = None
) -> Any:
    # With -o the answer alone belongs on stdout.
    screen = watch.Screen(output.err, None if output.format is None else output.err_bytes())
    try:
        return await watch.follow(client, job_id, screen, with_log=with_log, seen=seen)
    except (asyncio.CancelledError, BrokenPipeError):
        output.note(watch.goes_on(job_id))
        raise


def resources(spec: Any) -> str:
    """What a job asked for, in a few words."""
    found = spec.get("resources") or {}
    count = f"{found['gpu']} GPU" if found.get("gpu") else f"{found.get('cpu', 0)} CPU"
    return f"{count} ({found['flavor']})" if found.get("flavor") else count


def _volume(volume: Any) -> str:
    store = volume.get("dataStore")
    source = volume.get("userVolumeId") or "standalone"
    for kind in ("publicGit", "publicSwift"):
        if volume.get(kind):
            source = volume[kind]["url"]
    if store:
        source = f"{store['container']}@{store['alias']}/{store.get('archive') or store.get('prefix') or ''}"
    return f"{source}:{volume['mountPath']}:{volume.get('permission', 'RO').lower()}"
