"""Where a generation comes from: objects of a data store, an archive in one, or an archive's URL.

The source itself is asked each time, with the credentials that the project has now. So what a project may no
longer read it does not get from the cache either, and a source that does not answer is as bad as without one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeAlias

from service.domain import spec
from service.domain.weburls import shown_url
from service.errors import StoreMissing
from service.supervisor.cache.entry import Generation
from service.supervisor.cache.record import Record
from service.supervisor.cache.refresh import Refresh
from service.supervisor.data import disk
from service.supervisor.data.archive.pull import find, origin_of, pull_archive
from service.supervisor.data.fetch import fetch_unless, place_of
from service.supervisor.data.keys import Plan
from service.supervisor.data.model import Limits, ObjectInfo, Source
from service.supervisor.data.progress import Progress
from service.supervisor.data.pull import look
from service.supervisor.data.s3.store import Store
from service.supervisor.data.web import Web

OnProgress: TypeAlias = Callable[[Progress], None]


class Origin(Protocol):
    """One look at a source, for one job. All but the pure ones raise as a pull does."""

    #: What the source is: the same for the same source. Accounts of one endpoint share it: what is in a
    #: generation is told by what the source lists.
    name: tuple[str, ...]
    #: What the manifest of a volume that is pulled from it calls it.
    place: tuple[str, str, str]
    #: The same for a log, without what may be secret in it.
    shown: str
    #: What `make` learnt: folders without files, and the ETag of a URL.
    folders: tuple[str, ...]
    etag: str
    #: Whether what an attempt that was cut off left behind can be gone on with.
    resumes: bool

    async def look(self) -> None:
        """Ask the source what it holds now."""

    def is_in(self, record: Record) -> bool:
        """Whether a generation holds what `look` saw. Pure."""

    async def admit(self, record: Record) -> None:
        """Raise unless this job may have what is in the generation: it may have been pulled for another."""

    def needs(self, base: Generation | None) -> int:
        """How many more bytes a new generation takes, as far as that is known before. Pure."""

    async def make(self, root: Path, base: Generation | None, on_progress: OnProgress) -> Progress | None:
        """Fill `root` with what the source holds; None when it turns out that this is what `base` holds."""


class Objects:
    """The objects of a container whose keys begin with a prefix."""

    resumes = True
    etag = ""

    def __init__(self, store: Store, source: Source, limits: Limits, concurrency: int) -> None:
        self.name: tuple[str, ...] = ("objects", store.endpoint, source.container, source.prefix)
        self.place = (store.place, source.container, source.prefix)
        self.shown = f"{store.endpoint}/{source.container}/{source.prefix}"
        self.folders: tuple[str, ...] = ()
        self._store = store
        self._source = source
        self._limits = limits
        self._concurrency = concurrency
        self._seen = Plan({}, frozenset())

    async def look(self) -> None:
        self._seen = await look(self._store, self._source, self._limits)
        self.folders = tuple(sorted(self._seen.folders))

    def is_in(self, record: Record) -> bool:
        files = self._seen.files
        return (
            files.keys() == record.files.keys()
            and self.folders == record.folders
            and all(record.files[path].agrees(info) for path, info in files.items())
        )

    async def admit(self, record: Record) -> None:
        """Keys may list what they may not read: one object stands for all. `look` knows the limits."""
        for info in list(self._seen.files.values())[:1]:
            with suppress(StoreMissing):  # deleted since it was listed, as may happen with any pull
                await self._store.head(self._source.container, info.key)

    def needs(self, base: Generation | None) -> int:
        known = base.record.files if base else {}
        return sum(
            info.size
            for path, info in self._seen.files.items()
            if path not in known or not known[path].agrees(info)
        )

    async def make(self, root: Path, base: Generation | None, on_progress: OnProgress) -> Progress | None:
        refresh = Refresh(self._store, self._source, root, self._limits, self._concurrency, base)
        with disk.faults("the node's cache"):
            return await refresh.run(self._seen, on_progress)


class Archive:
    """One object of a data store, unpacked. What it unpacks to is known only then."""

    resumes = False
    etag = ""
    folders: tuple[str, ...] = ()

    def __init__(
        self, store: Store, container: str, key: str, limits: Limits, *, must_exist: bool = False
    ) -> None:
        self.name: tuple[str, ...] = ("archive", store.endpoint, container, key)
        self.place = (origin_of(store, container, key), "", "")
        self.shown = f"{store.endpoint}/{container}/{key}"
        self._store = store
        self._container = container
        self._key = key
        self._must_exist = must_exist
        self._limits = limits
        self._seen: ObjectInfo | None = None

    async def look(self) -> None:
        self._seen = await find(self._store, self._container, self._key, must_exist=self._must_exist)

    def is_in(self, record: Record) -> bool:
        seen, known = self._seen, record.archive
        if seen is None or known is None:
            return seen is None and known is None
        return (known.size, known.etag) == (seen.size, seen.etag) and bool(seen.etag)

    async def admit(self, record: Record) -> None:
        record.check(self._limits)

    def needs(self, base: Generation | None) -> int:
        return self._seen.size if self._seen else 0

    async def make(self, root: Path, base: Generation | None, on_progress: OnProgress) -> Progress | None:
        return await pull_archive(
            self._store,
            self._container,
            self._key,
            root,
            limits=self._limits,
            on_progress=on_progress,
            must_exist=self._must_exist,
        )


class Url:
    """An archive on the web. Its server is asked for it unless it is still what it was."""

    resumes = False
    folders: tuple[str, ...] = ()

    def __init__(self, web: Web, source: spec.Web, limits: Limits) -> None:
        self.name: tuple[str, ...] = ("url", source.url)
        self.place = (place_of(source), "", "")
        self.shown = shown_url(source.url)
        self.etag = ""
        self._web = web
        self._source = source
        self._limits = limits

    async def look(self) -> None:
        """Looking and fetching are one request: see `make`."""

    def is_in(self, record: Record) -> bool:
        return False

    async def admit(self, record: Record) -> None:
        record.check(self._limits)

    def needs(self, base: Generation | None) -> int:
        return 0

    async def make(self, root: Path, base: Generation | None, on_progress: OnProgress) -> Progress | None:
        unless = base.record.etag if base else ""
        done = await fetch_unless(
            self._web, self._source, root, unless, limits=self._limits, on_progress=on_progress
        )
        if done is None:
            return None
        progress, self.etag = done
        return progress
