"""What was synchronised last, so that the next run moves only what changed.

One file beside the volume holds, for each place in a store that this volume was pulled from or pushed to,
the files as both sides agreed on them. It is written last and atomically, when the files themselves are
safe on the disk: whatever it says is true, also after a power cut, and what it does not say is found out by
comparing again.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import structlog

from service.supervisor.data.model import ObjectInfo
from service.supervisor.data.volume.layout import manifest_path

VERSION = 1

ARCHIVE = ""
"""In a volume that is one archive, the name of the archive itself among its members: no file has it."""

_log = structlog.get_logger()


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file and its object when they were last the same.

    The times are the file's, in ns. `ctime_ns` is there because a job can set `mtime_ns` back at will.
    """

    size: int
    etag: str
    mtime_ns: int
    ctime_ns: int
    inode: int

    def describes(self, found: os.stat_result) -> bool:
        """True when the file was not touched since."""
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode) == (
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_ino,
        )

    def is_same(self, now: Entry) -> bool:
        """As `describes`, of a file that was looked at before."""
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode) == (
            now.size,
            now.mtime_ns,
            now.ctime_ns,
            now.inode,
        )

    def agrees(self, info: ObjectInfo) -> bool:
        """True when the object was not replaced since."""
        return self.size == info.size and self.etag == info.etag and bool(self.etag)


def entry(found: os.stat_result, etag: str) -> Entry:
    return Entry(found.st_size, etag, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class Place(msgspec.Struct):
    """The files synchronised with one place, by path. `endpoint` is a `Store.place`, or where else it is."""

    endpoint: str
    container: str
    prefix: str
    files: dict[str, Entry]


class Manifest(msgspec.Struct):
    version: int = VERSION
    places: list[Place] = msgspec.field(default_factory=list)

    def place(self, endpoint: str, container: str, prefix: str) -> Place:
        """The place's record, an empty one when the volume never met it."""
        for place in self.places:
            if (place.endpoint, place.container, place.prefix) == (endpoint, container, prefix):
                return place
        self.places.append(Place(endpoint, container, prefix, {}))
        return self.places[-1]


def load(root: Path) -> Manifest:
    """The manifest of a volume. Where there is none, or it cannot be read, an empty one: all is compared."""
    try:
        found = msgspec.json.decode(manifest_path(root).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return Manifest()
    except msgspec.MsgspecError as error:
        _log.warning("volume manifest unreadable", volume=str(root), error=str(error))
        return Manifest()
    return found if found.version == VERSION else Manifest()


def adopt(root: Path, endpoint: str, place: str) -> None:
    """Take the records of an endpoint, which had no account in them once, for those of the store `place`: for
    volumes that have never had to do with another there. Blocking. Raises OSError."""
    try:
        held = manifest_path(root).read_bytes()
    except FileNotFoundError:
        return
    quoted = msgspec.json.encode(endpoint).strip(b'"')
    if b'"endpoint":"' + quoted + b'"' not in held and b'"endpoint":"archive:' + quoted + b"/" not in held:
        return
    book = load(root)
    for each in book.places:
        if each.endpoint == endpoint:
            each.endpoint = place
        elif each.endpoint.startswith(f"archive:{endpoint}/"):
            each.endpoint = each.endpoint.replace(endpoint, place, 1)
    save(root, book)


def save(root: Path, manifest: Manifest) -> None:
    """Replace the manifest in one step. Raises OSError."""
    path = manifest_path(root)
    written = path.with_name(path.name + ".new")
    with written.open("wb") as file:
        file.write(msgspec.json.encode(manifest))
        file.flush()
        os.fsync(file.fileno())
    written.replace(path)
