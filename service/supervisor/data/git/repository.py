"""Pulling a volume from a repository of a git store: its files, or those whose path begins with a prefix.

A prefix means what it means in an object store (`keys.Mapping`). Like any fetch, one that was killed begins
again, and leaves alone what the job made or changed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from service.domain.shown import shown
from service.errors import FetchMissing
from service.supervisor.data import disk
from service.supervisor.data.archive.unpack import unpack
from service.supervisor.data.git.files import repository_archive
from service.supervisor.data.git.reach import Remote
from service.supervisor.data.keys import Mapping
from service.supervisor.data.model import Limits
from service.supervisor.data.progress import Meter, Progress
from service.supervisor.data.volume.layout import fresh_partial
from service.supervisor.data.web import Web


async def fetch_repository(
    web: Web,
    remote: Remote,
    prefix: str,
    root: Path,
    *,
    limits: Limits,
    on_progress: Callable[[Progress], None],
) -> Progress:
    """Make the volume `root` hold the files of `remote` below `prefix`. Raises as `fetch.fetch`.

    A prefix that nothing begins with is refused: nobody can put it there through us.
    """
    with disk.faults("volume"):
        partial = await disk.run(fresh_partial, root)
        try:
            meter = Meter(on_progress, 0, 0)
            folder = partial / "git"
            await disk.run(folder.mkdir, mode=0o700)
            archive = await repository_archive(
                web,
                remote,
                folder,
                max_bytes=limits.max_bytes,
                on_bytes=lambda size: meter.moved(size - meter.transferred_bytes),
                below=Mapping(prefix).folder.rstrip("/"),
            )
            done = await unpack(
                archive,
                root,
                origin=f"git:{remote.url}#{remote.ref or ''}:{prefix}",
                limits=limits,
                on_progress=on_progress,
                moved=meter.snapshot(),
                prefix=prefix,
            )
        finally:
            await disk.run(shutil.rmtree, partial)
    if prefix and not done.total:
        raise FetchMissing(f"{remote.shown}: it has no file whose path begins with {shown(prefix)}")
    return done
