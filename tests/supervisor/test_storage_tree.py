"""Adding up a tree that somebody else is changing: what counts, what is never followed, what is told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from service.supervisor.data.volume import beneath
from service.supervisor.storage import tree
from service.supervisor.storage.share import SHARE, Watching
from service.supervisor.storage.threads import added_up
from service.supervisor.storage.tree import HELD, Stopped, Tally

KIB, MIB = 1024, 1024**2


def added(root: Path) -> Tally:
    tally = Tally()
    tally.tree(root)
    return tally


def grown(root: Path, change: Callable[[], object]) -> int:
    """By how much more the folder takes after a change."""
    before = added(root).bytes
    change()
    return added(root).bytes - before


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with 4 MiB, which is nobody's business."""
    made = tmp_path / "outside"
    made.mkdir()
    (made / "big").write_bytes(b"x" * 4 * MIB)
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def test_files_and_folders_take_their_blocks(root: Path) -> None:
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "file").write_bytes(b"x" * MIB)
    (root / "one byte").write_bytes(b"x")
    odd = root / os.fsdecode(b"no text: \xff\n")
    odd.mkdir()
    (odd / odd.name).write_bytes(b"x")
    files = [path.lstat().st_blocks * 512 for path in (root, *root.rglob("*"))]
    assert added(root).bytes == sum(files) > MIB


def test_a_sparse_file_takes_what_was_written_of_it(root: Path) -> None:
    (root / "sparse").touch()
    assert grown(root, lambda: os.truncate(root / "sparse", 1024**4)) == 0


def test_a_file_with_several_names_is_one_file(root: Path) -> None:
    (root / "large").write_bytes(b"x" * MIB)
    (root / "small").write_bytes(b"x")
    (root / "folder").mkdir()

    def link() -> None:
        for name in ("large", "small"):
            for number in range(3):
                os.link(root / name, root / "folder" / f"{name} {number}")

    assert grown(root, link) == 0


def test_nothing_is_followed(root: Path, outside: Path) -> None:
    def links() -> None:
        (root / "to a folder").symlink_to(outside)
        (root / "to a file").symlink_to(outside / "big")
        (root / "up").symlink_to("..")
        os.mkfifo(root / "fifo")

    assert grown(root, links) < MIB, "a link takes a block at most"


def test_a_root_that_is_a_link_is_refused(root: Path, outside: Path) -> None:
    (root / "link").symlink_to(outside)
    with pytest.raises(OSError, match="Not a directory"):
        added(root / "link")
    with pytest.raises(FileNotFoundError):
        added(root / "missing")


def test_no_other_file_system_is_entered() -> None:
    assert Path("/dev/shm").is_mount()
    file = Path("/dev/shm") / f"jobyard-test-{os.getpid()}"
    try:
        assert grown(Path("/dev"), lambda: file.write_bytes(b"x" * MIB)) < MIB
        assert added(file.parent).bytes >= MIB
    finally:
        file.unlink()


def before_entering(monkeypatch: pytest.MonkeyPatch, happens: Callable[[str], object]) -> None:
    """`happens` once, between the look at a folder's name and its opening; it is told the name."""
    real = beneath.openat2
    done: list[str] = []

    def openat2(above: int, name: str, flags: int) -> int:
        if not done:
            done.append(name)
            happens(name)
        return real(above, name, flags)

    monkeypatch.setattr(beneath, "openat2", openat2)


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "folder").mkdir()

    def swap(name: str) -> None:
        (root / name).rmdir()
        (root / name).symlink_to(outside)

    before_entering(monkeypatch, swap)
    assert added(root).bytes < MIB


def test_what_moves_while_we_look_counts_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the folder that was looked at first to the one that is looked at next."""
    for name in "ab":
        (root / name).mkdir()
    seen: list[str] = []
    real = beneath.openat2

    def openat2(above: int, name: str, flags: int) -> int:
        seen.append(name)
        if len(seen) == 1:
            (root / name / "big").write_bytes(b"x" * MIB)
        else:
            (root / seen[0] / "big").rename(root / name / "big")
        return real(above, name, flags)

    monkeypatch.setattr(beneath, "openat2", openat2)
    assert MIB <= added(root).bytes < 2 * MIB
    assert len(seen) == 2


def test_what_is_deleted_while_we_look_never_was(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "folder").mkdir()
    before_entering(monkeypatch, lambda name: (root / name).rmdir())
    tally = added(root)
    assert (tally.bytes, tally.missed) == (root.lstat().st_blocks * 512, [])


def test_what_cannot_be_opened_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "folder").mkdir()

    def closed(name: str) -> None:
        raise PermissionError(13, "Permission denied", name)

    before_entering(monkeypatch, closed)
    assert added(root).missed == ["'folder': Permission denied"]


def test_a_disk_that_fails_is_no_empty_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "folder").mkdir()

    def fails(name: str) -> None:
        raise OSError(5, "Input/output error", name)

    before_entering(monkeypatch, fails)
    with pytest.raises(OSError, match="Input/output"):
        added(root)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def deep(root: Path, levels: int, every: int) -> int:
    """A chain of folders too long for any path, now and then with a file of 64 KiB beside; their number."""
    files = 0
    fd = os.open(root, os.O_RDONLY)
    for level in range(levels):
        os.mkdir("down", dir_fd=fd)
        below = os.open("down", os.O_RDONLY, dir_fd=fd)
        if level % every == 0:
            os.mkdir("side", dir_fd=fd)
            file = os.open("side/file", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
            os.write(file, b"x" * 64 * KIB)
            os.close(file)
            files += 1
        os.close(fd)
        fd = below
    os.close(fd)
    return files


def test_a_tree_deeper_than_any_path(
    root: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    files = deep(root, 1500, 100)
    request.addfinalizer(lambda: subprocess.run(["rm", "-rf", root], check=True))  # pytest itself cannot
    most = 0
    real = beneath.openat2

    def openat2(above: int, name: str, flags: int) -> int:
        nonlocal most
        opened = real(above, name, flags)
        most = max(most, opened)
        return opened

    monkeypatch.setattr(beneath, "openat2", openat2)
    held = descriptors()
    tally = added(root)
    assert tally.bytes >= (1500 + files) * 4 * KIB + files * 64 * KIB
    assert tally.bytes < (1500 + files) * 8 * KIB + files * 64 * KIB
    assert tally.missed == []
    assert most < held + 2 * HELD + 60, "descriptors do not grow with the depth"
    assert descriptors() == held, "none is left open"


def test_a_deep_folder_that_is_moved_ends_the_look_below_and_is_told(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back is checked: `..` may be somewhere else by now."""
    folder = root
    for _ in range(HELD + 3):
        folder = folder / "down"
    folder.mkdir(parents=True)
    (folder / "moved").mkdir()
    real = beneath.openat2

    def openat2(above: int, name: str, flags: int) -> int:
        opened = real(above, name, flags)
        if name == "moved":
            (folder / "moved").rename(outside / "moved")
        return opened

    monkeypatch.setattr(beneath, "openat2", openat2)
    held = descriptors()
    tally = added(root)
    assert tally.missed == ["a deep folder was moved meanwhile"]
    assert tally.bytes < MIB, "and nothing is counted where it went"
    assert descriptors() == held


def test_memory_is_bounded_below_the_held_levels(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "WAITING", 10)
    folder = root
    for _ in range(HELD + 1):
        folder = folder / "down"
    for number in range(20):
        (folder / f"{number}").mkdir(parents=True)
    assert added(root).missed == ["more than 10 folders deep in the tree"]


def test_memory_is_bounded_however_many_files_have_several_names(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        file = root / f"{number}"
        file.write_bytes(b"x" * 4 * KIB)
        for again in range(3):
            (root / f"{number} {again}").hardlink_to(file)
    all_of_it = added(root).bytes
    monkeypatch.setattr(tree, "MOST_REMEMBERED", 10)
    tally = added(root)
    assert (tally.bytes, len(tally._counted)) == (all_of_it, 10)


def test_a_look_that_nobody_wants_any_more_ends(root: Path) -> None:
    for number in range(1100):
        (root / f"{number}").touch()
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        Tally(stop).tree(root)


async def test_a_cancelled_look_has_ended_when_it_is_over() -> None:
    begun, ended = threading.Event(), threading.Event()

    def for_ever(tally: Tally) -> None:
        begun.set()
        try:
            while True:
                tally.look_up()
        finally:
            ended.set()

    task = asyncio.create_task(added_up(for_ever))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_look_that_never_began_is_not_waited_for() -> None:
    """All threads are busy with others."""
    go_on, began = threading.Event(), threading.Semaphore(0)

    def busy(tally: Tally) -> None:
        began.release()
        go_on.wait()

    others = [asyncio.create_task(added_up(busy)) for _ in range(2)]
    for _ in others:
        await asyncio.to_thread(began.acquire)
    task = asyncio.create_task(added_up(busy))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await asyncio.gather(*others)


async def test_the_price_of_a_look_is_told(root: Path) -> None:
    (root / "file").write_bytes(b"x" * MIB)
    usage = await added_up(lambda tally: tally.tree(root))
    assert usage.bytes >= MIB
    assert usage.cost_s > 0


def test_all_watchers_together_take_their_share_and_no_more() -> None:
    watching = Watching()
    with watching.one_more():
        assert watching.pause_s(0.001, 5) == 5, "a cheap look waits as long as was set"
        with watching.one_more():
            pauses = [watching.pause_s(cost, 5) for cost in (2.0, 4.0)]
    assert sum(cost / pause for cost, pause in zip((2.0, 4.0), pauses, strict=True)) == pytest.approx(SHARE)
    assert watching.runs == 0
