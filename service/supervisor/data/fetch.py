"""Pulling a volume from a public git repository or a public archive: fetch it beside the volume, unpack it.

A pull that was killed begins again; what it left beside the volume is thrown away.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from service.domain import spec
from service.supervisor.data import disk
from service.supervisor.data.git import git_archive
from service.supervisor.data.layout import fresh_partial
from service.supervisor.data.model import Limits
from service.supervisor.data.progress import Meter, Progress
from service.supervisor.data.unpack import unpack
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
    with disk.faults("volume"):
        partial = await disk.run(fresh_partial, root)
        try:
            meter = Meter(on_progress, 0, 0)
            archive = await _fetched(web, source, partial, limits.max_bytes, meter)
            return await unpack(
                archive,
                root,
                origin=f"{source.kind}:{source.url}",
                limits=limits,
                on_progress=on_progress,
                moved=meter.snapshot(),
            )
        finally:
            await disk.run(shutil.rmtree, partial)


async def _fetched(web: Web, source: spec.Web, partial: Path, max_bytes: int, meter: Meter) -> Path:
    def came(more: int, expected: int) -> None:
        meter.total_bytes = expected
        meter.moved(more)

    def grew(size: int) -> None:
        meter.moved(size - meter.transferred_bytes)

    if source.kind == "git":
        folder = partial / "git"
        await disk.run(folder.mkdir, mode=0o700)
        return await git_archive(web, source.url, folder, max_bytes=max_bytes, on_bytes=grew)
    archive = partial / "archive"
    await download(web, source.url, archive, max_bytes=max_bytes, on_bytes=came)
    return archive
