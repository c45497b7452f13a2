"""Long file work leaves its thread after every piece: whoever is cancelled does not wait for all of it."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.supervisor.data import ObjectInfo, Source, Store, disk
from service.supervisor.data.archive.tar import TarReader
from service.supervisor.data.model import CHUNK_BYTES, Limits
from service.supervisor.data.outgoing import Outgoing
from service.supervisor.data.volume import beneath
from service.supervisor.data.volume.layout import manifest_path
from tests.data.sync import pulled, pushed, write
from tests.data.test_unpack import tarred, unpacked

MIB = 1024**2
ROOMY = Limits(max_objects=50, max_bytes=10**9, max_depth=4)


class Reading:
    """How many bytes were read in one call of a disk thread, at most."""

    now = most = 0

    def noted(self, data: bytes) -> bytes:
        self.now += len(data)
        self.most = max(self.most, self.now)
        return data


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    """A slice is one step, as on a disk that is very slow."""
    counted, run, pread, unpack = Reading(), disk.run, os.pread, TarReader._read

    async def noted(work: Callable[..., Any], *args: Any, **how: Any) -> Any:
        counted.now = 0
        return await run(work, *args, **how)

    monkeypatch.setattr(disk, "SLICE_S", 0.0)
    monkeypatch.setattr(disk, "run", noted)
    monkeypatch.setattr(os, "pread", lambda *what: counted.noted(pread(*what)))
    monkeypatch.setattr(TarReader, "_read", lambda self, size: counted.noted(unpack(self, size)))
    return counted


async def test_what_is_there_already_is_compared_piece_by_piece(
    store: Store, source: Source, volume: Path, reading: Reading
) -> None:
    """Without a record, as of a pull that was killed: all that is there is hashed."""
    contents = {f"f{n}": os.urandom(3 * MIB) for n in range(3)} | {"large": os.urandom(2 * CHUNK_BYTES)}
    write(volume, contents)
    await pushed(store, source, volume)
    for again in (pulled, pushed):
        manifest_path(volume).unlink()
        reading.most = 0
        done = await again(store, source, volume)
        assert (done.skipped, done.transferred_bytes) == (4, 0)
        assert 0 < reading.most <= (MIB if again is pulled else 9 * MIB), "small files are sent as a whole"


def test_a_file_that_was_sent_in_parts_is_compared_part_by_part(volume: Path) -> None:
    parts = [os.urandom(CHUNK_BYTES), os.urandom(CHUNK_BYTES), b"the last"]
    write(volume, {"x": b"".join(parts)})
    joined = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
    etag = f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-3"
    with beneath.opened_root(volume) as root_fd:
        file = Outgoing(root_fd, "x")
        assert file.begin(signed=False) is None
        for told, is_it in ((etag, True), ("0" * 32 + "-3", False)):
            steps = file.is_object(ObjectInfo("x", file.size, told, datetime.now(UTC)))
            for _ in range(3):
                next(steps)
            with pytest.raises(StopIteration) as ended:
                next(steps)
            assert ended.value.value is is_it
        file.close()


async def test_what_an_archive_holds_that_does_not_come_is_passed_over_piece_by_piece(
    volume: Path, reading: Reading
) -> None:
    """What the volume has already, and what no volume can hold."""
    odd = tarfile.TarInfo("odd")
    odd.type, odd.size = b"Z", 3 * MIB
    archive = odd.tobuf() + bytes(odd.size) + tarred(("large", os.urandom(3 * MIB)))
    for skipped in (0, 1):
        done = await unpacked(volume, archive, ROOMY)
        assert (done.skipped, done.notes) == (skipped, ("odd: left out (of no known kind)",))
    assert 0 < reading.most <= MIB
