"""Looks at the ledger for all requests at once: tokens that changed, and runs that have ended.

However many clients follow a log, one query a look answers for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import structlog

from service.api import reads
from service.api.auth import KEPT_S, Tokens
from service.domain.directory import Token
from service.errors import Unavailable
from service.ledger.ledger import Ledger

LOOK_S = 1.0
#: At most so often, however fast the ledger grows.
PAUSE_S = 0.2

TOKEN_ENDS = "the token was revoked or renewed"  # noqa: S105 (a reason, not a value)
SERVICE_ENDS = "the service closes"

_log = structlog.get_logger()


@dataclass(eq=False)
class Follower:
    """One open answer about a run, to a token or to anybody (None).

    `over`: the run has ended; `cut`: it must not go on, and `why`.
    """

    job: UUID
    run: int
    token: Token | None
    why: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    cut: asyncio.Event = field(default_factory=asyncio.Event)


class Watch:
    """Run `run` in a task of its own; `stop` ends every follower when the service closes."""

    def __init__(self, ledger: Ledger, tokens: Tokens) -> None:
        self._ledger = ledger
        self._tokens = tokens
        self._position: int | None = None
        self._followers: set[Follower] = set()
        self._seen_at = 0.0

    @contextmanager
    def followed(self, job: UUID, run: int, token: Token | None) -> Iterator[Follower]:
        follower = Follower(job, run, token)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def stop(self) -> None:
        for follower in self._followers:
            follower.why = SERVICE_ENDS
            follower.cut.set()

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
                if loop.time() - self._seen_at > KEPT_S:
                    self.stop()
            await asyncio.sleep(PAUSE_S)
            await self._ledger.listener.moved(hints, LOOK_S)

    async def look(self) -> None:
        """One look: what has changed since the last."""
        pool = self._ledger.pool
        if self._position is None:
            self._position = await reads.last_token_change(pool)
        for token, position in await reads.tokens_after(pool, self._position):
            self._position = max(self._position, position)
            self._tokens.forget(token.id)
            self._cut(token)
        runs = {(each.job, each.run) for each in self._followers if not each.over.is_set()}
        if runs:
            over = await reads.runs_over(pool, runs)
            for follower in self._followers:
                if (follower.job, follower.run) in over:
                    follower.over.set()

    def _cut(self, token: Token) -> None:
        """End what a revoked token or a renewed one's old value has open."""
        for follower in self._followers:
            mine = follower.token
            if mine is not None and mine.id == token.id and (token.revoked or token.version != mine.version):
                follower.why = TOKEN_ENDS
                follower.cut.set()
