"""What the node cannot read now is neither left out of a push nor overwritten by a pull: both fail, and are
repeated without a loss."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import DataError
from service.supervisor.data import DEFAULT_LIMITS, Source, Store
from service.supervisor.data.archive.push import push_archive
from service.supervisor.data.model import Permission
from service.supervisor.data.progress import Progress
from service.supervisor.data.volume import beneath
from tests.data.sync import fill, held, pulled, pushed, write

FAULTS = [errno.EIO, errno.EMFILE, errno.ENFILE]
#: A name of which the kernel says this when it is opened, or nothing.
Failing = Callable[[str, int | None], None]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    faults: dict[str, int | None] = {}
    opened = beneath.openat2

    def openat2(dir_fd: int, path: str, flags: int) -> int:
        if code := faults.get(path):
            raise OSError(code, os.strerror(code), path)
        return opened(dir_fd, path, flags)

    monkeypatch.setattr(beneath, "openat2", openat2)
    return faults.__setitem__


async def packed(store: Store, source: Source, root: Path, permission: Permission) -> Progress:
    return await push_archive(
        store,
        source.container,
        "all.tar",
        root,
        permission=permission,
        limits=DEFAULT_LIMITS,
        on_progress=lambda _: None,
    )


@pytest.mark.parametrize("code", FAULTS, ids=errno.errorcode.__getitem__)
@pytest.mark.parametrize("path", ["d/x", "d"], ids=["file", "folder"])
async def test_a_push_fails_and_the_next_sends_what_could_not_be_read(
    store: Store, source: Source, volume: Path, failing: Failing, path: str, code: int
) -> None:
    write(volume, {"a": b"1", "d/x": b"2"})
    failing(path, code)
    with pytest.raises(DataError, match=rf"{path}: cannot be read \({os.strerror(code)}\)"):
        await pushed(store, source, volume, "RWD")
    failing(path, None)
    await pushed(store, source, volume, "RWD")
    assert await held(store, source) == {"a": b"1", "d/x": b"2"}


async def test_an_archive_is_not_replaced_by_one_without_a_folder_that_could_not_be_read(
    store: Store, source: Source, volume: Path, failing: Failing
) -> None:
    write(volume, {"a": b"1", "d/x": b"2"})
    await packed(store, source, volume, "RWD")
    before = await held(store, source)
    write(volume, {"a": b"changed"})
    failing("d", errno.EIO)
    with pytest.raises(DataError, match=r"folder d: cannot be read \(Input/output error\)"):
        await packed(store, source, volume, "RWD")
    assert await held(store, source) == before


@pytest.mark.parametrize("code", FAULTS, ids=errno.errorcode.__getitem__)
async def test_a_pull_does_not_overwrite_the_jobs_work_that_it_cannot_read(
    store: Store, source: Source, volume: Path, failing: Failing, code: int
) -> None:
    await fill(store, source, {"d/x": b"1"})
    await pulled(store, source, volume)
    write(volume, {"d/x": b"the job's"})
    failing("d/x", code)
    with pytest.raises(DataError, match=os.strerror(code)):
        await pulled(store, source, volume)
    failing("d/x", None)
    await pulled(store, source, volume)
    assert (volume / "d/x").read_bytes() == b"the job's"


def nested(root: Path, name: str, levels: int) -> None:
    """Folders so deep that no path leads to the last."""
    fd = os.open(root, os.O_PATH)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


async def test_what_the_job_made_unreadable_is_left_out_and_named(
    store: Store, source: Source, volume: Path, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swapped for a link; for root alone, which we may not be; and of a path longer than a kernel takes."""
    await fill(store, source, {"d/x": b"1", "secret": b"2"})
    await pulled(store, source, volume)
    write(volume, {"a": b"3", "b": b"4", "secret": b"changed"})
    nested(volume, "n" * 250, 17)
    for path, code in {"d": errno.ENOTDIR, "b": errno.ELOOP, "secret": errno.EACCES}.items():
        failing(path, code)
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    done = await pushed(store, source, volume, "RWD")
    assert await held(store, source) == {"a": b"3", "d/x": b"1", "secret": b"2"}
    assert {note.rpartition(": ")[2] for note in done.notes} == {
        "cannot be read (Not a directory), not pushed",
        "cannot be read (File name too long), not pushed",
        "cannot be read safely (Too many levels of symbolic links), not pushed",
        "cannot be read safely (Permission denied), not pushed",
    }
