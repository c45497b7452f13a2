"""Who is calling: Bearer tokens, found by the SHA-256 of their value.

Looking a hash up takes the same time whatever the value, so nothing can be learned byte by byte. Rows are
kept for a moment; `Watch` throws out those that change, and the moment bounds what a lost watch can cost.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from typing import NamedTuple

from aiohttp import web

from service.api import handshake
from service.domain.directory import Token
from service.errors import Unauthenticated
from service.ledger.ledger import Ledger

#: A revoked token stops working within 5 s, whatever happens to the watch.
KEPT_S = 3.0
MOST_KEPT = 10_000
#: Lookups of values that are not known here go so many at a time: whoever guesses waits for himself.
LOOKUPS = 4
#: Every value begins with it, so that it is known where it must not be.
PREFIX = "jy_"
#: No value is longer.
MOST_CHARS = 512
_UNKNOWN = "the token is unknown or was revoked"


def new_value() -> str:
    """A token's value: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def sha256_of(value: str) -> str:
    """What is kept of a value: the hex digest."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


class _Kept(NamedTuple):
    token: Token
    until: float


class Tokens:
    """The tokens this process has seen lately."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kept: dict[str, _Kept] = {}
        self._unknown: dict[str, float] = {}
        self._lookups = asyncio.Semaphore(LOOKUPS)
        self._forgotten = 0

    async def caller(self, request: web.Request) -> Token:
        """The token of a request. Raises `Unauthenticated`."""
        return await self.of_value(_bearer(request))

    async def of_value(self, value: str) -> Token:
        """The token of a value. Raises `Unauthenticated`."""
        sha256 = sha256_of(value)
        known = self._known(sha256)
        if known is not None:
            return known
        async with self._lookups:
            # Of many requests with one token, those in front may have brought it: each would ask again.
            return self._known(sha256) or await self._looked_up(sha256)

    def _known(self, sha256: str) -> Token | None:
        """What a look of a moment ago has found. Raises `Unauthenticated` when it found nothing."""
        now = time.monotonic()
        kept = self._kept.get(sha256)
        if kept is not None and kept.until > now:
            return kept.token
        if self._unknown.get(sha256, 0.0) > now:
            raise Unauthenticated(_UNKNOWN)
        return None

    async def _looked_up(self, sha256: str) -> Token:
        asked_at, forgotten = time.monotonic(), self._forgotten
        token = await self._ledger.token_by_hash(sha256)
        if token is None or token.revoked:
            self._kept.pop(sha256, None)
            if len(self._unknown) >= MOST_KEPT:
                self._unknown.clear()
            self._unknown[sha256] = asked_at + KEPT_S
            raise Unauthenticated(_UNKNOWN)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        if forgotten == self._forgotten:
            # Nothing was thrown out while the row was on its way, so it is no older than that.
            self._kept[sha256] = _Kept(token, asked_at + KEPT_S)
        return token

    def forget_all(self) -> None:
        """What is kept may be of events that the ledger has lost."""
        self._forgotten += 1
        self._kept.clear()
        self._unknown.clear()

    def forget(self, token_id: str) -> None:
        """The token has changed: look it up again, under whatever value."""
        self._forgotten += 1
        for sha256 in [each for each, kept in self._kept.items() if kept.token.id == token_id]:
            del self._kept[sha256]


def _bearer(request: web.Request) -> str:
    given = request.headers.getall("Authorization", [])
    if not given and (carried := _carried(request)) is not None:
        given = [f"Bearer {carried}"]
    if len(given) != 1:
        raise Unauthenticated("send one header `Authorization: Bearer <token>`")
    scheme, _, value = given[0].partition(" ")
    value = value.strip()
    if scheme.lower() != "bearer" or not value or len(value) > MOST_CHARS or not value.isascii():
        raise Unauthenticated("the header must be `Authorization: Bearer <token>`")
    return value


def _carried(request: web.Request) -> str | None:
    """The token that a websocket's sub-protocols carry. Raises `Unauthenticated` for what is none."""
    carried = handshake.carried(request)
    if not carried:
        return None
    try:
        (text,) = carried
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        raise Unauthenticated(
            f"the sub-protocol must be {handshake.SOCKET_TOKEN}<the token in base64url>"
        ) from None
