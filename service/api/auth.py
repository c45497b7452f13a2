"""Who is calling: Bearer tokens, found by the SHA-256 of their value.

Looking a hash up takes the same time whatever the value, so nothing can be learned byte by byte. Rows are
kept for a moment; `Watch` throws out those that change, and the moment bounds what a lost watch can cost.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import NamedTuple

from aiohttp import web

from service.domain.directory import Token
from service.errors import Unauthenticated
from service.ledger.ledger import Ledger

#: A revoked token stops working within 5 s, whatever happens to the watch.
KEPT_S = 3.0
MOST_KEPT = 10_000
#: Every value begins with it, so that it is known where it must not be.
PREFIX = "jy_"
_MOST_CHARS = 512


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
        self._forgotten = 0

    async def caller(self, request: web.Request) -> Token:
        """The token of a request. Raises `Unauthenticated`."""
        return await self.of_value(_bearer(request))

    async def of_value(self, value: str) -> Token:
        """The token of a value. Raises `Unauthenticated`."""
        sha256 = sha256_of(value)
        kept = self._kept.get(sha256)
        if kept is not None and kept.until > time.monotonic():
            return kept.token
        return await self._looked_up(sha256)

    async def _looked_up(self, sha256: str) -> Token:
        asked_at, forgotten = time.monotonic(), self._forgotten
        token = await self._ledger.token_by_hash(sha256)
        if token is None or token.revoked:
            self._kept.pop(sha256, None)
            raise Unauthenticated("the token is unknown or was revoked")
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        if forgotten == self._forgotten:
            # Nothing was thrown out while the row was on its way, so it is no older than that.
            self._kept[sha256] = _Kept(token, asked_at + KEPT_S)
        return token

    def forget(self, token_id: str) -> None:
        """The token has changed: look it up again, under whatever value."""
        self._forgotten += 1
        for sha256 in [each for each, kept in self._kept.items() if kept.token.id == token_id]:
            del self._kept[sha256]


def _bearer(request: web.Request) -> str:
    given = request.headers.getall("Authorization", [])
    if len(given) != 1:
        raise Unauthenticated("send one header `Authorization: Bearer <token>`")
    scheme, _, value = given[0].partition(" ")
    value = value.strip()
    if scheme.lower() != "bearer" or not value or len(value) > _MOST_CHARS or not value.isascii():
        raise Unauthenticated("the header must be `Authorization: Bearer <token>`")
    return value
