"""A push of a volume into one object of a data store: a tar archive, compressed when its key says so.

It is compressed when the key ends in `.gz` or `.tgz`, and never held in memory or on the disk as a whole. RWD
replaces the archive: it then holds what the volume holds. RW deletes nothing: what the archive held and the
volume does not stays in it, but for links, which no volume can hold. Where nothing changed, no bytes move.

Pushes into one archive take turns in this process, or each would keep what it found and lose what the other
sent. Whoever else replaces it while it is merged is seen before anything is sent.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from weakref import WeakValueDictionary

import structlog

from service.domain.shown import shown
from service.errors import DataError, Unavailable
from service.supervisor.data import disk
from service.supervisor.data.archive.pack import OVERHEAD_BYTES, Digest, Packing
from service.supervisor.data.archive.pull import fetched, find, origin_of
from service.supervisor.data.keys import ancestors, unsafe
from service.supervisor.data.model import CHUNK_BYTES, MAX_PARTS, Limits, ObjectInfo, Permission
from service.supervisor.data.outgoing import Unstable
from service.supervisor.data.progress import Meter, Progress
from service.supervisor.data.s3.store import Store
from service.supervisor.data.volume import beneath, manifest
from service.supervisor.data.volume.layout import manifest_path, partial_path, prepare
from service.supervisor.data.volume.manifest import ARCHIVE
from service.supervisor.data.volume.walk import Tree, walk

_SOME_BYTES = 1024**2
_CHANGES = 3
_log = structlog.get_logger()
#: By the archive (endpoint, container, key): who pushes into it holds its lock, which goes with the last one.
_turns: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()


class _Replaced(Exception):
    """Somebody else has written the archive since it was looked at."""


async def push_archive(
    store: Store,
    container: str,
    key: str,
    root: Path,
    *,
    permission: Permission,
    limits: Limits,
    on_progress: Callable[[Progress], None],
) -> Progress:
    """Pack the volume `root` into the object `key`; the module docstring says what becomes of the old one.

    Raises DataError beyond the limits, FetchRefused when RW would have to keep what is in an object that is
    no archive, StoreRefused and Unavailable; it can then be called again.
    """
    with disk.faults("volume"):
        tree = await disk.run(_settled, root, limits)
        pushing = _Push(store, container, key, root, tree, on_progress)
        async with _turns.setdefault((store.endpoint, container, key), asyncio.Lock()):
            return await pushing.run(permission, limits)


def _settled(root: Path, limits: Limits) -> Tree:
    with beneath.opened_root(root) as root_fd:
        beneath.settle(root_fd)
    return walk(root, limits)


class _Push:
    """One archive on its way to the store."""

    def __init__(
        self,
        store: Store,
        container: str,
        key: str,
        root: Path,
        tree: Tree,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._store = store
        self._container = container
        self._key = key
        self._root = root
        self._tree = tree
        self._compressed = key.endswith((".gz", ".tgz"))
        self._own = {path: root for path in tree.files if unsafe(path) is None}
        self._packed = self._own
        self._otherwise: list[str] = []
        self._meter = Meter(on_progress, len(tree.files) + len(tree.skipped), tree.total_bytes)
        self._unsafe = {path: why for path in tree.files if (why := unsafe(path)) is not None}

    async def run(self, permission: Permission, limits: Limits) -> Progress:
        for path, why in (self._tree.skipped | self._unsafe).items():
            self._meter.skip(f"{shown(path)}: {why}, not pushed")
        self._book = await disk.run(manifest.load, self._root)
        self._place = self._book.place(origin_of(self._store, self._container, self._key), "", "")
        merged = self._root.with_name(self._root.name + ".merge")
        for _ in range(_CHANGES):
            there = await self._found()
            if there is None:
                await self._store.ensure_container(self._container)
            elif self._is_unchanged(there, permission):
                return self._unmoved()
            self._packed, self._otherwise = dict(self._own), []
            try:
                if there is not None and permission == "RW" and self._lacks(there):
                    await self._keep(merged, limits)
                return await self._send(there, permission)
            except _Replaced:
                _log.info("archive replaced meanwhile", container=self._container, key=self._key)
            finally:
                await disk.run(_cleared, merged)
        raise Unavailable("the archive keeps changing while it is packed")

    async def _found(self) -> ObjectInfo | None:
        return await find(self._store, self._container, self._key, must_exist=False)

    def _is_unchanged(self, there: ObjectInfo, permission: Permission) -> bool:
        known = self._place.files
        whole = known.get(ARCHIVE)
        if whole is None or not whole.agrees(there):
            return False
        if any(path not in known or not known[path].is_same(self._tree.files[path]) for path in self._packed):
            return False
        return permission == "RW" or len(known) == len(self._packed) + 1

    def _lacks(self, there: ObjectInfo) -> bool:
        """Whether the archive may hold what the volume does not."""
        known = self._place.files
        whole = known.get(ARCHIVE)
        return (
            whole is None or not whole.agrees(there) or not (known.keys() - {ARCHIVE} <= self._packed.keys())
        )

    async def _keep(self, merged: Path, limits: Limits) -> None:
        """Add what the archive holds and the volume does not, unpacked beside the volume."""
        await disk.run(_cleared, merged)
        await prepare(merged)
        await fetched(
            self._store, self._container, self._key, merged, limits=limits, on_progress=lambda _: None
        )
        kept = (await disk.run(walk, merged, limits)).files.keys() - self._packed.keys()
        folders = {above for path in self._packed for above in ancestors(path)}
        for path in sorted(kept):
            if path in folders or any(above in self._packed for above in ancestors(path)):
                self._otherwise.append(f"{shown(path)}: the volume has its name otherwise, not kept")
            else:
                self._packed[path] = merged

    async def _send(self, there: ObjectInfo | None, permission: Permission) -> Progress:
        """Raises `_Replaced` before it sends what would undo another's push: RW is to delete nothing."""
        self._refuse_too_large()
        packing = Packing(self._packed)
        for _ in range(_CHANGES):
            try:
                if there is not None and await self._is_object(packing, there):
                    await self._record(packing, there)
                    return self._unmoved()
                if permission == "RW" and await self._found() != there:
                    raise _Replaced
                stream = self._counted(_stream(packing.stream(compressed=self._compressed)))
                info = await self._store.upload(self._container, self._key, stream)
            except Unstable:
                continue
            await self._record(packing, info)
            return self._finished(packing)
        raise Unavailable("the volume keeps changing while it is packed")

    def _refuse_too_large(self) -> None:
        most = CHUNK_BYTES * MAX_PARTS
        size = sum(self._tree.files[path].size for path in self._packed if path in self._tree.files)
        if size + len(self._packed) * OVERHEAD_BYTES > most:
            raise DataError(f"an archive has at most {most} bytes: push such a volume as files")

    async def _is_object(self, packing: Packing, there: ObjectInfo) -> bool:
        """Whether the archive that we would send is there already. Reads all files, and sends nothing."""
        digest = Digest()
        async for piece in _stream(packing.stream(compressed=self._compressed)):
            await disk.run(digest.add, piece)
        return digest.size == there.size and digest.is_of(there.etag)

    async def _counted(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in stream:
            yield piece
            self._meter.moved(len(piece))

    async def _record(self, packing: Packing, info: ObjectInfo) -> None:
        """The members as they were packed. Those that only the archive has describe no file of the volume."""
        files = self._place.files
        files.clear()
        for path, entry in packing.entries.items():
            ours = self._packed[path] == self._root
            files[path] = entry if ours else manifest.Entry(entry.size, entry.etag, 0, 0, 0)
        files[ARCHIVE] = manifest.Entry(info.size, info.etag, 0, 0, 0)
        await disk.run(manifest.save, self._root, self._book)

    def _unmoved(self) -> Progress:
        self._remark()
        self._meter.skipped += len(self._tree.files) - len(self._unsafe)
        return self._meter.finish()

    def _remark(self) -> None:
        for note in self._otherwise:
            self._meter.remark(note)

    def _finished(self, packing: Packing) -> Progress:
        self._remark()
        for note in packing.left_out.values():
            self._meter.skip(note)
        self._meter.completed = sum(path in self._tree.files for path in packing.entries)
        done = self._meter.finish()
        _log.info("archive pushed", container=self._container, key=self._key, files=done.completed)
        return done


async def _stream(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces, joined to some size, made in a disk thread."""
    try:
        while some := await disk.run(_some, pieces):
            yield some
    finally:
        await disk.run(_close, pieces)


def _some(pieces: Iterator[bytes]) -> bytes:
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) >= _SOME_BYTES:
            break
    return bytes(held)


def _close(pieces: Iterator[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


def _cleared(merged: Path) -> None:
    """Remove what a push unpacks beside the volume, also of one that was killed. Blocking."""
    for path in (merged, partial_path(merged)):
        if path.exists():
            shutil.rmtree(path)
    manifest_path(merged).unlink(missing_ok=True)
