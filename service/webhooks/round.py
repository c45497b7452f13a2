"""One round of a webhook: reads what is due, sends it line by line, and moves the cursor.

It reads the next events that are wanted, and what the lines that are behind have open. Lines are sent side by
side; one whose event fails is behind, and is tried again when its pause is over, while the others go on. When
several lines fail and nothing gets through, the endpoint as a whole has pauses, and is asked with one event
after each.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
import structlog

from service.domain.cloudevents import frame, source_of
from service.domain.events import Event, Info
from service.domain.webhook_filter import filter_of
from service.domain.webhooks import Webhook, WebhookUrl, message_id
from service.outward import names
from service.webhooks import backlog
from service.webhooks.backoff import retry_after
from service.webhooks.means import Means
from service.webhooks.progress import Line, Progress, Trying, line_of
from service.webhooks.send import GONE, Answer
from service.webhooks.signing import signed

#: Events of one read; lines that may be behind before the cursor waits for them; events of one line a round.
PAGE = 100
MOST_BEHIND = 64
EACH = 20
#: So many lines that fail, and nothing that gets through, are the endpoint's failure and not theirs.
DEAD_LINES = 3
#: No request is queued later in a round: what is new is looked for again.
ROUND_S = 5.0

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_FRESH = Line(0)
_NOW = timedelta(0)

_log = structlog.get_logger()
_encode = msgspec.json.Encoder(order="deterministic").encode


@dataclass
class Round:
    """`keys` sign. When it is over, `verdict` is why the webhook is to be paused, if it is."""

    means: Means
    project: str
    hook: Webhook
    progress: Progress
    slots: asyncio.Semaphore
    now: datetime
    seen: int
    url: WebhookUrl
    keys: list[str]
    verdict: Info | None = None
    _began: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    _delivered: int = 0
    _failed: set[str] = field(default_factory=set)
    _asked_s: float = 0.0

    async def run(self) -> timedelta | None:
        """How long until something is due again; None: not before the ledger grows."""
        found = await (self._probe() if self.progress.whole.attempts else self._read())
        async with asyncio.TaskGroup() as group:
            for name, events in found.queues.items():
                if events:
                    group.create_task(self._send_line(name, events))
        await self._close(found)
        return self._next(found)

    # -- what there is to send -----------------------------------------------------------------------

    async def _read(self) -> backlog.Found:
        """The next events, and what is open of the lines that are behind and due."""
        progress, behind = self.progress, self.progress.behind
        found = backlog.Found(progress.position, frozenset(behind))
        for name, line in behind.items():
            if line.trying.due(self.now):
                await self._queue(found, name, line, EACH)
        if len(behind) < MOST_BEHIND:
            asked = filter_of(self.project, self.hook.wanted)
            looked = await self.means.ledger.look(asked, progress.position, limit=PAGE)
            found.end = max(progress.position, min(looked.position, self.seen))
            found.more = found.end < min(looked.head, self.seen)
            found.batch = [event for event, _ in looked.events if event.position <= found.end]
            for event in found.batch:
                name = line_of(event)
                waits = name in found.partly or not progress.lines.get(name, _FRESH).trying.due(self.now)
                if not waits and event.position > progress.delivered_to(name):
                    found.queues.setdefault(name, []).append(event)
        return found

    async def _probe(self) -> backlog.Found:
        """One event, of the line that was tried longest ago."""
        behind = self.progress.behind
        found = backlog.Found(self.progress.position, frozenset(behind))
        for name in sorted(behind, key=lambda name: (behind[name].trying.next_at or _LONG_AGO, name)):
            await self._queue(found, name, behind[name], 1)
            if found.queues[name]:
                break
        return found

    async def _queue(self, found: backlog.Found, name: str, line: Line, most: int) -> None:
        asked = filter_of(self.project, self.hook.wanted)
        upto = self.progress.position
        part = await backlog.of_line(self.means.ledger, asked, name, line.position, upto, most)
        found.queues[name] = part.wanted
        if not part.whole:
            found.partly.add(name)

    # -- sending it ---------------------------------------------------------------------------------

    async def _send_line(self, name: str, events: list[Event]) -> None:
        """In order, until one fails, or the round is over. A turn that was waited for is used, however late
        it comes: else whoever has to wait longer than a round lasts would never send anything."""
        for event in events:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self.slots)
                if self._elapsed_s > ROUND_S:
                    return
                for turn in self.means.turns(self.project):
                    await stack.enter_async_context(turn)
                if self._is_over or not await self._attempt(name, event):
                    return

    @property
    def _is_over(self) -> bool:
        dead = len(self._failed) >= DEAD_LINES and not self._delivered
        return self.verdict is not None or dead

    @property
    def _elapsed_s(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def _attempt(self, name: str, event: Event) -> bool:
        """Send one event once, and remember how that went. Whether it was taken."""
        at = self.now + timedelta(seconds=self._elapsed_s)
        body = _encode(frame(event, source_of(self.means.ledger_id)))
        identity = message_id(self.means.ledger_id, self.hook.id, event.position)
        with names.asked_by(self.project):
            answer = await self.means.sender.post(self.url, signed(self.keys, identity, at, body), body)
        self.means.tally.count(answer)
        line = self.progress.lines.get(name) or Line(self.progress.position)
        attempt = line.trying.attempts + 1
        if answer.delivered:
            self._delivered += 1
            line = Line(event.position)
        else:
            self._failed.add(name)
            self._fail(line, answer, event, at)
        await self.progress.attempted(event, at, answer, line, attempt)
        _log.info(
            "webhook attempted",
            webhook=self.hook.id,
            position=event.position,
            attempt=attempt,
            status=answer.status,
            error=answer.error,
            took_ms=answer.took_ms,
        )
        return answer.delivered

    def _fail(self, line: Line, answer: Answer, event: Event, at: datetime) -> None:
        asked_s = retry_after(answer.retry_after, at) or 0.0
        self._asked_s = max(self._asked_s, asked_s)
        pause = self.means.backoff.after(line.trying.attempts + 1, asked_s)
        line.trying.failed(at, None if pause is None else at + pause)
        if answer.status == GONE:
            self.verdict = Info("gone", "Its endpoint answered 410 (Gone).", {"position": event.position})
        elif pause is None:
            self._give_up(line.trying, f"event {event.position}, the last time because {answer.error}")

    def _give_up(self, trying: Trying, what: str) -> None:
        since = f"{trying.failing_since:%Y-%m-%dT%H:%M:%SZ}" if trying.failing_since else ""
        text = f"{trying.attempts} attempts in a row since {since} failed to deliver {what}."
        self.verdict = Info("failing", text, {"failures": trying.attempts, "since": since})

    # -- after it -----------------------------------------------------------------------------------

    async def _close(self, found: backlog.Found) -> None:
        """Move the cursor as far as it may go, and remember who stays behind it."""
        progress, old = self.progress, self.progress.position
        still_open = backlog.open_lines(progress, found, MOST_BEHIND)
        progress.position = still_open.end
        for name in still_open.names - set(progress.lines):
            progress.lines[name] = Line(old)
        progress.lines = {
            name: line
            for name, line in progress.lines.items()
            if name in still_open.names or line.position > progress.position
        }
        self._judge_endpoint()
        await progress.save()

    def _judge_endpoint(self) -> None:
        """Whether the endpoint as a whole fails, and until when it is left alone."""
        progress, whole = self.progress, self.progress.whole
        if self._delivered or not progress.failing:
            if whole.attempts:
                progress.whole = Trying()
                for line in progress.lines.values():
                    line.trying.next_at = None
        elif self._failed and (whole.attempts or len(progress.failing) >= DEAD_LINES):
            pause = self.means.backoff.after(whole.attempts + 1, self._asked_s)
            since = min(line.trying.failing_since or self.now for line in progress.failing.values())
            whole.failed(since, None if pause is None else self.now + pause)
            if pause is None and self.verdict is None:
                self._give_up(whole, "anything")

    def _next(self, found: backlog.Found) -> timedelta | None:
        if self.verdict is not None:
            return None
        whole, behind = self.progress.whole, self.progress.behind.values()
        if whole.attempts and whole.next_at is not None:
            return whole.next_at - self.now
        if found.more and len(behind) < MOST_BEHIND:
            return _NOW
        if any(line.trying.next_at is None for line in behind):
            return _NOW
        return min((line.trying.next_at - self.now for line in behind if line.trying.next_at), default=None)
