"""Pulling: make the volume hold what the store holds under the prefix.

The whole listing is checked before the first byte is written. Each file is downloaded beside the volume,
verified, and renamed into it, so that a file with its final name is always whole and a run can be killed
and repeated at any point.

What a pull leaves alone: a file that is already the object; a file that the job changed while its object
stayed the same; and files without an object. When both changed, the job's file is kept, and noted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from service.domain.shown import shown
from service.errors import StoreMissing, Unavailable
from service.supervisor.data import disk, pool
from service.supervisor.data.incoming import Incoming, InTheWay, Verdict, compare
from service.supervisor.data.keys import Mapping, Plan, Planning, too_large
from service.supervisor.data.model import CHUNK_BYTES, Limits, ObjectInfo, Source
from service.supervisor.data.progress import Meter, Progress
from service.supervisor.data.s3.reading import Changed, Pieces
from service.supervisor.data.s3.store import Store
from service.supervisor.data.transfer import PARTS_AT_ONCE, Transfer, listed
from service.supervisor.data.volume import beneath, manifest
from service.supervisor.data.volume.layout import fresh_partial

_CHANGES = 3
_COMPARE_AT_ONCE = 500


async def pull(
    store: Store,
    source: Source,
    root: Path,
    *,
    limits: Limits,
    on_progress: Callable[[Progress], None],
    concurrency: int,
) -> Progress:
    """Pull `source` into the directory `root`, made by `prepare`. A missing container is created, empty.

    Raises UnsafeKey or DataError before anything is written when the listing cannot become a volume, and
    StoreRefused, Unavailable or DataError (the disk, or objects that grew beyond the limits) on the way; it
    can then be called again, and moves only what is missing. Memory: at most `concurrency` chunks.
    """
    pulling = Pull(store, source, root, limits, concurrency)
    wanted = await look(store, source, limits)
    with disk.faults("volume"):
        return await pulling.run(wanted, on_progress)


async def look(store: Store, source: Source, limits: Limits) -> Plan:
    """What the store holds now, as files and folders. Makes a missing container. Raises as `pull`."""
    planning = Planning(Mapping(source.prefix), limits)
    async for info in listed(store, source):
        planning.add(info)
    return planning.done()


class Pull(Transfer):
    """One pull at work."""

    serial = 0

    def __init__(self, store: Store, source: Source, root: Path, limits: Limits, concurrency: int) -> None:
        super().__init__(store, source, root, concurrency)
        self.limits = limits

    async def run(self, wanted: Plan, on_progress: Callable[[Progress], None]) -> Progress:
        self.wanted = wanted
        self.meter = Meter(on_progress, len(wanted.files), sum(i.size for i in wanted.files.values()))
        await self.open_book()
        self.partial = await disk.run(fresh_partial, self.root)
        with (
            beneath.opened_root(self.root) as self.root_fd,
            beneath.opened_root(self.partial) as self.partial_fd,
        ):
            await disk.run(self._folders)
            await pool.each(await self._missing(), self._one, self.concurrency)
            # First the files, then the record: a file that a power cut shortened under a record that says
            # it was whole would pass for the job's own change, and be pushed over the good object.
            await disk.run(beneath.settle, self.root_fd)
        await self.close_book()
        await disk.run(shutil.rmtree, self.partial)
        return self.finish("volume pulled")

    def _folders(self) -> None:
        for folder in sorted(self.wanted.folders):
            try:
                with beneath.made_folder(self.root_fd, folder):
                    pass
            except OSError as error:
                self.meter.remark(f"{shown(folder)}: not made ({error.strerror})")

    async def _missing(self) -> list[tuple[str, ObjectInfo]]:
        """The objects to fetch; the others are counted, and what is known of them is brought up to date."""
        missing = []
        items = list(self.wanted.files.items())
        for start in range(0, len(items), _COMPARE_AT_ONCE):
            some = items[start : start + _COMPARE_AT_ONCE]
            verdicts = await disk.outcome(self.compared(some))
            for (path, info), verdict in zip(some, verdicts, strict=True):
                if verdict is None:
                    missing.append((path, info))
                elif isinstance(verdict, manifest.Entry):
                    self.known[path] = verdict
                    self.meter.skip()
                else:
                    self.meter.skip(verdict or None)
        return missing

    def compared(self, some: list[tuple[str, ObjectInfo]]) -> Generator[None, None, list[Verdict]]:
        """Of each, whether it is there already. Blocking, in steps."""
        verdicts: list[Verdict] = []
        for path, info in some:
            verdicts.append((yield from compare(self.root_fd, path, info, self.known.get(path))))
        return verdicts

    async def _one(self, item: tuple[str, ObjectInfo]) -> None:
        """Fetch an object that may be replaced or deleted while we read."""
        path, info = item
        for _ in range(_CHANGES):
            try:
                self.known[path] = await self._fetch(path, info)
                self.meter.complete()
                return
            except Changed as changed:
                self._count_again(info, changed.info)
                info = changed.info
            except StoreMissing:
                self.meter.skip(f"{shown(path)}: deleted from the store meanwhile")
                return
            except InTheWay as error:
                self.meter.fail(f"{shown(path)}: {error}")
                return
        raise Unavailable(f"object {shown(info.key)} keeps changing while it is read")

    def _count_again(self, before: ObjectInfo, now: ObjectInfo) -> None:
        """An object was replaced since it was listed: what was within the limits then may not be now."""
        self.meter.total_bytes += now.size - before.size
        if self.meter.total_bytes > self.limits.max_bytes:
            raise too_large(self.limits)

    async def _fetch(self, path: str, info: ObjectInfo) -> manifest.Entry:
        self.serial += 1
        temp = f"{self.serial}"
        file = Incoming(self.partial_fd, temp, info)
        if info.size <= CHUNK_BYTES:
            async with self.slots:
                chunks = await self.store.get(self.source.container, info)
                self.meter.moved(info.size)
                if isinstance(chunks, Pieces) and chunks.opaque:
                    file.no_hash()
                return await self.batches.run(file.whole, chunks, self.root_fd, path)
        try:
            await disk.run(file.open)
            await self._stretches(file, info)
            return await disk.run(file.place, self.root_fd, path)
        finally:
            await disk.run(file.close)

    async def _stretches(self, file: Incoming, info: ObjectInfo) -> None:
        """Fetch a large object in a few long stretches at once. Each has a slot, and a part of a chunk in
        memory."""
        length = -(-info.size // PARTS_AT_ONCE)

        async def take(offset: int, piece: Sequence[bytes]) -> None:
            await disk.run(file.write, offset, piece)
            self.meter.moved(sum(map(len, piece)))

        async def stretch(offset: int) -> None:
            async with self.slots:
                opaque = await self.store.stretch(
                    self.source.container,
                    info,
                    offset=offset,
                    length=min(length, info.size - offset),
                    take=take,
                )
            if opaque:
                file.no_hash()

        async with pool.group() as tasks:
            for offset in range(0, info.size, length):
                tasks.create_task(stretch(offset))
        await disk.in_slices(file.hashed())
