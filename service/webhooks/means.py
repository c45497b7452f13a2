"""What all outboxes of a process share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from service.ledger.ledger import Ledger
from service.webhooks.backoff import Backoff
from service.webhooks.duty import Duty
from service.webhooks.send import Sender
from service.webhooks.tally import Tally


@dataclass(frozen=True)
class Means:
    """`clock` is the database's; `turns` answers what bounds the requests of a project, and of all.

    `seen` is the position up to which changes of webhooks are known: nothing later is sent, or it could go by
    what is no longer so, to a URL that was changed before it happened.
    """

    ledger: Ledger
    ledger_id: UUID
    duty: Duty
    sender: Sender
    backoff: Backoff
    tally: Tally
    clock: Callable[[], Awaitable[datetime]]
    seen: Callable[[], int]
    turns: Callable[[str], Sequence[asyncio.Semaphore]]
