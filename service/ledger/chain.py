"""The hash chain: what each event's hash covers, and how a record becomes an event again.

hash(n) = SHA-256(hash(n-1) + canonical JSON of the event), with 32 zero bytes before the first event. The
canonical JSON is RFC 8785: sorted keys, no white space, and our data holds no floats (tests/properties).
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from service.domain.events import Event, decode_body

GENESIS = bytes(32)


class Sealing(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
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


_encoder = msgspec.json.Encoder(order="sorted")


def link(previous: bytes, event: Sealing) -> bytes:
    """The hash of an event that follows the one whose hash is `previous`."""
    return hashlib.sha256(previous + _encoder.encode(event)).digest()


def sealing_of(record: Any) -> Sealing:
    """What the hash of a row of `events` covers. Times are UTC, however the session shows them."""
    return Sealing(
        position=record["position"],
        project=record["project"],
        job=_uuid(record["job"]),
        run=record["run"],
        type=record["type"],
        data=msgspec.Raw(record["data"].encode()),
        occurred_at=record["occurred_at"].astimezone(UTC),
        recorded_at=record["recorded_at"].astimezone(UTC),
        actor=record["actor"],
        command_id=_uuid(record["command_id"]),
        request_id=record["request_id"],
    )


def event_of(record: Any) -> Event:
    """A row of `events` as an event."""
    return Event(
        position=record["position"],
        project=record["project"],
        job=_uuid(record["job"]),
        run=record["run"],
        body=decode_body(record["type"], record["data"]),
        occurred_at=record["occurred_at"].astimezone(UTC),
        recorded_at=record["recorded_at"].astimezone(UTC),
        actor=record["actor"],
        command_id=_uuid(record["command_id"]),
        request_id=record["request_id"],
    )


def _uuid(value: Any) -> Any:
    """asyncpg gives its own subclass of UUID, which the encoder does not know."""
    return None if value is None else UUID(int=value.int)
