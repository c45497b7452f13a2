"""Pushing: bring to the store what the job made or changed, and with RWD delete what it deleted.

Only plain files are pushed. Each is opened beneath the volume, looked at on its descriptor, and read from
that same descriptor, so that nothing outside can be read by swapping names. A file that is as it was when
last synchronised moves no bytes, whatever became of its object meanwhile: the job has nothing to say
about it. Deleted are only objects that this volume was synchronised with and that nobody replaced since.

A run can be killed and repeated at any point: what arrived is recognised by its size and ETag.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from service.domain.shown import shown
from service.errors import DataError
from service.supervisor.data import disk, pool
from service.supervisor.data.keys import Mapping, ancestors
from service.supervisor.data.model import Limits, ObjectInfo, Permission, Source
from service.supervisor.data.outgoing import Outgoing, Unstable
from service.supervisor.data.progress import Meter, Progress
from service.supervisor.data.s3.bodies import Body
from service.supervisor.data.s3.store import Store
from service.supervisor.data.transfer import PARTS_AT_ONCE, Transfer, listed
from service.supervisor.data.volume import beneath, manifest
from service.supervisor.data.volume.walk import Tree, walk

_CHANGES = 3


async def push(
    store: Store,
    source: Source,
    root: Path,
    *,
    permission: Permission,
    limits: Limits,
    on_progress: Callable[[Progress], None],
    concurrency: int,
) -> Progress:
    """Push the directory `root` to `source`, which need not be where it was pulled from.

    What is not pushed (links, devices, names that are no key, files that keep changing) is counted and
    named in the notes. Raises DataError beyond the limits and for what the disk does not give, StoreRefused
    and Unavailable; it can then be called again. Memory: at most `concurrency` chunks.
    """
    with disk.faults("volume"):
        tree = await disk.run(_settled, root, limits)
        return await _Push(store, source, root, concurrency).run(tree, permission, on_progress)


def _settled(root: Path, limits: Limits) -> Tree:
    """What there is to push, safe on the disk first.

    A push that a power cut breaks off is repeated, and must not find files shorter than what it sent.
    """
    with beneath.opened_root(root) as root_fd:
        beneath.settle(root_fd)
    return walk(root, limits)


class _Push(Transfer):
    """One push at work."""

    async def run(
        self, tree: Tree, permission: Permission, on_progress: Callable[[Progress], None]
    ) -> Progress:
        self.tree = tree
        self.mapping = Mapping(self.source.prefix)
        size = sum(found.size for found in tree.files.values())
        self.meter = Meter(on_progress, len(tree.files) + len(tree.skipped), size)
        for path, why in tree.skipped.items():
            self.meter.skip(f"{shown(path)}: {why}, not pushed")
        await self.open_book()
        await self._look()
        doomed = self._doomed() if permission == "RWD" else set()
        changed = self._changed()
        await self._delete(self._blocking(doomed, changed))
        self.folders |= {above for path in self.listed for above in ancestors(path)}
        with beneath.opened_root(self.root) as self.root_fd:
            await pool.each(changed, self._one, self.concurrency)
        await self._delete(doomed & self.listed.keys())
        await self.close_book()
        return self.finish("volume pushed")

    async def _look(self) -> None:
        """What the place holds, as far as it concerns this volume: there may be far more than that.

        That is the objects whose names the volume has, had, or has as folders, in `listed`; and of all others
        only which files of the volume they make folders of, in `folders`.
        """
        files = self.tree.files
        concerned = {above for path in files for above in ancestors(path)}
        self.listed: dict[str, ObjectInfo] = {}
        self.folders: set[str] = set()
        async for info in listed(self.store, self.source):
            path = self.mapping.path(info.key)
            if path in files or path in self.known or path in concerned:
                self.listed[path] = info
            else:
                self.folders.update(above for above in ancestors(path) if above in files)

    def _changed(self) -> list[str]:
        """Files that are not as they were when last synchronised, and that have a possible key."""
        changed = []
        for path, found in self.tree.files.items():
            before = self.known.get(path)
            if why := self.mapping.unsafe(path):
                self.meter.skip(f"{shown(path)}: {why}, not pushed")
            elif before and before.is_same(found):
                self.meter.skip()
            else:
                changed.append(path)
        return changed

    def _doomed(self) -> set[str]:
        """What the job deleted: synchronised once, now surely gone. Forgets it where the store moved on."""
        doomed = set()
        for path, before in list(self.known.items()):
            if path in self.tree.files or self.tree.hides(path):
                continue
            info = self.listed.get(path)
            if info and before.agrees(info):
                doomed.add(path)
                continue
            if info:
                self.meter.remark(f"{shown(path)}: replaced in the store meanwhile, not deleted")
            del self.known[path]
        return doomed

    def _blocking(self, doomed: set[str], changed: list[str]) -> set[str]:
        """The doomed objects whose names changed files need as folders, or whose folders as names.

        They go first. All other deletions wait until everything is uploaded.
        """
        wanted = {above for path in changed for above in ancestors(path)}
        return {
            path
            for path in doomed
            if path in wanted or any(above in self.tree.files for above in ancestors(path))
        }

    async def _delete(self, paths: set[str]) -> None:
        async def one(path: str) -> None:
            await self.store.delete_object(self.source.container, self.mapping.key(path))
            del self.known[path]
            del self.listed[path]
            self.meter.delete()

        await pool.each(sorted(paths), one, self.concurrency)

    async def _one(self, path: str) -> None:
        if path in self.folders or any(above in self.listed for above in ancestors(path)):
            self.meter.fail(f"{shown(path)}: the store holds the name as both file and folder, not pushed")
            return
        try:
            for _ in range(_CHANGES):
                if await self._settled(path):
                    return
            self.meter.fail(f"{shown(path)}: kept changing while it was pushed, not pushed")
        except FileNotFoundError:
            self.meter.skip(f"{shown(path)}: deleted meanwhile, not pushed")
        except ValueError as why:
            self.meter.skip(f"{shown(path)}: {why}, not pushed")
        except OSError as error:
            if not beneath.is_the_jobs(error):
                raise DataError(f"{shown(path)}: cannot be read ({error.strerror})") from error
            self.meter.skip(f"{shown(path)}: cannot be read safely ({error.strerror}), not pushed")

    async def _settled(self, path: str) -> bool:
        """Push one file; False when it changed while it was read. Raises OSError, ValueError."""
        file = Outgoing(self.root_fd, path)
        try:
            async with self.slots:
                body = await self.batches.run(file.begin, signed=self.store.signs_bodies)
                entry = await self._small(file, path, body) if body else None
            self.known[path] = entry or await self._large(file, path)
        except Unstable:
            return False
        finally:
            if file.is_open:
                await disk.run(file.close)
        return True

    async def _small(self, file: Outgoing, path: str, body: Body) -> manifest.Entry:
        there = self.listed.get(path)
        if there and there.size == file.size and there.etag == body.md5.hex():
            return self._unchanged(file, there)
        etag = await self.store.put(self.source.container, self.mapping.key(path), body)
        self.meter.moved(file.size)
        self.meter.complete()
        return file.entry(etag)

    def _unchanged(self, file: Outgoing, there: ObjectInfo) -> manifest.Entry:
        self.meter.skip()
        return file.entry(there.etag)

    async def _large(self, file: Outgoing, path: str) -> manifest.Entry:
        there = self.listed.get(path)
        if there and there.size == file.size and await disk.outcome(file.is_object(there)):
            return self._unchanged(file, there)
        return await self._in_parts(file, self.mapping.key(path))

    async def _in_parts(self, file: Outgoing, key: str) -> manifest.Entry:
        """Send several parts at once. The upload is aborted when the file changed meanwhile."""
        window = asyncio.Semaphore(PARTS_AT_ONCE)

        async def part(number: int) -> None:
            async with self.slots:
                body = await disk.run(file.part, number, signed=self.store.signs_bodies)
                await upload.send(number, body)
            self.meter.moved(len(body.data))
            window.release()

        async with self.store.multipart(self.source.container, key) as upload:
            async with pool.group() as tasks:
                for number in range(1, file.parts + 1):
                    await window.acquire()
                    tasks.create_task(part(number))
            await disk.run(file.check_stable)
        # The ETag that an upload is answered with is not the one that every store lists later.
        info = await self.store.head(self.source.container, key)
        self.meter.complete()
        return file.entry(info.etag)
