"""Looks at the ledger for all requests at once: tokens that changed, and runs that have ended.

However many clients follow a log, one query a look answers for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import structlog

from service.api import reads
from service.api.auth import KEPT_S, Tokens
from service.domain.directory import Token
from service.errors import Unavailable
from service.ledger.ledger import Ledger
from service.ledger.read import BEGINNING, Mark, still

LOOK_S = 1.0
#: At most so often, however fast the ledger grows.
PAUSE_S = 0.2

TOKEN_ENDS = "the token was revoked or renewed"  # noqa: S105 (a reason, not a value)
SERVICE_ENDS = "the service closes"

_log = structlog.get_logger()


@dataclass(eq=False)
class Follower:
    """One open answer about a run (or about none), to a token or to anybody (None).

    `over`: the run has ended; `cut`: it must not go on, and `why`, which is empty before. Whoever would
    rather be called then than wait sets `on_cut`.
    """

    job: UUID | None
    run: int
    token: Token | None
    why: str = ""
    on_cut: Callable[[], None] | None = None

    @cached_property
    def over(self) -> asyncio.Event:
        return asyncio.Event()

    @cached_property
    def cut(self) -> asyncio.Event:
        """Made when it is first asked for: most streams need none."""
        event = asyncio.Event()
        if self.why:
            event.set()
        return event

    def end(self, why: str) -> None:
        self.why = why
        self.cut.set()
        if self.on_cut is not None:
            self.on_cut()


class Watch:
    """Run `run` in a task of its own; `close` ends every follower when the service closes."""

    def __init__(self, ledger: Ledger, tokens: Tokens) -> None:
        self._ledger = ledger
        self._tokens = tokens
        #: Where the ledger ended at the last look.
        self._at: Mark | None = None
        self._followers: set[Follower] = set()
        self._seen_at = 0.0
        self._closed = False

    @contextmanager
    def followed(self, job: UUID | None, run: int, token: Token | None) -> Iterator[Follower]:
        follower = Follower(job, run, token)
        if self._closed:  # it was on its way when all others were told
            self._tell(follower)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def stop(self) -> None:
        """End every follower, as when the service closes; who comes later is let in."""
        for follower in self._followers:
            self._tell(follower)

    def close(self) -> None:
        """The service closes: who follows now, or still comes, is told so."""
        self._closed = True
        self.stop()

    def _tell(self, follower: Follower) -> None:
        follower.end(SERVICE_ENDS)

    async def run(self) -> None:
        """Look again and again. What cannot be seen for long is taken for revoked."""
        loop = asyncio.get_running_loop()
        self._seen_at = loop.time()
        while True:
            hints = self._ledger.listener.hints
            try:
                await self.look()
                self._seen_at = loop.time()
            except Unavailable as error:
                _log.warning("watch interrupted", error=error.message)
            except Exception:  # noqa: BLE001 (without it revoked tokens would keep all that they have open)
                _log.exception("watch failed; it looks again")
            if loop.time() - self._seen_at > KEPT_S:
                self.stop()
            await asyncio.sleep(PAUSE_S)
            await self._ledger.listener.moved(hints, LOOK_S)

    async def look(self) -> None:
        """One look: what has changed since the last."""
        pool = self._ledger.pool
        before = self._at or BEGINNING
        now, holds = await still(pool, before)
        if not holds:
            # A failover lost it: no look after it would tell of tokens that were revoked before, by position.
            _log.warning("the ledger has lost events: all that is open ends", position=before.position)
            self._tokens.forget_all()
            self.stop()
        elif self._at is not None and now != before:
            for token in await reads.tokens_after(pool, before.position):
                self._tokens.forget(token.id)
                self._cut(token)
        self._at = now
        runs = {
            (each.job, each.run)
            for each in self._followers
            if each.job is not None and not each.over.is_set()
        }
        if runs:
            over = await reads.runs_over(pool, runs)
            for follower in self._followers:
                if follower.job is not None and (follower.job, follower.run) in over:
                    follower.over.set()

    def _cut(self, token: Token) -> None:
        """End what a revoked token or a renewed one's old value has open."""
        for follower in self._followers:
            mine = follower.token
            if mine is not None and mine.id == token.id and (token.revoked or token.version != mine.version):
                follower.end(TOKEN_ENDS)
