"""A generation from a listing: what the one before has already is linked, and only the rest is fetched."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

from service.supervisor.cache.entry import Generation
from service.supervisor.data import disk
from service.supervisor.data.incoming import Verdict, compare
from service.supervisor.data.keys import Plan, ancestors
from service.supervisor.data.model import Limits, ObjectInfo, Source
from service.supervisor.data.pull import Pull
from service.supervisor.data.s3.store import Store
from service.supervisor.data.volume import beneath, manifest

#: The file is gone, or this file system gives it no further name: then it is fetched.
_UNLINKED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV})


class Refresh(Pull):
    """Fills `root`, which may hold what an attempt that was cut off left there: it is gone on with.

    No job ever sees `root` before it is complete, so everything in it is ours.
    """

    def __init__(
        self,
        store: Store,
        source: Source,
        root: Path,
        limits: Limits,
        concurrency: int,
        base: Generation | None,
    ) -> None:
        super().__init__(store, source, root, limits, concurrency)
        self._base = base

    async def open_book(self) -> None:
        """Only what is wanted stays of an earlier attempt, so nothing can be in the way of a file."""
        await disk.run(purge, self.root, self.wanted)
        await super().open_book()

    def compared(self, some: list[tuple[str, ObjectInfo]]) -> Generator[None, None, list[Verdict]]:
        verdicts: list[Verdict] = []
        with ExitStack() as stack:
            base_fd = self._opened_base(stack)
            for path, info in some:
                linked = self._linked(base_fd, path, info)
                verdicts.append(linked or (yield from compare(self.root_fd, path, info, None)))
        return verdicts

    def _opened_base(self, stack: ExitStack) -> int | None:
        try:
            return stack.enter_context(beneath.opened_root(self._base.files)) if self._base else None
        except FileNotFoundError:
            return None  # damaged: all is fetched anew

    def _linked(self, base_fd: int | None, path: str, info: ObjectInfo) -> manifest.Entry | None:
        """The file of the generation before under its new name; None when it is not the object."""
        held = self._base.record.files.get(path) if self._base else None
        if base_fd is None or held is None or not held.agrees(info):
            return None
        folder, _, name = path.rpartition("/")
        try:
            found = os.stat(path, dir_fd=base_fd, follow_symlinks=False)
            if not held.describes(found):
                return None  # damaged: it is fetched anew
            with beneath.made_folder(self.root_fd, folder) as parent:
                _link(base_fd, path, parent, name, found.st_ino)
                return manifest.entry(os.stat(name, dir_fd=parent, follow_symlinks=False), info.etag)
        except OSError as error:
            if error.errno in _UNLINKED:
                return None
            raise


def _link(base_fd: int, path: str, parent: int, name: str, inode: int) -> None:
    """Also over what an attempt that was cut off left there."""
    try:
        os.link(path, name, src_dir_fd=base_fd, dst_dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        if os.stat(name, dir_fd=parent, follow_symlinks=False).st_ino == inode:
            return
        os.unlink(name, dir_fd=parent)
        os.link(path, name, src_dir_fd=base_fd, dst_dir_fd=parent, follow_symlinks=False)


def purge(root: Path, wanted: Plan) -> None:
    """Remove what an attempt that was cut off left and what is not wanted any more. Blocking."""
    folders = set(wanted.folders)
    for path in (*wanted.files, *wanted.folders):
        folders.update(ancestors(path))
    for above, below, names, fd in os.fwalk(root, topdown=False):
        here = os.path.relpath(above, root)
        prefix = "" if here == "." else f"{here}/"
        for name in names:
            if prefix + name not in wanted.files:
                os.unlink(name, dir_fd=fd)
        for name in below:
            if prefix + name not in folders:
                os.rmdir(name, dir_fd=fd)
