"""`webhooks`: one row a project, with all its webhooks."""

from __future__ import annotations

from msgspec.structs import replace

from projections.fold import Fold
from service.domain.events import (
    Event,
    WebhookPaused,
    WebhookRemoved,
    WebhookReplayed,
    WebhookResumed,
    WebhookRotated,
    WebhookSet,
)
from service.domain.webhooks import MOST_SECRETS, Pause, Signing, Start, Webhook, Webhooks

_CONCERNED = WebhookSet | WebhookRotated | WebhookPaused | WebhookResumed | WebhookReplayed | WebhookRemoved


def key(event: Event) -> str | None:
    return event.project if isinstance(event.body, _CONCERNED) else None


def evolve(row: Webhooks | None, event: Event) -> Webhooks:
    found = row or Webhooks(project=event.project or "")
    body: WebhookSet | WebhookRotated | WebhookPaused | WebhookResumed | WebhookReplayed = event.body
    others = {name: hook for name, hook in found.hooks.items() if name != body.webhook_id}
    if isinstance(event.body, WebhookRemoved):
        return replace(found, hooks=others)
    hook = _evolved(found.hooks.get(body.webhook_id), event)
    return replace(found, hooks={**found.hooks, body.webhook_id: hook})


def _evolved(known: Webhook | None, event: Event) -> Webhook:
    position, at = event.position, event.recorded_at
    match event.body:
        case WebhookSet() as body if known is None:
            return _made(body, position, event)
        case WebhookSet() as body if known is not None:
            changed = replace(known, place=body.place, url=body.url, wanted=body.wanted)
            changed = replace(changed, description=body.description)
        case WebhookRotated() as body if known is not None:
            old = [
                Signing(each.secret, min(each.until or body.old_until, body.old_until))
                for each in known.secrets
                if min(each.until or body.old_until, body.old_until) > at
            ]
            changed = replace(known, secrets=(Signing(body.secret), *old[: MOST_SECRETS - 1]))
        case WebhookPaused() as body if known is not None:
            changed = replace(known, paused=Pause(body.info.code, body.info.message, at))
        case WebhookResumed() if known is not None:
            changed = replace(known, paused=None)
        case WebhookReplayed() as body if known is not None:
            changed = replace(known, start=Start(by=position, after=body.after))
        case _:
            raise ValueError(f"event {position}: {event.type} of a webhook that does not exist")
    return replace(changed, touched=position, updated_at=at)


def _made(body: WebhookSet, position: int, event: Event) -> Webhook:
    return Webhook(
        id=body.webhook_id,
        place=body.place,
        url=body.url,
        wanted=body.wanted,
        description=body.description,
        secrets=() if body.secret is None else (Signing(body.secret),),
        start=Start(by=position, after=position if body.after is None else body.after),
        touched=position,
        created_at=event.recorded_at,
        updated_at=event.recorded_at,
    )


FOLD = Fold("webhooks", Webhooks, key, evolve, _CONCERNED)
