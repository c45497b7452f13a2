"""Doing what is left to be done for an engine that is gone, in its supervisor's stead and under its lease.

So nobody else does it at the same time. A supervisor of that engine that comes back, or another that also
finds it gone, waits for the lease until this is over; one that was stopped past its lease learns of a new
epoch at its next renewal, or word, and lets go.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from service.errors import JobyardError, StaleEpoch, Unavailable
from service.ledger.leases import Lease
from service.supervisor.effects import Yard
from service.tasks import dropped

_RELEASED_IN_S = 2.0


class Stead:
    """One thing at a time for each engine: it has one lease."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._held: set[str] = set()

    def has(self, engine: str) -> bool:
        """Whether it is us who have its lease."""
        return engine in self._held

    async def act(self, engine: str, work: Callable[[Yard], Coroutine[Any, Any, None]]) -> None:
        """`work`, with what it says and does under the lease of `engine`.

        Raises what it raises, and `Unavailable` when somebody has the lease, or it cannot be kept.
        """
        async with self._turns[engine]:
            lease = await self._take(engine)
            self._held.add(engine)
            try:
                await self._under(lease, work)
            except StaleEpoch as error:
                raise _back(engine) from error
            finally:
                self._held.discard(engine)
                with suppress(JobyardError, TimeoutError):  # then it runs out by itself
                    async with asyncio.timeout(_RELEASED_IN_S):
                        await self._yard.ledger.release_lease(lease)

    async def _take(self, engine: str) -> Lease:
        """Never one that has not run out. Whoever gets the host's lock of that engine sees by the holder's
        name that we live, and waits."""
        yard = self._yard
        lease = await yard.ledger.take_lease(engine, yard.lease.holder, yard.settings.lease_ttl_s)
        if lease is None:
            raise _back(engine)
        return lease

    async def _under(self, lease: Lease, work: Callable[[Yard], Coroutine[Any, Any, None]]) -> None:
        theirs = replace(self._yard, engine_id=lease.engine, lease=lease)
        done, kept = asyncio.create_task(work(theirs)), asyncio.create_task(_keep(theirs))
        try:
            await asyncio.wait({done, kept}, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                kept.result()  # it only ends by failing
            await done
        finally:
            await dropped(kept)
            await dropped(done)


async def _keep(theirs: Yard) -> None:
    """Renew the lease for ever. Raises when it was not renewed and still stands for a moment: who acts in
    another's stead has stopped before somebody else can begin."""
    moment_s = theirs.settings.lease_ttl_s / 4
    while True:
        try:
            async with asyncio.timeout(moment_s):
                await theirs.still_ours()
        except TimeoutError as error:
            raise Unavailable(
                f"the lease of engine {theirs.engine_id} could not be renewed in time"
            ) from error
        await asyncio.sleep(moment_s)


def _back(engine: str) -> Unavailable:
    return Unavailable(f"engine {engine} has a supervisor again")
