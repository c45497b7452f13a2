"""One webhook's deliveries: rounds, one after the other, and its pause when it gives up.

Nothing is ever skipped: who gives up pauses the webhook, and says so in the ledger.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.webhooks import Webhook, read_webhook_url
from service.ledger.database import PASSING
from service.tasks import whole
from service.webhooks.means import Means
from service.webhooks.progress import Progress
from service.webhooks.round import Round

ACTOR = "webhooks"
#: Requests to one endpoint at the same time.
CONCURRENCY = 4
#: For so long a webhook is left alone with which something went wrong that nobody expected.
AFTER_FAILURE_S = 30.0
_KEY_GONE = Info(
    "key-destroyed", "The project's key was destroyed, and with it this webhook's URL and secret."
)

_log = structlog.get_logger()


class Outbox:
    """`hook` is set anew when an event changed it."""

    def __init__(self, means: Means, project: str, hook: Webhook) -> None:
        self._means = means
        self._project = project
        self.hook = hook
        self._progress: Progress | None = None
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._wake = asyncio.Event()
        #: Where the webhook was last touched when we had it paused.
        self._gave_up_at: int | None = None

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled. Raises `Unavailable` when the database or the duty is gone."""
        while True:
            self._wake.clear()
            pause = await self._round_for_itself()
            try:
                async with asyncio.timeout(None if pause is None else max(0.0, pause.total_seconds())):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _round_for_itself(self) -> timedelta | None:
        """A round. What goes wrong with this webhook alone holds up no other: it begins again later."""
        try:
            return await whole(self.round())
        except Exception as error:
            if _is_passing(error):
                raise  # the database, or the duty: that is everybody's
            _log.exception("webhook failed; it begins again", webhook=self.hook.id)
            self._progress = None
        await asyncio.sleep(AFTER_FAILURE_S)
        return timedelta(0)

    async def round(self) -> timedelta | None:
        """Deliver what is due. How long until there is something again; None: not before the ledger grows."""
        means, hook, seen = self._means, self.hook, self._means.seen()  # together: see `Means`
        if self._gave_up_at == hook.touched:
            return None  # the event that says so is on its way to us
        if self._progress is None:
            self._progress = await Progress.load(means.duty, hook)
        progress = self._progress
        await progress.heed(hook)
        now = await means.clock()
        if progress.whole.next_at is not None and progress.whole.next_at > now:
            return progress.whole.next_at - now
        signing = hook.signing(now)
        opened = await means.ledger.keys.opened([hook.url, *signing])
        address, keys = opened[hook.url], [str(key) for each in signing if (key := opened[each]) is not None]
        if address is None or not keys:
            await self._pause(hook, _KEY_GONE)
            return None
        url = read_webhook_url("url", str(address), http=True)
        this = Round(means, self._project, hook, progress, self._slots, now, seen, url, keys)
        pause = await this.run()
        if this.verdict is not None:
            await self._pause(hook, this.verdict)
        return pause

    async def _pause(self, hook: Webhook, why: Info) -> None:
        """Have it paused, unless somebody touched it since."""
        self._gave_up_at = hook.touched
        await self._means.ledger.submit(
            cmd.PauseWebhook(project=self._project, webhook_id=hook.id, info=why, unless_after=hook.touched),
            actor=ACTOR,
        )
        _log.warning("webhook paused", webhook=hook.id, code=why.code)


def _is_passing(error: Exception) -> bool:
    """Whether it, or one of those in a group of them, may be over soon by itself."""
    if isinstance(error, ExceptionGroup):
        return error.subgroup(PASSING) is not None
    return isinstance(error, PASSING)
