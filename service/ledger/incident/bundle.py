"""The file: a job's events with what they were decided on, in one document in which every changed byte shows.

    {"bundle": {...}, "digest": "<SHA-256 of the bundle's bytes>", "format": "jobyard-incident", "version": 1}

Secrets in it are ciphertext, and the keys are not in it. The hashes are those of the ledger's own chain:
whoever has an export or a checkpoint of the ledger can tell that these events are its.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from service.domain.events import BODIES, Event, JobSubmitted, decode_body
from service.domain.quota import Quota
from service.errors import Unreadable
from service.ledger.chain import Sealing, link

FORMAT = "jobyard-incident"
VERSION = 1


class Part(msgspec.Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """Base of what the file holds."""


class Entry(Part, frozen=True):
    """One event as the ledger has it. `hash` covers it and `previous`, that of the one before; both hex."""

    previous: str
    hash: str
    event: Sealing


class QuotaAt(Part, frozen=True):
    """The project's quota, and what of it was in use, right before the event at `position` was decided."""

    position: int
    quota: Quota


class BudgetAt(Part, frozen=True):
    """What the project had spent of its budget of the month right before the event at `position`."""

    position: int
    spent: Decimal
    amount: Decimal
    currency: str


class RoomAt(Part, frozen=True):
    """What other runs held of the engine's node right before the placement at `position`. Memory is bytes.

    Told of the job's last placements (`gather.MOST_ROOMS`).
    """

    position: int
    engine: str
    cpus: int
    memory: int
    gpus: int


class Head(Part, frozen=True):
    """Where the ledger ended when the file was made."""

    ledger_id: UUID
    epoch: int
    position: int
    hash: str


class Versions(Part, frozen=True):
    """What ran. `docker` is that of the engine, where it could be asked; `schema` the newest migration."""

    jobyard: str
    python: str
    postgres: str
    docker: str | None
    schema: int
    packages: dict[str, str]


class Log(Part, frozen=True):
    """The end of what a run printed, when it was asked for: these are a user's data."""

    run: int
    lines: int
    text: str


class Bundle(Part, frozen=True):
    """`events` are the job's, and those of its project, of the prices and of its supervisors that count."""

    job: UUID
    project: str
    made_at: datetime
    head: Head
    events: tuple[Entry, ...]
    quota: tuple[QuotaAt, ...]
    room: tuple[RoomAt, ...]
    settings: dict[str, Any]
    versions: Versions
    budget: tuple[BudgetAt, ...] = ()
    log: Log | None = None


class IncidentFile(Part, frozen=True):
    """What is on the disk. `bundle` is a `Bundle`, kept as it is for its digest."""

    format: str
    version: int
    digest: str
    bundle: msgspec.Raw


class _Envelope(msgspec.Struct, frozen=True):
    """The least that every version has."""

    format: str
    version: int


#: How msgspec says that something is not what it must be; the last of it when it is nested without end.
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_encoder = msgspec.json.Encoder(order="sorted")


def write(bundle: Bundle) -> bytes:
    """The file's bytes."""
    raw = _encoder.encode(bundle)
    return _encoded(
        IncidentFile(format=FORMAT, version=VERSION, digest=_digest(raw), bundle=msgspec.Raw(raw))
    )


def _encoded(file: IncidentFile) -> bytes:
    return _encoder.encode(file) + b"\n"


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def read(content: bytes) -> Bundle:
    """The bundle in a file, if it is whole and unchanged. Raises `Unreadable`, which says what is wrong."""
    try:
        envelope = msgspec.json.decode(content, type=_Envelope)
    except _BROKEN as error:
        raise Unreadable(f"it is no incident bundle, or not a whole one: {error}") from None
    if envelope.format != FORMAT:
        raise Unreadable(f"it is no incident bundle: its format is {envelope.format!r}")
    if envelope.version != VERSION:
        raise Unreadable(
            f"it has version {envelope.version} of the format; this version of Jobyard reads {VERSION}"
        )
    try:
        file = msgspec.json.decode(content, type=IncidentFile)
        unchanged = _encoded(file) == content and _digest(bytes(file.bundle)) == file.digest
    except _BROKEN as error:
        raise Unreadable(f"the file was changed: {error}") from None
    if not unchanged:
        raise Unreadable("the file was changed: its digest does not match")
    try:
        bundle = msgspec.json.decode(file.bundle, type=Bundle)
    except _BROKEN as error:
        raise Unreadable(f"it cannot be read: {error}") from None
    _check(bundle)
    return bundle


def _check(bundle: Bundle) -> None:
    """Whether the events are some that can be folded, each with the hash that it must have."""
    at, previous = 0, ""
    for entry in bundle.events:
        position = entry.event.position
        if position <= at:
            raise Unreadable(f"event {position} stands after event {at}")
        if entry.event.type not in BODIES:
            made = bundle.versions.jobyard
            raise Unreadable(
                f"event {position} is of the type {entry.event.type}, which this version does not know; "
                f"the file was made by Jobyard {made}"
            )
        if position == at + 1 and at and entry.previous != previous:
            raise Unreadable(f"event {position} does not follow event {at}: its previous hash is another")
        if link(_bytes(entry.previous), entry.event).hex() != entry.hash:
            raise Unreadable(f"event {position} ({entry.event.type}) does not match its hash")
        at, previous = position, entry.hash
    mine = [entry.event for entry in bundle.events if entry.event.job is not None]
    if not mine or mine[0].type != JobSubmitted.__name__ or {event.job for event in mine} != {bundle.job}:
        raise Unreadable(f"its events do not begin with the submission of job {bundle.job}")


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Unreadable(f"{text[:80]!r} is no hash") from None


def events_of(entries: Sequence[Entry]) -> list[Event]:
    """The entries as events. Raises `Unreadable` for a body that does not read as its type."""
    return [_event(entry.event) for entry in entries]


def _event(of: Sealing) -> Event:
    try:
        body = decode_body(of.type, bytes(of.data))
    except _BROKEN as error:
        raise Unreadable(f"event {of.position} ({of.type}) cannot be read: {error}") from None
    return Event(
        position=of.position,
        project=of.project,
        job=of.job,
        run=of.run,
        body=body,
        occurred_at=of.occurred_at,
        recorded_at=of.recorded_at,
        actor=of.actor,
        command_id=of.command_id,
        request_id=of.request_id,
        client_address=None if isinstance(of.client_address, msgspec.UnsetType) else of.client_address,
    )
