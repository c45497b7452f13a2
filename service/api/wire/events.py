"""Events, as CloudEvents 1.0."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from msgspec import UNSET, UnsetType

from service.api.wire.base import Wire


class CloudEvent(Wire, frozen=True):
    """`id` is the position, which is the cursor. `time` is when it happened, `recordedtime` when it was
    recorded. What `data` holds for each `type` is in /v1/asyncapi.json; a secret shows the id of its key."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    time: datetime
    datacontenttype: Literal["application/json"]
    sequence: str
    recordedtime: datetime
    actor: str
    commandid: UUID
    data: dict[str, Any]
    subject: str | UnsetType = UNSET
    project: str | UnsetType = UNSET
    job: UUID | UnsetType = UNSET
    run: int | UnsetType = UNSET
    requestid: str | UnsetType = UNSET


class EventPage(Wire, frozen=True):
    """Past events in order. `position` is the cursor for the next page: there is one if it is below `head`,
    where the ledger ends. Another `epoch` means that the ledger was restored from a backup."""

    items: list[CloudEvent]
    position: int
    head: int
    ledger_id: UUID
    epoch: int
