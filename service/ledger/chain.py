"""The hash chain: what each event's hash covers, and how a record becomes an event again.

hash(n) = SHA-256(hash(n-1) + canonical JSON of the event), with 32 zero bytes before the first event. The
canonical JSON is RFC 8785: sorted keys, no white space, and our data holds no floats (tests/properties).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

from service.domain.events import Event, decode_body

GENESIS = bytes(32)
#: How msgspec says that something is not what it must be; the last of it when it is nested without end.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Sealing(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """Everything of an event that its hash covers. `data` is the body's JSON, to the byte."""

    position: int
    project: str | None
    job: UUID | None
    run: int | None
    type: str
    data: msgspec.Raw
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    command_id: UUID
    request_id: str | None
    #: Left out where it is not known, as it is of all events from before it was kept.
    client_address: str | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder(order="sorted")


def canonical(event: Sealing) -> bytes:
    """The bytes that the hash covers beside the hash before."""
    return _encoder.encode(event)


def link(previous: bytes, event: Sealing) -> bytes:
    """The hash of an event that follows the one whose hash is `previous`."""
    return hashlib.sha256(previous + canonical(event)).digest()


def sealing_of(record: Any) -> Sealing:
    """What the hash of a row of `events` covers. Times are UTC, however the session shows them."""
    return Sealing(
        position=record["position"],
        project=record["project"],
        job=uuid_of(record["job"]),
        run=record["run"],
        type=record["type"],
        data=msgspec.Raw(record["data"].encode()),
        occurred_at=_utc(record["occurred_at"]),
        recorded_at=_utc(record["recorded_at"]),
        actor=record["actor"],
        command_id=uuid_of(record["command_id"]),
        request_id=record["request_id"],
        client_address=msgspec.UNSET if record["client_address"] is None else record["client_address"],
    )


def event_of(record: Any) -> Event:
    """A row of `events` as an event."""
    return Event(
        position=record["position"],
        project=record["project"],
        job=uuid_of(record["job"]),
        run=record["run"],
        body=decode_body(record["type"], record["data"]),
        occurred_at=_utc(record["occurred_at"]),
        recorded_at=_utc(record["recorded_at"]),
        actor=record["actor"],
        command_id=uuid_of(record["command_id"]),
        request_id=record["request_id"],
        client_address=record["client_address"],
    )


def events_from(records: Iterable[Any]) -> list[Event]:
    """Rows of `events` as events: `event_of` for many, whose columns stand in the order of `read_after`.

    They are taken by their places, which costs less than by their names.
    """
    return [
        Event(
            position=position,
            project=project,
            job=None if job is None else _known(job),
            run=run,
            body=decode_body(kind, data),
            occurred_at=occurred_at if occurred_at.tzinfo is UTC else _utc(occurred_at),
            recorded_at=recorded_at if recorded_at.tzinfo is UTC else _utc(recorded_at),
            actor=actor,
            command_id=uuid_of(command_id),
            request_id=request_id,
            client_address=client_address,
        )
        for (
            position,
            project,
            job,
            run,
            kind,
            data,
            occurred_at,
            recorded_at,
            actor,
            command_id,
            request_id,
            _,
            client_address,
        ) in records
    ]


def uuid_of(value: Any) -> Any:
    """asyncpg gives its own subclass of UUID, which the encoder does not know."""
    return None if value is None else msgspec.convert(value.bytes, UUID)


#: A job has many events, and those of one read are often near each other.
_known = lru_cache(maxsize=4096)(uuid_of)


def _utc(at: datetime) -> datetime:
    """As asyncpg gives it almost always."""
    return at if at.tzinfo is UTC else at.astimezone(UTC)
