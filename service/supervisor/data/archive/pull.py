"""A pull of a volume that is one object in a data store: an archive, unpacked.

It is any archive that `unpack` reads, told by its content; one that is not there is an empty volume, where a
push is to make it. The manifest keeps which object it was (`manifest.ARCHIVE`), beside all of its members.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from service.domain.shown import shown
from service.errors import DataError, StoreMissing, Unavailable
from service.supervisor.data import disk
from service.supervisor.data.archive.unpack import unpack
from service.supervisor.data.incoming import PLAIN_MD5
from service.supervisor.data.model import JOBS_LIMIT, Limits, ObjectInfo
from service.supervisor.data.progress import Meter, Progress
from service.supervisor.data.s3.reading import Download
from service.supervisor.data.s3.store import Store
from service.supervisor.data.volume import beneath, manifest
from service.supervisor.data.volume.layout import fresh_partial
from service.supervisor.data.volume.manifest import ARCHIVE


async def pull_archive(
    store: Store,
    container: str,
    key: str,
    root: Path,
    *,
    limits: Limits,
    on_progress: Callable[[Progress], None],
    must_exist: bool = False,
) -> Progress:
    """Make the volume `root` hold what the archive holds; see `unpack` for what is left alone.

    An archive that is not there yet leaves the volume empty, with a note, and a missing container is made;
    with `must_exist` it is a StoreMissing. Raises as `unpack`, and StoreRefused and Unavailable.
    """
    with disk.faults("volume"):
        info = await find(store, container, key, must_exist=must_exist)
        if info is None:
            await store.ensure_container(container)
            meter = Meter(on_progress, 0, 0)
            meter.remark(f"{shown(key)}: not there yet, so the volume begins empty")
            return meter.finish()
        origin = origin_of(store, container, key)
        held = await disk.run(_held, root, origin, info)
        if held is not None:
            meter = Meter(on_progress, held, 0)
            meter.skipped = held
            return meter.finish()
        return await fetched(store, container, key, root, limits=limits, on_progress=on_progress)


async def fetched(
    store: Store,
    container: str,
    key: str,
    root: Path,
    *,
    limits: Limits,
    on_progress: Callable[[Progress], None],
) -> Progress:
    """Download the object beside the volume, and unpack it."""
    origin = origin_of(store, container, key)
    partial = await disk.run(fresh_partial, root)
    try:
        path = partial / "archive"
        async with store.download(container, key) as download:
            meter = Meter(on_progress, 0, download.info.size)
            await _save(download, path, limits, meter)
        moved = meter.snapshot()
        done = await unpack(path, root, origin=origin, limits=limits, on_progress=on_progress, moved=moved)
        if not done.failed:  # else the archive holds more than the record says
            await disk.run(_remember, root, origin, download.info)
    finally:
        await disk.run(shutil.rmtree, partial)
    return done


def origin_of(store: Store, container: str, key: str) -> str:
    """What the manifest calls the archive."""
    return f"archive:{store.place}/{container}/{key}"


async def find(store: Store, container: str, key: str, *, must_exist: bool) -> ObjectInfo | None:
    """The object; None when it is not there, or StoreMissing if it must be."""
    try:
        return await store.head(container, key)
    except StoreMissing:
        if must_exist:
            raise StoreMissing(f"object {shown(key)} is not there") from None
        return None


def _held(root: Path, origin: str, info: ObjectInfo) -> int | None:
    """How many members the volume holds of this very object; None when one is missing or it is another."""
    known = dict(manifest.load(root).place(origin, "", "").files)
    whole = known.pop(ARCHIVE, None)
    if whole is None or not whole.agrees(info):
        return None
    with beneath.opened_root(root) as root_fd:
        return len(known) if all(_is_there(root_fd, path) for path in known) else None


def _is_there(root_fd: int, path: str) -> bool:
    try:
        with beneath.opened_file(root_fd, path):
            return True
    except (OSError, ValueError):
        return False


async def _save(download: Download, path: Path, limits: Limits, meter: Meter) -> None:
    """The object's bytes in a file of ours, bounded and verified."""
    info, what = download.info, f"object {shown(download.info.key)}"
    if info.size > limits.max_bytes:
        raise DataError(f"{what}: more than {limits.max_bytes} bytes{JOBS_LIMIT}")
    total, size = hashlib.md5(usedforsecurity=False), 0
    file: BinaryIO = await disk.run(path.open, "xb")
    try:
        async for piece in download.stream:
            size += len(piece)
            if size > info.size:
                break
            await disk.run(_append, file, total, piece)
            meter.moved(len(piece))
    finally:
        await disk.run(file.close)
    is_hash = PLAIN_MD5.fullmatch(info.etag) and not info.opaque
    if size != info.size or (is_hash and total.hexdigest() != info.etag):
        raise Unavailable(f"{what} arrived damaged")


def _append(file: BinaryIO, total: hashlib._Hash, piece: bytes) -> None:
    total.update(piece)
    file.write(piece)


def _remember(root: Path, origin: str, info: ObjectInfo) -> None:
    book = manifest.load(root)
    book.place(origin, "", "").files[ARCHIVE] = manifest.Entry(info.size, info.etag, 0, 0, 0)
    manifest.save(root, book)
