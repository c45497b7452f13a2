"""A container of a real store, as tests look into it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from service.supervisor.data import Source, Store, StoreAccess
from tests.data.sync import fill, held


@dataclass
class Bucket:
    """A container of the store, seen past any door."""

    name: str
    store: Store

    async def put(self, objects: dict[str, bytes]) -> None:
        await fill(self.store, Source(self.name), objects)

    async def holds(self) -> dict[str, bytes]:
        return await held(self.store, Source(self.name))


@asynccontextmanager
async def a_bucket(access: StoreAccess) -> AsyncIterator[Bucket]:
    """A new one, and empty."""
    name = f"test-{uuid4().hex[:16]}"
    async with Store.open(access) as store:
        await store.ensure_container(name)
        yield Bucket(name, store)
