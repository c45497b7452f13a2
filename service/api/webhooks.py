"""/v1/webhook: where the project's events are brought to. Secrets are shown once; URLs to administrators."""

from __future__ import annotations

from uuid import UUID

from msgspec import UNSET

from service.api import wire
from service.api.call import Call
from service.api.pages import PageAsked, metadata, paged
from service.api.query import Query
from service.domain import commands as cmd
from service.domain.cloudevents import TYPE_PREFIX
from service.domain.events import BODIES, Info, WebhookRotated, WebhookSet
from service.domain.states import State
from service.domain.webhooks import (
    Wanted,
    Webhook,
    WebhookUrl,
    check_description,
    check_wanted,
    read_webhook_url,
)
from service.domain.weburls import is_address
from service.errors import Erased, FetchRefused, Invalid, NotFound, NotNow, Unavailable
from service.ledger.commit import Receipt
from service.outward import names
from service.outward.addresses import NotPublic
from service.webhooks import ping, reads
from service.webhooks.reads import Attempt, Standing
from service.webhooks.signing import new_secret

_WITHOUT = "?check=false takes it without looking"
_BY_ORDER = Info("by-order", "An administrator paused it.")
ALLOW = "JOBYARD_WEBHOOK_ALLOW"
_HTTP = (
    f"plain http is only for addresses that the operator allowed by {ALLOW}; "
    "to public addresses webhooks go by https: write https://HOST[:PORT][/PATH]"
)
_HTTPS = f"webhooks go by https to public addresses, and to those of {ALLOW}, which is the operator's"


class UrlAsked(Query, frozen=True):
    """`check=false` takes the URL without looking its host up."""

    check: bool = True


async def create(call: Call) -> wire.Webhook:
    """A repeat under the same Idempotency-Key is answered without the secret, which nobody can read again."""
    asked: wire.WebhookAsked = call.body
    if (known := await call.recalled()) is not None:
        return await _answer(call, known.events[0].body.webhook_id)
    url = await _url(call, asked.url)
    wanted = _wanted(asked)
    check_description(asked.description)
    identity = await call.command_id()
    secret, sealing = new_secret(), await call.ledger.keys.of(call.project)
    command = cmd.SetWebhook(
        project=call.project,
        webhook_id=str(identity.made("webhook")),
        place=url.place,
        url=sealing.seal(url.text),
        secret=sealing.seal(secret),
        wanted=wanted,
        description=asked.description,
        after=asked.after,
    )
    receipt = await call.submit(command, identity)
    return await _answer(call, command.webhook_id, secret if _is_own(receipt, command) else None)


async def update(call: Call) -> None:
    asked: wire.WebhookChanged = call.body
    known = await _known(call)
    if asked == wire.WebhookChanged():
        fields = ", ".join(wire.WebhookChanged.__struct_encode_fields__)
        raise Invalid("url", None, f"name {fields}, or several of them")
    url = None if asked.url is None else await _url(call, asked.url)
    keeps = tuple(name for name in Wanted.__struct_fields__ if getattr(asked, name) is None)
    sealing = await call.ledger.keys.of(call.project)
    await call.submit(
        cmd.SetWebhook(
            project=call.project,
            webhook_id=known.id,
            place=None if url is None else url.place,
            url=None if url is None else sealing.seal(url.text),
            wanted=_wanted(asked),
            keeps=keeps,
            description=asked.description,
            replace=True,
        )
    )


async def find(call: Call) -> wire.WebhookList:
    known = sorted((await _all(call)).values(), key=lambda hook: (hook.created_at, hook.id))
    page, said = paged(call, known, call.query)
    found = await reads.standing(call.ledger.pool, page)
    return wire.WebhookList(items=[await _view(call, hook, found[hook.id]) for hook in page], metadata=said)


async def get(call: Call) -> wire.Webhook:
    return await _answer(call, (await _known(call)).id)


async def remove(call: Call) -> None:
    known = await _known(call)
    await call.submit(cmd.RemoveWebhook(project=call.project, webhook_id=known.id))


async def rotate(call: Call) -> wire.Webhook:
    """Another secret. A repeat under the same Idempotency-Key is answered without it."""
    asked: wire.WebhookRotation = call.body
    known = await _known(call)
    secret, sealing = new_secret(), await call.ledger.keys.of(call.project)
    command = cmd.RotateWebhook(
        project=call.project,
        webhook_id=known.id,
        secret=sealing.seal(secret),
        keep_s=asked.keep_old_seconds,
    )
    receipt = await call.submit(command)
    return await _answer(call, known.id, secret if _is_own(receipt, command) else None)


def _is_own(receipt: Receipt, command: cmd.SetWebhook | cmd.RotateWebhook) -> bool:
    """Whether the secret that was recorded is this very call's, and not one of a request that it repeats.

    A commit whose answer was lost is found again like a repeat; no two seals are alike.
    """
    body: WebhookSet | WebhookRotated = receipt.events[0].body
    return body.secret == command.secret


async def pause(call: Call) -> wire.Webhook:
    known = await _known(call)
    await call.submit(cmd.PauseWebhook(project=call.project, webhook_id=known.id, info=_BY_ORDER))
    return await _answer(call, known.id)


async def resume(call: Call) -> wire.Webhook:
    known = await _known(call)
    await call.submit(cmd.ResumeWebhook(project=call.project, webhook_id=known.id))
    return await _answer(call, known.id)


async def replay(call: Call) -> wire.Webhook:
    asked: wire.WebhookReplay = call.body
    known = await _known(call)
    await call.submit(cmd.ReplayWebhook(project=call.project, webhook_id=known.id, after=asked.after))
    return await _answer(call, known.id)


async def test(call: Call) -> wire.WebhookTest:
    """Also while it is paused. Nothing is recorded, and nothing of what the endpoint writes is answered."""
    known = await _known(call)
    hooks = call.service.parts.hooks
    if hooks.tests.locked():
        raise NotNow("other webhooks are being tried; try again in a moment")
    async with hooks.tests:
        answer = await ping.ping(call.ledger, hooks.sender, call.project, known)
    return wire.WebhookTest(
        delivered=answer.delivered,
        milliseconds=answer.took_ms,
        status=UNSET if answer.status is None else answer.status,
        error=UNSET if answer.error is None else answer.error,
    )


async def deliveries(call: Call) -> wire.DeliveryList:
    known = await _known(call)
    asked: PageAsked = call.query
    found, total = await reads.attempts(call.ledger.pool, known.id, asked.size, (asked.page - 1) * asked.size)
    return wire.DeliveryList(items=[_delivery(each) for each in found], metadata=metadata(call, asked, total))


# -- reading what was asked --------------------------------------------------------------------------


async def _url(call: Call, text: str) -> WebhookUrl:
    """The URL, whose host is looked up now; each attempt does it again. Raises `Invalid`."""
    hooks = call.service.parts.hooks
    sender = hooks.sender
    # What stands before an @ may be a password: the reader of plain http would show it, the one of https not.
    user = "@" in text.partition("://")[2].partition("/")[0]
    url = read_webhook_url("url", text, http=not user)
    if url.scheme == "http" and not sender.takes_http:
        raise Invalid("url", url.place, _HTTP)
    asked: UrlAsked = call.query
    if not asked.check and not is_address(url.at.host):
        return url
    if hooks.lookups.locked():
        raise NotNow(f"the hosts of other webhooks are being looked up; try again in a moment, or {_WITHOUT}")
    try:
        async with hooks.lookups:
            with names.asked_by(call.project):
                await sender.addresses(url)
    except NotPublic:
        raise Invalid("url", url.place, _HTTP if url.scheme == "http" else _HTTPS) from None
    except FetchRefused:
        raise Invalid("url", url.place, f"there must be such a host; {_WITHOUT}") from None
    except Unavailable:
        raise Invalid("url", url.place, f"its host's name cannot be looked up now; {_WITHOUT}") from None
    return url


def _wanted(asked: wire.WebhookAsked | wire.WebhookChanged) -> Wanted:
    """The filter that is asked for; what is None asks for nothing. Raises `Invalid`."""
    wanted = Wanted(
        types=tuple(each.removeprefix(TYPE_PREFIX) for each in asked.types or ()),
        states=tuple(_state(*each) for each in enumerate(asked.states or ())),
        jobs=tuple(_job(*each) for each in enumerate(asked.jobs or ())),
        label_selector=asked.label_selector or None,
    )
    check_wanted(wanted, BODIES)
    return wanted


def _state(index: int, text: str) -> State:
    try:
        return State(text)
    except ValueError:
        raise Invalid(f"states[{index}]", text, f"the states are {', '.join(State)}") from None


def _job(index: int, text: str) -> UUID:
    try:
        found = UUID(text)
    except ValueError:
        found = None
    if found is None or str(found) != text.lower():
        raise Invalid(f"jobs[{index}]", text, "a job's id, which is a UUID")
    return found


async def _all(call: Call) -> dict[str, Webhook]:
    return await reads.of_project(call.ledger.pool, call.project)


async def _known(call: Call) -> Webhook:
    """The webhook in the path. Raises `NotFound`."""
    webhook_id = str(call.path_id("webhook"))
    found = (await _all(call)).get(webhook_id)
    if found is None:
        raise NotFound(f"there is no webhook {webhook_id}")
    return found


# -- answering ---------------------------------------------------------------------------------------


async def _answer(call: Call, webhook_id: str, secret: str | None = None) -> wire.Webhook:
    """The webhook as it is now, with its secret if this is the answer that may show it."""
    hook = (await _all(call)).get(webhook_id)
    if hook is None:
        raise NotFound(f"there is no webhook {webhook_id}")  # it was removed at this very moment
    found = await reads.standing(call.ledger.pool, [hook])
    return await _view(call, hook, found[hook.id], secret)


async def _view(call: Call, hook: Webhook, standing: Standing, secret: str | None = None) -> wire.Webhook:
    try:
        url = str(await call.ledger.open_secret(hook.url))
    except Erased:
        url = hook.place
    return wire.Webhook(
        id=hook.id,
        url=url,
        types=[TYPE_PREFIX + each for each in hook.wanted.types],
        states=[str(each) for each in hook.wanted.states],
        jobs=[str(each) for each in hook.wanted.jobs],
        label_selector=hook.wanted.label_selector or UNSET,
        description=hook.description,
        created_at=hook.created_at,
        updated_at=hook.updated_at,
        status=_status(hook, standing),
        secret=str(secret) if secret else UNSET,
    )


def _status(hook: Webhook, standing: Standing) -> wire.WebhookStatus:
    paused, failing = hook.paused, standing.failing_since
    old = [each.until for each in hook.secrets if each.until is not None]
    return wire.WebhookStatus(
        state="PAUSED" if paused else "FAILING" if failing else "ACTIVE",
        position=standing.position,
        since=paused.since if paused else failing or UNSET,
        code=paused.code if paused else UNSET,
        message=paused.message if paused else UNSET,
        failing_jobs=standing.failing_lines or UNSET,
        held_after=UNSET if standing.held_after is None else standing.held_after,
        next_attempt_at=UNSET if paused or standing.next_at is None else standing.next_at,
        old_secret_until=max(old) if old else UNSET,
    )


def _delivery(of: Attempt) -> wire.Delivery:
    return wire.Delivery(
        position=of.position,
        job=of.line or UNSET,
        attempt=of.attempt,
        at=of.at,
        delivered=of.error is None,
        milliseconds=of.took_ms,
        status=UNSET if of.status is None else of.status,
        error=UNSET if of.error is None else of.error,
        next_attempt_at=of.next_at or UNSET,
    )
