"""The audit trail and what proves it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import UNSET, UnsetType

from service.api.wire.base import Metadata, Wire


class AuditCause(Wire, frozen=True):
    """`position` is the event that this one follows from; null: its request alone. `chain` leads there from
    the first of them; `requestId` is the request of that first one, where all of it comes from."""

    position: int | None
    chain: list[int]
    request_id: str | None


class AuditEntry(Wire, frozen=True):
    """Who did what, when and from where. `actor` is `token:ID`, `ssh:FINGERPRINT`, `supervisor:ENGINE` or
    `system:NAME`; a token's id and name stand beside it. `occurredAt` may be earlier than `recordedAt`."""

    position: int
    recorded_at: datetime
    occurred_at: datetime
    type: str
    what: str
    actor: str
    command_id: str
    cause: AuditCause
    project: str | UnsetType = UNSET
    job: str | UnsetType = UNSET
    run: int | UnsetType = UNSET
    token_id: str | UnsetType = UNSET
    token_name: str | UnsetType = UNSET
    client_address: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET


class AuditList(Wire, frozen=True):
    """`metadata.links.next` is set when there are more. A page has fewer than `size` when its events are
    large."""

    items: list[AuditEntry]
    metadata: Metadata


class AuditKey(Wire, frozen=True):
    """Who signs checkpoints: `key` is for whoever verifies to keep (a `vkey` of C2SP's signed-note)."""

    origin: str
    key: str


class AuditCheckpoint(Wire, frozen=True):
    """The newest checkpoint: its note (C2SP tlog-checkpoint), and what it says."""

    note: str
    origin: str
    size: int
    root: str
    hash: str
    epoch: int
    signed_at: datetime


class AuditProof(Wire, frozen=True):
    """That one event is in the ledger. The hashes are hex; `event` is what was hashed, as canonical JSON."""

    format: str
    position: int
    event: dict[str, Any]
    previous: str
    hash: str
    proof: list[str]
    checkpoint: str
