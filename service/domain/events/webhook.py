"""What happens to a project's webhooks. A delivery is no event: it would have to be delivered itself."""

from __future__ import annotations

from datetime import datetime

from service.domain.events.base import Body, Info
from service.domain.spec import Sealed
from service.domain.webhooks import Wanted


class WebhookSet(Body, frozen=True):
    """A webhook was made, or what is known of it changed; all of it, as it is from now on.

    `url` is sealed, because whoever knows it can often post there; `place` is its scheme, host and port.
    `secret` signs, and is there when it was made; `after` is the position that deliveries begin behind
    (None: behind this event), and stands in the first one alone.
    """

    webhook_id: str
    place: str
    url: Sealed
    wanted: Wanted
    description: str = ""
    secret: Sealed | None = None
    after: int | None = None


class WebhookRotated(Body, frozen=True):
    """Another secret signs from now on; those before it sign beside it until `old_until`."""

    webhook_id: str
    secret: Sealed
    old_until: datetime


class WebhookPaused(Body, frozen=True):
    """Nothing is delivered until it is resumed; what happens meanwhile is delivered then.

    `info.code` says why: `by-order`, `failing` (for days), `gone` (its endpoint said so), `key-destroyed`.
    """

    webhook_id: str
    info: Info


class WebhookResumed(Body, frozen=True):
    """Deliveries go on where they stopped, at once; it need not have been paused."""

    webhook_id: str


class WebhookReplayed(Body, frozen=True):
    """Everything after a position is to be delivered, again or for the first time."""

    webhook_id: str
    after: int


class WebhookRemoved(Body, frozen=True):
    webhook_id: str
