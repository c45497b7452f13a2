"""What is wanted of a project's webhooks."""

from __future__ import annotations

from service.domain.commands.base import Command
from service.domain.events.base import Info
from service.domain.spec import Sealed
from service.domain.webhooks import Wanted


class WebhookCommand(Command, frozen=True):
    """Base of those about one webhook of `project`."""

    webhook_id: str


class SetWebhook(WebhookCommand, frozen=True):
    """`replace` False makes a webhook, and needs `place`, `url` and `secret`; True changes what is not None.

    `keeps` names the fields of `wanted` that are not to be changed. `after`: of a new one, the position that
    deliveries begin behind; None: from now on.
    """

    place: str | None = None
    url: Sealed | None = None
    secret: Sealed | None = None
    wanted: Wanted | None = None
    keeps: tuple[str, ...] = ()
    description: str | None = None
    after: int | None = None
    replace: bool = False


class RotateWebhook(WebhookCommand, frozen=True):
    """`keep_s`: so many seconds the secrets before sign too."""

    secret: Sealed
    keep_s: int


class PauseWebhook(WebhookCommand, frozen=True):
    """`unless_after`: not if the webhook was touched after this position, and is not as it was judged."""

    info: Info
    unless_after: int | None = None


class ResumeWebhook(WebhookCommand, frozen=True):
    """Go on with what was not delivered, at once: also where it only waits for its next attempt."""


class ReplayWebhook(WebhookCommand, frozen=True):
    """Deliver everything after a position."""

    after: int


class RemoveWebhook(WebhookCommand, frozen=True):
    """Deliver nothing more, and forget it."""
