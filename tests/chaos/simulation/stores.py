"""An object store in memory, with as much of `Store` as a pull and a push of small files use."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import datetime
from random import Random
from typing import NamedTuple

from service.errors import StoreMissing, Unavailable
from service.supervisor.data.model import ObjectInfo, StoreAccess
from service.supervisor.data.s3.bodies import Body
from service.supervisor.data.s3.reading import Changed
from tests.chaos.simulation.process import Process

#: The process whose task this is.
PROCESS: ContextVar[Process] = ContextVar("process")


class Held(NamedTuple):
    data: bytes
    modified: datetime

    def info(self, key: str) -> ObjectInfo:
        etag = hashlib.md5(self.data, usedforsecurity=False).hexdigest()
        return ObjectInfo(key, len(self.data), etag, self.modified)


class Objects:
    """What the store holds. `fault_rate` is how many calls fail, before or after their effect."""

    def __init__(self, clock: Callable[[], datetime], chance: Random) -> None:
        self.containers: dict[str, dict[str, Held]] = {}
        self.fault_rate = 0.0
        self.down_until = 0.0
        self.failures = 0
        self.chance = chance
        self.clock = clock

    def put(self, container: str, key: str, data: bytes) -> None:
        self.containers.setdefault(container, {})[key] = Held(data, self.clock())

    def __contains__(self, place: tuple[str, str]) -> bool:
        return place[1] in self.containers.get(place[0], {})

    @asynccontextmanager
    async def open(
        self, access: StoreAccess, *, allow: object = (), permits: object = None
    ) -> AsyncIterator[SimStore]:
        """In the place of `Store.open`."""
        yield SimStore(self, access)


class SimStore:
    """One process's way to it."""

    signs_bodies = False

    def __init__(self, held: Objects, access: StoreAccess) -> None:
        self._held = held
        self.endpoint = self.place = access.endpoint

    async def list(self, container: str, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        await self._asked("list")
        if container not in self._held.containers:
            raise StoreMissing(f"container {container} is not there")
        found = dict(self._held.containers[container])
        for key in sorted(found):
            if key.startswith(prefix):
                yield found[key].info(key)
        self._answered("list")

    async def ensure_container(self, name: str) -> None:
        await self._asked("make container")
        self._held.containers.setdefault(name, {})
        self._answered("make container")

    async def head(self, container: str, key: str) -> ObjectInfo:
        await self._asked("head")
        return self._object(container, key).info(key)

    async def get(
        self, container: str, expected: ObjectInfo, *, offset: int = 0, length: int | None = None
    ) -> Sequence[bytes]:
        await self._asked("get")
        found = self._object(container, expected.key)
        if found.info(expected.key).etag != expected.etag:
            raise Changed(found.info(expected.key))
        self._answered("get")
        # Without a length all of it is asked for, wherever it was to begin.
        return [found.data if length is None else found.data[offset : offset + length]]

    async def put(self, container: str, key: str, body: Body) -> str:
        await self._asked("put")
        if container not in self._held.containers:
            raise StoreMissing(f"container {container} is not there")
        self._held.put(container, key, bytes(body.data))
        self._answered("put")
        return body.md5.hex()

    async def delete_object(self, container: str, key: str) -> None:
        await self._asked("delete")
        self._held.containers.get(container, {}).pop(key, None)
        self._answered("delete")

    def _object(self, container: str, key: str) -> Held:
        try:
            return self._held.containers[container][key]
        except KeyError:
            raise StoreMissing(f"object {key} in {container} is not there") from None

    async def _asked(self, what: str) -> None:
        """Where a process may die, or the store may be away."""
        await PROCESS.get().gate(f"store {what}")
        if asyncio.get_running_loop().time() < self._held.down_until:
            self._held.failures += 1
            raise Unavailable(f"{what}: the store is away")
        self._answered(what)

    def _answered(self, what: str) -> None:
        if self._held.fault_rate and self._held.chance.random() < self._held.fault_rate:
            self._held.failures += 1
            raise Unavailable(f"{what}: the answer was lost")
