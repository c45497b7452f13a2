"""Trying an endpoint: one signed event of its own kind, sent once, outside of every order."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from service.domain.cloudevents import TYPE_PREFIX, source_of
from service.domain.webhooks import Webhook, read_webhook_url
from service.errors import Erased
from service.ledger.ledger import Ledger
from service.outward import names
from service.webhooks.send import Answer, Sender
from service.webhooks.signing import signed

PING = f"{TYPE_PREFIX}Ping"


async def ping(ledger: Ledger, sender: Sender, project: str, hook: Webhook) -> Answer:
    """What the endpoint says. Raises `Erased`, or `Unavailable` of the database."""
    head, now = await ledger.head(), await ledger.now()
    opened = await ledger.keys.opened(hook.signing(now))
    keys = [str(key) for key in opened.values() if key is not None]
    if not keys:
        raise Erased("this webhook's secret was erased, so nothing is left to sign with; rotate its secret")
    url = read_webhook_url("url", str(await ledger.open_secret(hook.url)), http=True)
    identity = uuid4()
    body = msgspec.json.encode(_event(identity, head.ledger_id, project, hook, now))
    with names.asked_by(project):
        return await sender.post(url, signed(keys, f"ping_{identity.hex}", now, body), body)


def _event(identity: UUID, ledger_id: UUID, project: str, hook: Webhook, now: datetime) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": f"ping-{identity}",
        "source": source_of(ledger_id),
        "type": PING,
        "time": now,
        "datacontenttype": "application/json",
        "project": project,
        "data": {"webhookId": hook.id},
    }
