"""Webhooks, how far each has come, and what its endpoint answered."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import UNSET, UnsetType

from service.api.wire.base import Metadata, Wire
from service.domain.asked import Asked


class WebhookAsked(Asked, frozen=True):
    """Where to, and which events: all that are named must hold; nothing named asks for all of the project's.

    `types` as in the events' own `type`, `states` that a job comes into, `jobs` ids; `labelSelector` goes by
    the labels that a job had right after the event. `after`: the position to begin behind, 0 for all there
    ever was; without it, from now on.
    """

    url: str
    types: list[str] | None = None
    states: list[str] | None = None
    jobs: list[str] | None = None
    label_selector: str | None = None
    description: str = ""
    after: int | None = None

    def __repr__(self) -> str:
        return "WebhookAsked(...)"


class WebhookChanged(Asked, frozen=True):
    """What is left out stays. An empty list, or an empty `labelSelector`, asks for nothing any more."""

    url: str | None = None
    types: list[str] | None = None
    states: list[str] | None = None
    jobs: list[str] | None = None
    label_selector: str | None = None
    description: str | None = None

    def __repr__(self) -> str:
        return "WebhookChanged(...)"


class WebhookRotation(Asked, frozen=True):
    """So long the secrets before sign beside the new one."""

    keep_old_seconds: int = 86_400


class WebhookReplay(Asked, frozen=True):
    """Everything after this position is delivered again; 0: all that there is."""

    after: int


class WebhookStatus(Wire, frozen=True):
    """`position`: everything up to it was delivered, but for `failingJobs` jobs, of which nothing after
    `heldAfter` was. Events of no job count as one job's.

    FAILING: since when, and when the next attempt is. PAUSED: why (`code`: by-order, failing, gone,
    key-destroyed; `message`) and since when.
    """

    state: Literal["ACTIVE", "FAILING", "PAUSED"]
    position: int
    since: datetime | UnsetType = UNSET
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    failing_jobs: int | UnsetType = UNSET
    held_after: int | UnsetType = UNSET
    next_attempt_at: datetime | UnsetType = UNSET
    old_secret_until: datetime | UnsetType = UNSET


class Webhook(Wire, frozen=True, kw_only=True):
    """`secret` (`whsec_…`) is there once: in the answer that made it."""

    id: str
    url: str
    types: list[str]
    states: list[str]
    jobs: list[str]
    label_selector: str | UnsetType = UNSET
    description: str
    created_at: datetime
    updated_at: datetime
    status: WebhookStatus
    secret: str | UnsetType = UNSET

    def __repr__(self) -> str:
        return f"Webhook({self.id!r})"


class WebhookList(Wire, frozen=True):
    items: list[Webhook]
    metadata: Metadata


class WebhookTest(Wire, frozen=True):
    """What the endpoint said to a ping: its status, or why there was none."""

    delivered: bool
    milliseconds: int
    status: int | UnsetType = UNSET
    error: str | UnsetType = UNSET


class Delivery(Wire, frozen=True, kw_only=True):
    """One attempt to deliver the event at `position`. `nextAttemptAt`: of the same one, if it failed."""

    position: int
    job: str | UnsetType = UNSET
    attempt: int
    at: datetime
    delivered: bool
    milliseconds: int
    status: int | UnsetType = UNSET
    error: str | UnsetType = UNSET
    next_attempt_at: datetime | UnsetType = UNSET


class DeliveryList(Wire, frozen=True):
    items: list[Delivery]
    metadata: Metadata
