"""Delivers to all webhooks of all projects, in one process at a time. Run `run` in a task of its own.

The loop is timing; an outbox's round is work. NOTIFY is a hint, position is the truth, a poll backs it up.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import structlog

from projections.catalogue import FOLDS
from service.domain.events import BODIES
from service.domain.webhooks import Webhook, Webhooks
from service.ledger.database import PASSING, translated
from service.ledger.ledger import Ledger
from service.tasks import whole
from service.webhooks import duty as duties
from service.webhooks.backoff import Backoff
from service.webhooks.duty import Duty
from service.webhooks.means import Means
from service.webhooks.outbox import Outbox
from service.webhooks.send import Sender
from service.webhooks.tally import Tally
from sql import queries

_SQL = queries("webhooks")
POLL_S = 1.0
RETAKE_S = 1.0
#: Where nobody has a webhook, it is looked this often at most whether somebody has registered one.
UNHURRIED_S = 0.25
#: Requests at the same time: of one project, and in all.
PROJECT_CONCURRENCY = 16
CONCURRENCY = 128

_TOUCHING = sorted(name for name in BODIES if name.startswith("Webhook"))
_log = structlog.get_logger()


class Deliverer:
    """`backoff`, `clock` (None: the database's) and the times are for tests to set."""

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        *,
        backoff: Backoff | None = None,
        tally: Tally | None = None,
        clock: Callable[[], Awaitable[datetime]] | None = None,
        poll_s: float = POLL_S,
        silence_s: float = duties.SILENCE_S,
        ask_s: float = duties.ASK_S,
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._backoff = backoff or Backoff()
        self.tally = tally or Tally()
        self._clock = clock or ledger.now
        self._poll_s = poll_s
        self._silence_s = silence_s
        self._ask_s = ask_s
        self._seen = 0
        self._all = asyncio.Semaphore(CONCURRENCY)
        self._of_projects: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(PROJECT_CONCURRENCY)
        )
        #: Set while this process has the duty.
        self.on_duty = asyncio.Event()

    async def run(self) -> None:
        """Wait for the duty, deliver while it lasts, and wait again, until cancelled."""
        while True:
            try:
                await whole(self._on_duty())
            except* PASSING as lost:
                _log.warning("webhooks interrupted", error=_first(lost))
            except* Exception:  # noqa: BLE001 (whatever it is, deliveries must go on)
                _log.exception("webhooks failed; they begin again")
            await asyncio.sleep(RETAKE_S)

    async def _on_duty(self) -> None:
        async with duties.on_duty(self._ledger.connect, silence_s=self._silence_s, ask_s=self._ask_s) as duty:
            await self._serve(duty)

    async def _serve(self, duty: Duty) -> None:
        """Deliver until the duty is lost, or something fails: then all begins again from what is kept."""
        head = await self._ledger.head()
        means = Means(
            ledger=self._ledger,
            ledger_id=head.ledger_id,
            duty=duty,
            sender=self._sender,
            backoff=self._backoff,
            tally=self.tally,
            clock=self._clock,
            seen=lambda: self._seen,
            turns=self._turns,
        )
        _log.info("webhooks on duty")
        self.on_duty.set()
        self.tally.on_duty = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(duty.keep())
                self._seen = head.position
                await self._follow(Outboxes(means, group))
        finally:
            self.on_duty.clear()
            self.tally.on_duty = False

    def _turns(self, project: str) -> Sequence[asyncio.Semaphore]:
        return self._of_projects[project], self._all

    async def _follow(self, outboxes: Outboxes) -> None:
        """Wake each outbox when its project's part of the ledger grows."""
        await outboxes.settle()
        while True:
            hints = self._ledger.listener.hints
            with translated():
                grown: list[Any] = await self._ledger.pool.fetch(_SQL.grown, self._seen, _TOUCHING)
            if any(each["changed"] for each in grown):
                await outboxes.settle()
            self._seen = max([self._seen, *(each["position"] for each in grown)])
            for each in grown:
                outboxes.wake(each["project"])
            if not grown:
                await self._ledger.listener.moved(hints, self._poll_s)
            if not outboxes.at_work:
                await asyncio.sleep(UNHURRIED_S)


class Outboxes:
    """An outbox, and its task, for each webhook that is not paused."""

    def __init__(self, means: Means, group: asyncio.TaskGroup) -> None:
        self._means = means
        self._group = group
        self._at_work: dict[str, tuple[str, Outbox, asyncio.Task[None]]] = {}

    @property
    def at_work(self) -> bool:
        """Whether there is anybody to deliver to."""
        return bool(self._at_work)

    def wake(self, project: str | None) -> None:
        for theirs, outbox, _ in self._at_work.values():
            if theirs == project:
                outbox.wake()

    async def settle(self) -> None:
        """Begin, change and end what the ledger says now."""
        known = await self._known()
        active = {hook_id: each for hook_id, each in known.items() if each[1].paused is None}
        for hook_id in [each for each in self._at_work if each not in active]:
            _, _, task = self._at_work.pop(hook_id)
            task.cancel()
            await asyncio.wait([task])
        # Only now: what an outbox still wrote down would refer to what is gone.
        await self._means.duty.execute((_SQL.forget, list(known)))
        for hook_id, (project, hook) in active.items():
            if hook_id in self._at_work:
                outbox = self._at_work[hook_id][1]
                outbox.hook = hook
                outbox.wake()
            else:
                outbox = Outbox(self._means, project, hook)
                self._at_work[hook_id] = project, outbox, self._group.create_task(outbox.run())

    async def _known(self) -> dict[str, tuple[str, Webhook]]:
        with translated():
            records = await self._means.ledger.pool.fetch(_SQL.all)
        decode = FOLDS["webhooks"].decoder.decode
        rows: list[Webhooks] = [decode(record["row"]) for record in records]
        return {hook.id: (row.project, hook) for row in rows for hook in row.hooks.values()}


def _first(errors: BaseExceptionGroup[Any]) -> str:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return str(found) or type(found).__name__
