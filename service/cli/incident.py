"""`jobyard incident …`: the history of a job in a file, and its decisions anew, without any service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from service.cli import complete, exits, job
from service.cli.client import Client
from service.cli.command import command
from service.cli.output import Output
from service.cli.private import private_file
from service.domain.events import Event, Move
from service.errors import Unreadable
from service.ledger.incident import bundle as bundles
from service.ledger.incident.bundle import Bundle
from service.ledger.incident.replay import Difference, Step, replay

app = typer.Typer()

File = Annotated[Path, typer.Argument(metavar="FILE", help="An incident bundle.", show_default=False)]
_MOST_BYTES = 1 << 30


@command(app, "export", example="incident export --job 5d1f0c2e-… -f incident.json")
async def export(
    client: Client,
    output: Output,
    job_id: Annotated[
        str, typer.Option("--job", metavar="JOB", help="The job's id.", autocompletion=complete.jobs)
    ],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Where to; incident-JOB.json here.")
    ] = None,
    logs: Annotated[int, typer.Option("--logs", min=0, help="So many last lines of its log, too.")] = 0,
) -> None:
    """Writes a job's history, and what it was decided on, into a file. Secrets are ciphertext in it."""
    into = Path(f"incident-{job_id}.json") if file is None else file
    path = job.path(job_id, "incident")
    async with client.stream(path, logs=logs or None) as chunks:
        content = b"".join([chunk async for chunk in chunks])
    made = bundles.read(content)  # what was cut off on the way is no bundle
    _write(into, content)
    events = [entry.event.position for entry in made.events]
    value = {
        "file": str(into),
        "job": job_id,
        "events": len(events),
        "upto": events[-1],
        "bytes": len(content),
    }
    output.done(f"{into}: {len(events)} events, up to position {events[-1]}", value)


@command(app, "replay", example="incident replay incident.json")
async def replay_file(output: Output, file: File) -> None:
    """Decides anew all that is in a bundle, by itself. Exit status 1 when anything is decided otherwise."""
    made = _read(file)
    steps = replay(made)
    differences = [each for step in steps for each in step.differences]
    events = sum(len(step.events) for step in steps)
    value = {
        "job": str(made.job),
        "commands": len(steps),
        "events": events,
        "equal": not differences,
        "differences": [each._asdict() for each in differences],
    }
    if output.format is not None:
        output.item(value)
    elif differences:
        columns = ("POSITION", "EVENT", "FIELD", "RECORDED", "DECIDED NOW")
        output.items(value, columns, differences)
    if differences:
        output.note(f"{len(differences)} differences in {events} events")
        raise typer.Exit(exits.Exit.FAILED)
    if output.format is None:
        said = f"{len(steps)} commands led to the {events} events that were recorded, and to nothing else"
        output.done(f"replayed: {said}")


@command(app, "show", example="incident show incident.json")
async def show(output: Output, file: File) -> None:
    """Shows a bundle: the job's history in order, who caused what, and whether it is decided so today."""
    made = _read(file)
    steps = replay(made)
    if output.format is not None:
        output.item(_shown(made, steps))
        return
    head, versions = made.head, made.versions
    output.item(
        {
            "job": made.job,
            "project": made.project,
            "ledger": f"{head.ledger_id} at position {head.position}, {head.hash}",
            "made": made.made_at.isoformat(timespec="seconds"),
            "versions": f"Jobyard {versions.jobyard}, Python {versions.python}, Postgres {versions.postgres}"
            + (f", Docker {versions.docker}" if versions.docker else ""),
        }
    )
    columns = ("POSITION", "TIME", "EVENT", "WHAT", "BY", "DECIDED")
    output.items(None, columns, [_row(event, step) for step in steps for event in step.events])
    if made.log is not None:
        output.done(f"the last {made.log.lines} lines of run {made.log.run}:\n{_printable(made.log.text)}")


def _shown(made: Bundle, steps: list[Step]) -> dict[str, Any]:
    """For programs: the whole file but for the hashes, and what deciding anew came to."""
    decided = {event.position: not step.differences for step in steps for event in step.events}
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    events = [entry["event"] for entry in found.pop("events")]
    found["events"] = [each | {"decidedSo": decided[each["position"]]} for each in events]
    return found


def _row(event: Event, step: Step) -> tuple[Any, ...]:
    mine: list[Difference] = [each for each in step.differences if each.position == event.position]
    verdict = "so" if not mine else "otherwise: " + ", ".join(each.field for each in mine)
    at = event.occurred_at.isoformat(sep=" ", timespec="milliseconds")[:23]
    return event.position, at, event.type, _what(event), event.actor, verdict


def _what(event: Event) -> str:
    """A few words: the move, and why."""
    body = event.body
    info = getattr(body, "info", None)
    words = [f"{body.source or 'new'} > {body.target}"] if isinstance(body, Move) else []
    if info is not None and info.code.upper() not in " ".join(words):
        words.append(info.code)
    return ", ".join(words)


def _printable(text: str) -> str:
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def _read(file: Path) -> Bundle:
    """Raises `Unreadable`, which names the file."""
    try:
        with file.open("rb") as source:
            content = source.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise Unreadable(f"it has more than {_MOST_BYTES} bytes")
        return bundles.read(content)
    except OSError as error:
        raise Unreadable(f"{file}: it cannot be read: {error.strerror}") from None
    except Unreadable as error:
        raise Unreadable(f"{file}: {error.message}") from None


def _write(into: Path, content: bytes) -> None:
    """The whole file or none. Raises `Unreadable`, which names it."""
    try:
        with private_file(into) as file:
            file.write(content)
    except OSError as error:
        raise Unreadable(f"{into}: it cannot be written: {error.strerror}") from None
