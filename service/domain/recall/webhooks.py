"""Back to what was wanted of a project's webhooks."""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.events import Event
from service.domain.recall.base import Before, Inverse


def _set(event: Event, _before: Before) -> cmd.Command:
    body: ev.WebhookSet = event.body
    return cmd.SetWebhook(
        project=event.project,
        webhook_id=body.webhook_id,
        place=body.place,
        url=body.url,
        secret=body.secret,
        wanted=body.wanted,
        description=body.description,
        after=body.after,
        replace=body.secret is None,
    )


def _rotated(event: Event, _before: Before) -> cmd.Command:
    body: ev.WebhookRotated = event.body
    keep_s = round((body.old_until - event.occurred_at).total_seconds())
    return cmd.RotateWebhook(
        project=event.project, webhook_id=body.webhook_id, secret=body.secret, keep_s=keep_s
    )


def _paused(event: Event, _before: Before) -> cmd.Command:
    body: ev.WebhookPaused = event.body
    return cmd.PauseWebhook(project=event.project, webhook_id=body.webhook_id, info=body.info)


def _resumed(event: Event, _before: Before) -> cmd.Command:
    return cmd.ResumeWebhook(project=event.project, webhook_id=event.body.webhook_id)


def _replayed(event: Event, _before: Before) -> cmd.Command:
    body: ev.WebhookReplayed = event.body
    return cmd.ReplayWebhook(project=event.project, webhook_id=body.webhook_id, after=body.after)


def _removed(event: Event, _before: Before) -> cmd.Command:
    return cmd.RemoveWebhook(project=event.project, webhook_id=event.body.webhook_id)


INVERSES: dict[type[ev.Body], Inverse] = {
    ev.WebhookSet: _set,
    ev.WebhookRotated: _rotated,
    ev.WebhookPaused: _paused,
    ev.WebhookResumed: _resumed,
    ev.WebhookReplayed: _replayed,
    ev.WebhookRemoved: _removed,
}
