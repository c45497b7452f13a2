"""The projects' keys: beside the ledger, sealed under the master key, made when first needed."""

from __future__ import annotations

import secrets
from typing import Any

import asyncpg

from service.domain.spec import Sealed
from service.errors import Unavailable
from service.ledger.database import translated
from service.vault import MasterKey, ProjectKey, Secret, new_key
from sql import queries

_SQL = queries("keys")


class Keys:
    """Opens and seals secrets of any project; remembers the keys it has unwrapped."""

    def __init__(self, pool: asyncpg.Pool, master: MasterKey) -> None:
        self._pool = pool
        self._master = master
        self._by_project: dict[str, ProjectKey] = {}
        self._by_id: dict[str, ProjectKey] = {}

    async def of(self, project: str) -> ProjectKey:
        """The project's key, made now if it has none. Two processes that make one agree on the first."""
        known = self._by_project.get(project)
        if known is not None:
            return known
        with translated():
            record: Any = await self._pool.fetchrow(_SQL.first_key, project)
            if record is None:
                nonce, box = self._master.wrap(project, new_key())
                await self._pool.execute(_SQL.add_key, secrets.token_hex(8), project, nonce, box)
                record = await self._pool.fetchrow(_SQL.first_key, project)
        return self._unwrapped(record["id"], project, record["nonce"], record["box"])

    async def open(self, sealed: Sealed) -> Secret:
        """The secret in the clear. Raises `Unavailable` when its key was destroyed."""
        key = self._by_id.get(sealed.key_id)
        if key is None:
            with translated():
                record = await self._pool.fetchrow(_SQL.key_by_id, sealed.key_id)
            if record is None:
                raise Unavailable(f"the key {sealed.key_id} was destroyed: what it sealed is gone")
            key = self._unwrapped(sealed.key_id, record["project"], record["nonce"], record["box"])
        return key.open(sealed)

    def _unwrapped(self, key_id: str, project: str, nonce: bytes, box: bytes) -> ProjectKey:
        key = ProjectKey(key_id, project, self._master.unwrap(project, nonce, box))
        self._by_id[key_id] = key
        self._by_project.setdefault(project, key)
        return key
