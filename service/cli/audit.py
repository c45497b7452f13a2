"""`jobyard audit …`: who did what, and what proves it. To verify takes neither the service nor its word."""

from __future__ import annotations

import json
import os.path
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import msgspec
import typer
from rich.text import Text

from service.audit import exported, proofs, reading
from service.audit.evidence import Evidence
from service.audit.exported import ExportCorrupt
from service.audit.log import Log
from service.cli import audit_log, complete, exits, words
from service.cli.client import Client, segment
from service.cli.command import DatabaseLater, command
from service.cli.guard import local_files
from service.cli.moments import moment_of
from service.cli.output import Format, Output
from service.cli.private import private_file
from service.domain.checkpoint import PublicKey, origin_of, read_key, read_note
from service.errors import Invalid, LedgerCorrupt, Unreadable
from service.ledger import read
from service.ledger import verify as chain

app = typer.Typer()

#: So long it is waited for a checkpoint whose tiles are there already.
SETTLE_S = 3.0

Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="Who must have signed: what `audit key` prints, or a file."),
]


@app.callback()
def _audit() -> None:
    """The audit trail: who did what, and the proof that no event was changed."""


audit_log.register(app)


@command(app, "key", example="audit key")
async def key(client: Client, output: Output) -> None:
    """Prints the public key of those who sign checkpoints. Keep it where the service cannot change it."""
    found = await client.get("/audit/key")
    output.done(found["key"], found)


@command(app, "verify", example="audit verify --against .jobyard/checkpoints --key jobyard.key")
async def verify(
    database: DatabaseLater,
    output: Output,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="PLACE", help="Checkpoints: a folder, s3://BUCKET/PREFIX, or one of them."
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="EXPORT", help="An exported file, without a database.")
    ] = None,
    key: Key = None,
) -> None:
    """Recomputes the hash chain over every event. Exit status 1 names the first that does not hold."""
    signer = _key(key)
    if against is not None and signer is None:
        raise Invalid(
            "--key",
            None,
            "name the file of the key that must have signed: --against says only where the checkpoints are",
        )
    with local_files():
        if file is not None:
            await _verify_file(output, file, against, signer)
            return
        async with database.opened() as opened:
            await _verify_ledger(output, opened.connection, against, signer)


async def _verify_ledger(output: Output, connection: Any, against: str | None, key: PublicKey | None) -> None:
    ledger_id, known = (await read.head(connection)).ledger_id, await reading.newest_size(connection)
    async with _evidence(against, key, ledger_id, known) as evidence:
        problems = evidence.problems if evidence else []
        try:
            found = await chain.verify(connection, evidence)
        except LedgerCorrupt as error:
            _corrupt(output, error, problems)
    value: dict[str, Any] = {
        "verified": not problems,
        "ledger": str(ledger_id),
        "events": found.events,
        "hash": found.hash.hex(),
    }
    said = [f"verified: {found.events} events, the last hash is {found.hash.hex()}"]
    if evidence is not None:
        value |= {"checkpoints": len(evidence.checkpoints), "signed": evidence.covered, "problems": problems}
        said = [said[0], *_signed(evidence, found.events)]
    if problems:
        _problems(output, "the events hold, but what they are verified against does not", value)
    output.done("\n".join(said), value)


def _signed(evidence: Evidence, events: int) -> list[str]:
    count = len(evidence.checkpoints)
    if not count:
        return []
    newest = evidence.checkpoints[-1]
    rest = events - newest.size
    later = f"; the {rest} events after it are under the chain alone" if rest else ""
    checkpoints = "1 checkpoint holds" if count == 1 else f"{count} checkpoints hold"
    return [f"{checkpoints}, the newest of {newest.at:%Y-%m-%d %H:%M:%S} UTC is of size {newest.size}{later}"]


async def _verify_file(output: Output, file: Path, against: str | None, key: PublicKey | None) -> None:
    ledger_id = exported.ledger_of(file) if against is not None else None
    async with _evidence(against, key, ledger_id, 0) as evidence:
        problems = evidence.problems if evidence else []
        try:
            found = await exported.check(file, key, evidence)
        except LedgerCorrupt as error:
            _corrupt(output, error, problems)
    value: dict[str, Any] = {
        "verified": not problems,
        "events": found.events,
        "first": found.first,
        "last": found.last,
        "whole": found.header.kind == "whole",
        "checkpoint": found.checkpoint.size,
        "signature": key is not None,
        "problems": problems,
    }
    if evidence is not None:
        value["compared"] = min(found.compared, found.last)
    if problems:
        _problems(output, "the file holds, but what it is verified against does not", value)
    whole = found.header.kind == "whole"
    which = f"all from {found.header.after + 1} to {found.header.upto}" if whole else "a part of the ledger"
    signed = f"the checkpoint of size {found.checkpoint.size}, of {found.checkpoint.at:%Y-%m-%d %H:%M:%S} UTC"
    known = "whose signature holds" if key is not None else "whose signature was not looked at: give --key"
    later = evidence is not None and found.compared < found.last
    alone = f"; those after event {found.compared} are under the file's own checkpoint alone" if later else ""
    output.done(f"verified: {found.events} events, {which}, under {signed}, {known}{alone}", value)


def _corrupt(output: Output, error: LedgerCorrupt, problems: list[str]) -> NoReturn:
    value: dict[str, Any] = {
        "verified": False,
        "firstBadEvent": error.position,
        "message": error.message,
    }
    if isinstance(error, ExportCorrupt):
        value |= {"line": error.line, "firstBadEvent": error.position or None}
    if problems:
        value["problems"] = problems
    _problems(output, error.message, value)


def _problems(output: Output, message: str, value: dict[str, Any]) -> NoReturn:
    output.done("\n".join([f"CORRUPT: {message}", *value.get("problems", ())]), value)
    raise typer.Exit(exits.Exit.FAILED)


@asynccontextmanager
async def _evidence(
    place: str | None, key: PublicKey | None, ledger_id: UUID | None, known: int
) -> AsyncIterator[Evidence | None]:
    """What lies at a place, or one checkpoint in a file; None where nothing is to be verified against."""
    if place is None or key is None or ledger_id is None:
        yield None
        return
    if key.name != origin_of(ledger_id):
        yield Evidence.of_another(key, ledger_id)
        return
    if (note := _note(place)) is not None:
        yield Evidence.of_note(note, key)
        return
    # The client for S3 takes a third of what the command takes to start: only who needs it waits for it.
    from service.audit.bucket import open_place

    keys = words.kept_in("JOBYARD_CHECKPOINT_S3") or words.kept_in("JOBYARD_S3") or ""
    opened = open_place(place, keys, "--against")
    try:
        if await opened.folders() is None:  # mistyped, mostly; it tells nothing of the ledger
            allowed = "there is no such folder, file or bucket; name where the checkpoints are"
            raise Invalid("--against", place, allowed)
        log = await Log.found(opened, ledger_id)
        yield await Evidence.gathered(log, key, known, settle_s=SETTLE_S)
    finally:
        await opened.close()


def _note(place: str) -> str | None:
    """The text of a file; None for what is no file, but a place."""
    if place.startswith("s3://") or not Path(place).is_file():
        return None
    return Path(place).read_text(errors="replace")


def _key(text: str | None) -> PublicKey | None:
    """From the option: the key itself, or the name of a file that holds it."""
    if text is None:
        return None
    try:
        return read_key(text)
    except Invalid as error:
        if not os.path.isfile(text):  # noqa: PTH113 (a Path raises for a text that is too long to be one's name)
            raise Invalid("--key", text, error.allowed) from error
    held = Path(text).read_text(errors="replace")
    try:
        return read_key(held)
    except Invalid as error:
        raise Invalid("--key", held, error.allowed) from error


@command(app, "export", example="audit export --job JOB trail.jsonl")
async def export(
    client: Client,
    output: Output,
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    job: Annotated[
        str | None, typer.Option("--job", "-j", help="Only of this job.", autocompletion=complete.jobs)
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="From this time or position on.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Up to this time or position.")] = None,
    project: Annotated[str | None, typer.Option("--project", help="Another one than your own.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Of all projects, and of none.")] = False,
) -> None:
    """Writes events with their proofs, as far as the newest checkpoint goes. Secrets in it are sealed."""
    params = {
        "job": job,
        "from": None if since is None else moment_of("--from", since),
        "to": None if until is None else moment_of("--to", until),
        "project": project,
    }
    with local_files():
        _require_file("FILE", file)
        last = b""
        with private_file(file) as into:
            async with client.stream(
                "/audit/export", **params, projects="all" if everything else None
            ) as chunks:
                async for chunk in chunks:
                    into.write(chunk)
                    last = (last + chunk)[-1024:]
            try:  # while the file of before is there: only an export takes its place
                counted = msgspec.json.decode(last.rstrip(b"\n").rpartition(b"\n")[2], type=_Counted)
            except msgspec.MsgspecError:
                raise client.another() from None
    value = {"file": str(file), "events": counted.events, "first": counted.first, "last": counted.last}
    of = f", {counted.first} to {counted.last}" if counted.events else ""
    output.done(f"exported {counted.events} events{of}, to {file}", value)


class _Counted(msgspec.Struct, frozen=True):
    """What is said here of an export's last line. Another version's may say more."""

    events: int
    first: int
    last: int
    sha256: str


def _require_file(name: str, file: Path) -> None:
    if file.exists() and not file.is_file():  # what is no file must not be replaced by one
        raise Invalid(name, str(file), "it is no file; name one that is to be written")


@command(app, "prove", example="audit prove 17 -o proof.json")
async def prove(
    client: Client,
    position: Annotated[int, typer.Argument(metavar="POSITION")],
    file: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where the proof goes [stdout].")
    ] = None,
    format: Annotated[
        Format | None, typer.Option("--format", help="Print this format, and nothing else.")
    ] = None,
) -> None:
    """Writes a proof that one event is in the ledger, which others can check."""
    found = await client.get(f"/audit/proof/{segment(str(position))}")
    output = Output(format)
    text = json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    if file is not None:
        _require_file("--output", file)
        with local_files(), private_file(file) as into:
            into.write(text.encode())
    if format is not None:
        output.item(found)
    elif file is None:
        output.out.print(Text(text.rstrip("\n")))
    else:
        size = read_note(found["checkpoint"]).checkpoint.size
        output.done(f"event {position} is proved by {file}, under the checkpoint of size {size}")


@command(app, "check", example="audit check proof.json --key jobyard.key")
async def check(
    output: Output,
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    key: Annotated[str, typer.Option("--key", metavar="KEY", help="As `audit key` prints it, or a file.")],
) -> None:
    """Checks a proof, with the key alone. Exit status 1 when it does not hold."""
    signer = _key(key)
    assert signer is not None  # noqa: S101 (the option is required)
    with local_files():
        data = file.read_bytes()
    try:
        found = proofs.check(data, signer)
    except LedgerCorrupt as error:
        output.done(f"NOT PROVED: {error.message}", {"proved": False, "message": error.message})
        raise typer.Exit(exits.Exit.FAILED) from None
    except Unreadable as error:
        raise Unreadable(f"{file}: {error.message}") from None
    event, checkpoint = found.event, found.checkpoint
    value = {"proved": True, "event": event, "checkpoint": checkpoint.size, "origin": checkpoint.origin}
    output.done(
        f"proved: event {event['position']} ({event['type']}, by {event['actor']}, recorded at "
        f"{event['recordedAt']}) is in {checkpoint.origin}, under the checkpoint of size {checkpoint.size}",
        value,
    )
