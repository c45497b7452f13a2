"""An archive into a volume, as if it were a store's listing: the same names, bounds and rules as a pull.

It is read twice. The first time everything is looked at, added up and hashed, so that an archive that
cannot become a volume is refused before anything is written. The second time its files are written beside
the volume, each verified and renamed into it. What of the volume is left alone is what `pull` leaves alone:
files that the job made or changed, and those that are the same already.

Regular files and folders only. Links, devices and fifos are left out, and noted; the execute bit is kept,
other permissions are not. Of two members of one name the later counts, as with tar.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

import structlog

from service.domain.shown import shown
from service.errors import DataError
from service.supervisor.data import disk
from service.supervisor.data.archive.members import Member, Reader
from service.supervisor.data.archive.tar import TarReader, opened
from service.supervisor.data.archive.zips import ZipReader
from service.supervisor.data.incoming import Incoming, InTheWay, compare
from service.supervisor.data.keys import Mapping, Plan, plan, unsafe
from service.supervisor.data.model import JOBS_LIMIT, Limits, ObjectInfo
from service.supervisor.data.progress import MAX_NOTES, Meter, Progress
from service.supervisor.data.volume import beneath, manifest
from service.supervisor.data.volume.layout import partial_path

_MAX_TIME_S = 2**32
_ZIPS = (b"PK\x03\x04", b"PK\x05\x06")
_log = structlog.get_logger()


async def unpack(
    archive: Path,
    root: Path,
    *,
    origin: str,
    limits: Limits,
    on_progress: Callable[[Progress], None],
    moved: Progress | None = None,
    prefix: str = "",
) -> Progress:
    """Unpack the file `archive` into the volume `root`; the volume's partial folder must exist.

    `origin` names where it is from, in the manifest; `moved` says what was transferred for it. Of its members
    those are taken whose names begin with `prefix`, as `keys.Mapping` says. Raises FetchRefused, UnsafeKey or
    DataError before anything is written when the archive cannot become a volume, and DataError (the disk)
    later; it can then be called again.
    """
    work = _Unpack(archive, root, origin, limits, moved or Progress(), prefix)
    with disk.faults("volume"):
        await disk.in_slices(work.scan(), lambda: work.pass_on(on_progress))
        await disk.in_slices(work.write(), lambda: work.pass_on(on_progress))
    done = work.meter.finish()
    on_progress(done)
    _log.info("archive unpacked", files=done.completed, unchanged=done.skipped, failed=done.failed)
    return done


class _Unpack:
    """One archive on its way. Its generators do the blocking work, in steps."""

    def __init__(
        self, archive: Path, root: Path, origin: str, limits: Limits, moved: Progress, prefix: str
    ) -> None:
        self._archive = archive
        self._root = root
        self._origin = origin
        self._limits = limits
        self._modes: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._notes: list[str] = []
        self._moved = moved
        self._mapping = Mapping(prefix)
        self._wanted = Plan({}, frozenset())
        self._news: Progress | None = None
        self.meter = Meter(self._heard, 0, moved.total_bytes)
        self.meter.transferred_bytes = moved.transferred_bytes

    def _heard(self, progress: Progress) -> None:
        self._news = progress

    def pass_on(self, on_progress: Callable[[Progress], None]) -> None:
        """Tell what the meter said since the last time: it speaks in a disk thread."""
        if self._news is not None:
            on_progress(self._news)
            self._news = None

    def scan(self) -> Iterator[None]:
        """Look at all of it. `plan` judges the names and the bounds; sizes are bounded before the bytes."""
        objects: list[ObjectInfo] = []
        size = 0
        with self._archive.open("rb") as file:
            reader = _reader(cast(BinaryIO, file))
            for number, member in enumerate(reader):
                size += member.size
                self._bound(number + 1, size)
                yield
                yield from self._look(reader, number, member, objects)
                yield from reader.rest()
            if reader.comment:
                self._notes.insert(0, f"commit {shown(reader.comment)}")
        self._wanted = plan(objects, Mapping(""), self._limits)

    def _look(self, reader: Reader, number: int, member: Member, objects: list[ObjectInfo]) -> Iterator[None]:
        """One member, which becomes an object unless it is left out."""
        name = self._named(member)
        if member.why:
            self._leave_out(member)
            return
        if not name:
            return
        if not member.is_folder and name.endswith("/"):
            self._note(f"{shown(name)}: left out (a file whose name is a folder's)")
            return
        total = hashlib.md5(usedforsecurity=False)
        if not member.is_folder:
            for chunk in reader.chunks():
                total.update(chunk)
                yield
            self._see(name, number, member)
        key = f"{name}/" if member.is_folder else name
        objects.append(ObjectInfo(key, member.size, total.hexdigest(), _when(member)))
        _early(name, self._limits)

    def _bound(self, count: int, size: int) -> None:
        if count > self._limits.max_objects:
            raise DataError(f"the archive holds more than {self._limits.max_objects} entries")
        if size > self._limits.max_bytes:
            raise DataError(f"the archive holds more than {self._limits.max_bytes} bytes{JOBS_LIMIT}")

    def _named(self, member: Member) -> str:
        """The member's path in the volume; "" for what does not come into it. Not checked."""
        name = _name(member)
        return self._mapping.path(name) if name.startswith(self._mapping.prefix) else ""

    def _leave_out(self, member: Member) -> None:
        if self._named(member):
            self._note(f"{shown(member.name)}: left out ({member.why})")

    def _note(self, text: str) -> None:
        if len(self._notes) < MAX_NOTES:
            self._notes.append(text)

    def _see(self, name: str, number: int, member: Member) -> None:
        if name in self._last:
            self._note(f"{shown(name)}: more than once in the archive; the last one counts")
        self._last[name] = number
        self._modes[name] = 0o755 if member.executable else 0o644

    def write(self) -> Iterator[None]:
        """Write what is not there already. The record comes last, when the files are safe on the disk."""
        self.meter.total = len(self._wanted.files)
        for note in self._notes:
            self.meter.remark(note)
        book = manifest.load(self._root)
        known = book.place(self._origin, "", "").files
        with (
            self._archive.open("rb") as file,
            beneath.opened_root(self._root) as root_fd,
            beneath.opened_root(partial_path(self._root)) as partial_fd,
        ):
            yield from self._folders(root_fd)
            reader = _reader(cast(BinaryIO, file))
            for number, member in enumerate(reader):
                yield
                name = self._named(member)
                if not member.is_folder and self._last.get(name) == number:
                    yield from self._file(reader, name, number, root_fd, partial_fd, known)
                yield from reader.rest()
            beneath.settle(root_fd)
        for gone in known.keys() - self._wanted.files.keys():
            del known[gone]
        manifest.save(self._root, book)

    def _folders(self, root_fd: int) -> Iterator[None]:
        for folder in sorted(self._wanted.folders):
            yield
            try:
                with beneath.made_folder(root_fd, folder):
                    pass
            except OSError as error:
                self.meter.remark(f"{shown(folder)}: not made ({error.strerror})")

    def _file(
        self,
        reader: Reader,
        name: str,
        number: int,
        root_fd: int,
        partial_fd: int,
        known: dict[str, manifest.Entry],
    ) -> Iterator[None]:
        info = self._wanted.files[name]
        verdict = yield from compare(root_fd, name, info, known.get(name))
        if isinstance(verdict, manifest.Entry):
            known[name] = verdict
            self.meter.skip()
            return
        if verdict is not None:
            self.meter.skip(verdict or None)
            return
        incoming = Incoming(partial_fd, f"member-{number}", info, self._modes[name])
        incoming.open()
        try:
            for chunk in reader.chunks():
                incoming.append([chunk])
                yield
            known[name] = incoming.place(root_fd, name)
            self.meter.complete()
        except InTheWay as error:
            self.meter.fail(f"{shown(name)}: {error}")
        finally:
            incoming.close()


def _reader(file: BinaryIO) -> Reader:
    """The reader for what the first bytes say. Raises FetchRefused when they say nothing."""
    magic = file.read(8)
    file.seek(0)
    if magic.startswith(_ZIPS):
        return ZipReader(file)
    return TarReader(opened(file, magic))


def _name(member: Member) -> str:
    """The member's path; "" for the archive's own top. Not checked."""
    name = member.name.removesuffix("/") if member.is_folder else member.name
    while name.startswith("./"):
        name = name[2:]
    return "" if name == "." else name


def _early(name: str, limits: Limits) -> None:
    """Refuse a bad name where it stands, and not only when all the rest was read."""
    if unsafe(name) or name.count("/") >= limits.max_depth:
        plan([ObjectInfo(name, 0, "", datetime.now(UTC))], Mapping(""), limits)


def _when(member: Member) -> datetime:
    return datetime.fromtimestamp(min(max(member.modified_s, 0), _MAX_TIME_S), UTC)
