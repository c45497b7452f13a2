"""Stores kept open: opening one costs a third of a second of CPU, and the same few are used all the time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from service.outward.addresses import OWN_NETWORKS, Network
from service.supervisor.data.model import StoreAccess
from service.supervisor.data.s3.permits import Permits
from service.supervisor.data.s3.store import Store

MOST_OPEN = 16


@dataclass
class _Held:
    """One open store, how many use it now, and what closes it."""

    store: Store
    closing: AsyncExitStack
    users: int = 0
    #: Nobody gets it any more; whoever uses it last closes it.
    forgotten: bool = False


@dataclass
class Shelf:
    """Opens each store once, in the networks `allow` and at public addresses; closes those that nobody
    uses when there are too many, and all at the end."""

    most: int = MOST_OPEN
    allow: tuple[Network, ...] = OWN_NETWORKS
    #: For large answers of all its stores.
    permits: Permits = field(default_factory=Permits)
    _held: OrderedDict[StoreAccess, _Held] = field(default_factory=OrderedDict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)
    _forgotten: int = 0

    def __len__(self) -> int:
        return len(self._held)

    @asynccontextmanager
    async def open(self, access: StoreAccess) -> AsyncIterator[Store]:
        """The store of these keys. Raises as `Store.open`."""
        held = await self._taken(access)
        try:
            await self._trim()
            yield held.store
        finally:
            held.users -= 1
            if held.forgotten and not held.users:
                self._close_soon(held)

    def _opened(self, access: StoreAccess) -> AbstractAsyncContextManager[Store]:
        return Store.open(access, allow=self.allow, permits=self.permits)

    def forget(self) -> None:
        """Keep no keys in memory: every store that nobody uses is closed, and each other one by its last
        user. What they are asked for next opens them anew, if its keys still are."""
        self._forgotten += 1
        for held in self._held.values():
            held.forgotten = True
            if not held.users:
                self._close_soon(held)
        self._held.clear()

    def _close_soon(self, held: _Held) -> asyncio.Task[None]:
        task = asyncio.create_task(held.closing.aclose(), name="store closing")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _taken(self, access: StoreAccess) -> _Held:
        forgotten = self._forgotten
        async with self._turn:
            held = self._held.get(access)
            if held is None:
                stack = AsyncExitStack()
                held = _Held(await stack.enter_async_context(self._opened(access)), stack)
                # Keys that were read before all were forgotten may be gone: they serve this caller alone.
                held.forgotten = forgotten != self._forgotten
                if not held.forgotten:
                    self._held[access] = held
            held.users += 1
            if not held.forgotten:
                self._held.move_to_end(access)
            return held

    async def _trim(self) -> None:
        """Close what there is too much of, also when whoever waits for it is cancelled."""
        idle = [access for access, held in self._held.items() if not held.users]
        much = idle[: max(0, len(self._held) - self.most)]
        if closing := [self._close_soon(self._held.pop(access)) for access in much]:
            await asyncio.wait(closing)

    async def close(self) -> None:
        """Close them all; only when nobody uses them any more."""
        while self._held:
            _, held = self._held.popitem()
            await held.closing.aclose()
        await asyncio.gather(*self._closing)
