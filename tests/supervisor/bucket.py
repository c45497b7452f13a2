"""A container of a real store, as tests look into it."""

from __future__ import annotations

from dataclasses import dataclass

from service.supervisor.data import Source, Store
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
