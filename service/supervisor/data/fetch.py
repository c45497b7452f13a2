"""Pulling a volume from a public git repository or a public archive: fetch it beside the volume, unpack it.

A pull that was killed begins again; what it left beside the volume is thrown away.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from service.domain import spec
from service.supervisor.data import disk
from service.supervisor.data.archive.unpack import unpack
from service.supervisor.data.git.files import git_archive
from service.supervisor.data.model import Limits
from service.supervisor.data.progress import Meter, Progress
from service.supervisor.data.volume.layout import fresh_partial
from service.supervisor.data.web import Web, download


async def fetch(
    web: Web,
    source: spec.Web,
    root: Path,
    *,
    limits: Limits,
    on_progress: Callable[[Progress], None],
) -> Progress:
    """Make the volume `root` hold what the public `source` holds; see `unpack` for what is left alone.

    What is fetched, and what that unpacks to, may each have the volume's bytes. Raises FetchRefused,
    UnsafeKey or DataError for what stays wrong, Unavailable for what may pass.
    """
    if source.kind == "git":
        return await _git(web, source, root, limits, on_progress)
    done = await fetch_unless(web, source, root, "", limits=limits, on_progress=on_progress)
    if done is None:
        raise AssertionError("unreachable: nothing is unchanged that is compared with nothing")
    return done[0]


async def fetch_unless(
    web: Web,
    source: spec.Web,
    root: Path,
    unless: str,
    *,
    limits: Limits,
    on_progress: Callable[[Progress], None],
) -> tuple[Progress, str] | None:
    """As `fetch`, of an archive, and its ETag; None when it is still what had the ETag `unless`."""
    async with _beside(root) as partial:
        meter = Meter(on_progress, 0, 0)

        def came(more: int, expected: int) -> None:
            meter.total_bytes = expected
            meter.moved(more)

        archive = partial / "archive"
        etag = await download(
            web, source.url, archive, max_bytes=limits.max_bytes, on_bytes=came, unless=unless
        )
        if etag is None:
            return None
        return await _unpacked(archive, source, root, limits, on_progress, meter), etag


async def _git(
    web: Web, source: spec.Web, root: Path, limits: Limits, on_progress: Callable[[Progress], None]
) -> Progress:
    async with _beside(root) as partial:
        meter = Meter(on_progress, 0, 0)
        folder = partial / "git"
        await disk.run(folder.mkdir, mode=0o700)
        archive = await git_archive(
            web,
            source.url,
            folder,
            max_bytes=limits.max_bytes,
            on_bytes=lambda size: meter.moved(size - meter.transferred_bytes),
        )
        return await _unpacked(archive, source, root, limits, on_progress, meter)


@asynccontextmanager
async def _beside(root: Path) -> AsyncIterator[Path]:
    """A folder beside the volume for what is fetched, while the context lasts."""
    with disk.faults("volume"):
        partial = await disk.run(fresh_partial, root)
        try:
            yield partial
        finally:
            await disk.run(shutil.rmtree, partial)


def place_of(source: spec.Web) -> str:
    """What a manifest calls it."""
    return f"{source.kind}:{source.url}"


async def _unpacked(
    archive: Path,
    source: spec.Web,
    root: Path,
    limits: Limits,
    on_progress: Callable[[Progress], None],
    meter: Meter,
) -> Progress:
    return await unpack(
        archive,
        root,
        origin=place_of(source),
        limits=limits,
        on_progress=on_progress,
        moved=meter.snapshot(),
    )
