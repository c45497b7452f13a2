"""Deciding about a project's webhooks."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.context import Context
from service.domain.webhooks import (
    MOST_OVERLAP_S,
    MOST_WEBHOOKS,
    Wanted,
    Webhook,
    check_description,
    check_wanted,
)
from service.errors import Conflict, Invalid, NotFound, WrongState


def decide(command: cmd.WebhookCommand, context: Context) -> ev.Body | None:
    """The one event that follows, or None when it is so already. Raises a `Rejected`."""
    if context.project is None:
        raise NotFound(f"there is no project {command.project}")
    if isinstance(command, cmd.SetWebhook):
        return _changed(command, context) if command.replace else _made(command, context)
    known = _known(command, context)
    match command:
        case cmd.RotateWebhook():
            return _rotated(command, context)
        case cmd.PauseWebhook():
            meanwhile = command.unless_after is not None and known.touched > command.unless_after
            if known.paused is not None or meanwhile:
                return None
            return ev.WebhookPaused(webhook_id=known.id, info=command.info)
        case cmd.ResumeWebhook():
            return ev.WebhookResumed(webhook_id=known.id)  # one that fails is tried at once
        case cmd.ReplayWebhook():
            _check_position("after", command.after, context)
            return ev.WebhookReplayed(webhook_id=known.id, after=command.after)
        case cmd.RemoveWebhook():
            return ev.WebhookRemoved(webhook_id=known.id)
        case _:
            raise TypeError(f"no rule for {type(command).__name__}")


def _known(command: cmd.WebhookCommand, context: Context) -> Webhook:
    hooks = context.webhooks.hooks if context.webhooks else {}
    if command.webhook_id not in hooks:
        raise NotFound(f"there is no webhook {command.webhook_id}")
    return hooks[command.webhook_id]


def _made(command: cmd.SetWebhook, context: Context) -> ev.WebhookSet:
    hooks = context.webhooks.hooks if context.webhooks else {}
    if command.webhook_id in hooks:
        raise Conflict(f"webhook {command.webhook_id} exists already")
    if command.place is None or command.url is None or command.secret is None:
        raise Invalid("url", None, "a new webhook has one")
    if len(hooks) >= MOST_WEBHOOKS:
        raise WrongState(f"the project has {MOST_WEBHOOKS} webhooks, the most there may be; delete one first")
    if command.after is not None:
        _check_position("after", command.after, context)
    return ev.WebhookSet(
        webhook_id=command.webhook_id,
        place=command.place,
        url=command.url,
        wanted=_checked(command.wanted or Wanted()),
        description=_described(command.description or ""),
        secret=command.secret,
        after=command.after,
    )


def _changed(command: cmd.SetWebhook, context: Context) -> ev.WebhookSet:
    known = _known(command, context)
    wanted = known.wanted
    if command.wanted is not None:
        kept = {name: getattr(known.wanted, name) for name in command.keeps}
        wanted = _checked(msgspec.structs.replace(command.wanted, **kept))
    return ev.WebhookSet(
        webhook_id=known.id,
        place=known.place if command.place is None else command.place,
        url=known.url if command.url is None else command.url,
        wanted=wanted,
        description=known.description if command.description is None else _described(command.description),
    )


def _rotated(command: cmd.RotateWebhook, context: Context) -> ev.WebhookRotated:
    if not 0 <= command.keep_s <= MOST_OVERLAP_S:
        raise Invalid("keepOldSeconds", command.keep_s, f"0 to {MOST_OVERLAP_S} seconds")
    until = context.now + timedelta(seconds=command.keep_s)
    return ev.WebhookRotated(webhook_id=command.webhook_id, secret=command.secret, old_until=until)


def _check_position(field: str, position: int, context: Context) -> None:
    if not 0 <= position <= context.position:
        raise Invalid(field, position, f"a position from 0 to {context.position}, where the ledger ends now")


def _checked(wanted: Wanted) -> Wanted:
    check_wanted(wanted, ev.BODIES)
    return wanted


def _described(text: str) -> str:
    check_description(text)
    return text
