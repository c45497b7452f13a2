"""`jobyard job …`: everything but `run`, which is in job_run.py."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.live import Live

from service.cli import complete, exits, watch
from service.cli.client import MOST_ROWS, PAGE_SIZE, Client, segment
from service.cli.command import command
from service.cli.moments import AsOf, as_of, time_of
from service.cli.output import Column, Output, ago, clock, reader_left, span, table
from service.cli.parse import duration_s, labels
from service.domain.states import State
from service.errors import Invalid

app = typer.Typer()


def _argument(completion: complete.Completion) -> Any:
    return typer.Argument(metavar="JOB", help="The job's id.", autocompletion=completion)


JobId = Annotated[str, _argument(complete.jobs)]
LiveJobId = Annotated[str, _argument(complete.live_jobs)]
RunningJobId = Annotated[str, _argument(complete.running_jobs)]
EndedJobId = Annotated[str, _argument(complete.ended_jobs)]

_COLUMNS = (
    Column("ID", whole=True),
    "NAME",
    Column("STATE", whole=True),
    Column("AGE", extra=True),
    Column("RAN", extra=True),
    Column("RESOURCES", extra=True),
    Column("IMAGE", extra=True),
)
#: An age is of now, and says nothing of then.
_COLUMNS_OF_THEN = tuple(
    Column("CREATED", extra=True) if isinstance(column, Column) and column.name == "AGE" else column
    for column in _COLUMNS
)
_REFRESH_S = 1.0


def path(job_id: str, *rest: str) -> str:
    """The API's path of a job."""
    return "/".join(("/job", segment(job_id), *rest))


@command(app, "list", aliases=["ls"], example="job list --watch -l team=a --job-state RUNNING")
async def list_jobs(
    client: Client,
    output: Output,
    states: Annotated[
        list[State] | None,
        typer.Option("--job-state", "--states", "-s", help="Only jobs in this state; repeat for more."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", "-l", help="Only jobs that match: a=b, a!=b, 'a in (b,c)', a, '!a'."),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Only jobs of this name.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Only jobs of this user.")] = None,
    updated_after: Annotated[
        str | None, typer.Option("--updated-after", help="Changed since this time (RFC 3339), or 10m ago.")
    ] = None,
    updated_before: Annotated[
        str | None, typer.Option("--updated-before", help="Not changed since this time.")
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", help="By this field, such as status.state or spec.name.")
    ] = "createdAt",
    ascending: Annotated[bool, typer.Option("--asc", help="The first in that order first.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many at most.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", hidden=True, help="All are listed anyway.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep the list up to date.")] = False,
    then: AsOf = None,
) -> None:
    """Lists the jobs of your project, the newest first."""
    if watch and then is not None:
        raise Invalid("--watch", "--as-of", "what was does not change any more: leave one of the two out")
    moment = as_of(then)
    selector = ",".join(label or []) or None
    order = "asc" if ascending else "desc"
    after, before = _seconds("--updated-after", updated_after), _seconds("--updated-before", updated_before)

    async def read() -> list[Any]:
        wanted = [str(each) for each in states or []] or None
        return await client.pages(
            "/job",
            size=PAGE_SIZE if moment is None else MOST_ROWS,
            limit=limit,
            order=order,
            sort=sort,
            statusState=wanted,
            labelSelector=selector,
            name=name,
            userName=user,
            updatedAfter=after,
            updatedBefore=before,
            asOf=moment,
        )

    if watch and output.format is None:
        await _watch(read, output)
        return
    jobs = await read()
    if moment is None:
        output.items(jobs, _COLUMNS, map(_row, jobs))
    else:
        output.items(jobs, _COLUMNS_OF_THEN, [_row(job, clock(job["createdAt"])) for job in jobs])


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
        "exit code": status.get("exitCode"),
        "image": spec["image"],
        "digest": status.get("imageDigest"),
        "command": " ".join(spec.get("command") or []).replace("\n", "\\n"),
        "resources": _resources(spec),
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


async def _watch(read: Any, output: Output) -> None:
    """Redraws the list on a terminal; elsewhere prints a line for each change of state."""
    if output.out.is_terminal:
        with Live(console=output.out, auto_refresh=False, screen=False) as live:
            while True:
                live.update(table(_COLUMNS, map(_row, await read()), output.out.width), refresh=True)
                await asyncio.sleep(_REFRESH_S)
    known: dict[str, str] = {}
    while True:
        for job in reversed(await read()):
            if known.get(job["id"]) != job["status"]["state"]:
                known[job["id"]] = job["status"]["state"]
                print("  ".join(map(str, _row(job))), flush=True)
        if reader_left(sys.stdout):
            raise BrokenPipeError  # there may be nothing to write for long, which would find it out
        await asyncio.sleep(_REFRESH_S)


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


def _row(job: Any, when: str | None = None) -> tuple[Any, ...]:
    """`when` it was made, in words; None: how long ago."""
    spec, status = job["spec"], job["status"]
    return (
        job["id"],
        spec.get("name"),
        status["state"],
        ago(job["createdAt"]) if when is None else when,
        span(status.get("duration") or 0),
        _resources(spec),
        spec["image"],
    )


def _resources(spec: Any) -> str:
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


def _seconds(option: str, text: str | None) -> int | None:
    """A time as whole seconds since 1970."""
    return None if text is None else int(datetime.fromisoformat(time_of(option, text)).timestamp())
