"""What a pull and a push have in common: one volume, one place in a store, one bound on chunks in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from service.errors import StoreMissing
from service.supervisor.data import disk
from service.supervisor.data.model import ObjectInfo, Source
from service.supervisor.data.progress import Meter, Progress
from service.supervisor.data.s3.store import Store
from service.supervisor.data.volume import manifest

PARTS_AT_ONCE = 4
"""Of one large object; other objects go on beside it."""

_log = structlog.get_logger()


async def listed(store: Store, source: Source) -> AsyncIterator[ObjectInfo]:
    """All objects of the place; none, and the container made, when it is missing."""
    try:
        async for info in store.list(source.container, source.prefix):
            yield info
    except StoreMissing:
        await store.ensure_container(source.container)


class Transfer:
    """A transfer at work. `slots` bounds the chunks in memory; `known` is what the manifest says."""

    meter: Meter

    def __init__(self, store: Store, source: Source, root: Path, concurrency: int) -> None:
        self.store = store
        self.source = source
        self.root = root
        self.concurrency = concurrency
        self.slots = asyncio.Semaphore(concurrency)
        self.batches = disk.Batches()

    async def open_book(self) -> None:
        """Read the manifest."""
        self._book = await disk.run(manifest.load, self.root)
        self.known = self._book.place(self.store.place, self.source.container, self.source.prefix).files

    async def close_book(self) -> None:
        """Write the manifest, when what `known` says is true and safe on the disk."""
        await disk.run(manifest.save, self.root, self._book)

    def finish(self, event: str) -> Progress:
        """Report the end, and log it."""
        done = self.meter.finish()
        _log.info(
            event,
            container=self.source.container,
            prefix=self.source.prefix,
            objects=done.completed,
            unchanged=done.skipped,
            failed=done.failed,
            deleted=done.deleted,
            bytes=done.transferred_bytes,
        )
        return done
