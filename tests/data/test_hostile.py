"""What a hostile job leaves in its volume, or swaps while we work, never reaches the store or the host."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import DataError
from service.supervisor.data import Limits, Source, Store
from service.supervisor.data.volume import walk as walking
from tests.data.sync import files, fill, held, pulled, pushed, write
from tests.data.watched import Watched

SECRET = b"root:the host's secret"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder of the host, outside of the volume."""
    folder = tmp_path / "host"
    write(folder, {"passwd": SECRET, "sub/passwd": SECRET})
    return folder


async def test_everything_but_plain_files_is_skipped_and_named(
    store: Store, source: Source, volume: Path, host: Path
) -> None:
    write(volume, {"good": b"1", "linked": b"2"})
    (volume / "latest").symlink_to(host / "passwd")
    (volume / "folder").symlink_to(host)
    os.link(volume / "linked", volume / "twin")
    os.link(host / "passwd", volume / "hard")
    os.mkfifo(volume / "pipe")
    here = Path.cwd()
    os.chdir(volume)  # a socket's path is at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
    os.chdir(here)
    (volume / os.fsdecode(b"bad\xff")).write_bytes(b"3")
    (volume / "new\nline").write_bytes(b"4")
    if os.geteuid() == 0:
        os.mknod(volume / "dev", 0o600 | 0o020000, os.makedev(1, 3))
    done = await pushed(store, source, volume, "RWD")
    assert await held(store, source) == {"good": b"1"}
    expected = {
        "latest: symbolic link, not pushed",
        "folder: symbolic link, not pushed",
        "linked: hard link, not pushed",
        "twin: hard link, not pushed",
        "hard: hard link, not pushed",
        "pipe: fifo, not pushed",
        "sock: socket, not pushed",
        "bad\\udcff: the name is not UTF-8, not pushed",
        "new\\nline: it holds a control character, not pushed",
    } | ({"dev: device, not pushed"} if os.geteuid() == 0 else set())
    assert set(done.notes) == expected
    assert (done.completed, done.skipped) == (1, len(expected))


async def _texts(store: Store, source: Source) -> set[str]:
    return {data.decode() for data in (await held(store, source)).values()}


@pytest.mark.parametrize("what", ["folder", "deep folder", "file", "hard link", "fifo", "gone"])
async def test_a_swap_between_walk_and_read_sends_nothing(
    watched: Watched, source: Source, volume: Path, host: Path, what: str
) -> None:
    """The swapped folder is the attack by which O_NOFOLLOW alone read /etc/passwd."""
    folder = {"folder": "d", "deep folder": "d/sub"}.get(what, ".")
    victims = [volume / folder / "passwd", volume / folder / "passwd2"]
    write(host, {"passwd2": SECRET, "sub/passwd2": SECRET})
    write(volume, {str(victim.relative_to(volume)): b"mine" for victim in victims})

    def act(upload: int) -> None:
        if upload > 1:
            return
        if "folder" in what:
            (volume / "d").rename(volume / "moved")
            (volume / "d").symlink_to(host)
            return
        for victim in victims:
            victim.unlink()
            if what == "file":
                victim.symlink_to(host / "passwd")
            elif what == "hard link":
                os.link(host / "passwd", victim)
            elif what == "fifo":
                os.mkfifo(victim)

    watched.act = act
    done = await pushed(watched, source, volume, concurrency=1)
    assert await _texts(watched, source) == {"mine"}
    assert (done.completed, done.skipped, len(done.notes)) == (1, 1, 1)


SWAPPER = """
import os, sys
volume, host = sys.argv[1:]
os.chdir(volume)
print("ready", flush=True)
while True:
    os.rename("d", "real")
    os.symlink(host, "d")
    os.unlink("d")
    os.rename("real", "d")
"""


async def test_a_job_that_swaps_all_the_time_leaks_nothing(
    store: Store, source: Source, volume: Path, host: Path
) -> None:
    write(volume, {f"d/sub/passwd{n}": b"mine" for n in range(10)})
    write(host, {f"sub/passwd{n}": SECRET for n in range(10)})
    with subprocess.Popen(
        [sys.executable, "-c", SWAPPER, str(volume), str(host)], stdout=subprocess.PIPE
    ) as job:
        assert job.stdout and job.stdout.readline() == b"ready\n"
        try:
            for _ in range(5):
                await pushed(store, source, volume, concurrency=2)
        finally:
            job.kill()
    assert SECRET.decode() not in await _texts(store, source)


async def test_a_file_that_changes_while_it_is_sent_is_sent_whole(
    watched: Watched, source: Source, volume: Path
) -> None:
    large = b"a" * (20 * 1024 * 1024)
    write(volume, {"large": large})
    watched.act = lambda upload: write(volume, {"large": b"b" * len(large)}) if upload == 2 else None
    done = await pushed(watched, source, volume)
    assert done.completed == 1
    assert set((await held(watched, source))["large"]) == {ord("b")}


async def test_a_file_that_never_rests_is_given_up_and_named(
    watched: Watched, source: Source, volume: Path
) -> None:
    large = b"a" * (9 * 1024 * 1024)
    write(volume, {"large": large})
    watched.act = lambda upload: write(volume, {"large": large + bytes(upload)})
    done = await pushed(watched, source, volume)
    assert (done.failed, done.notes) == (1, ("large: kept changing while it was pushed, not pushed",))
    assert await held(watched, source) == {}


async def test_sparse_files_count_with_their_length(store: Store, source: Source, volume: Path) -> None:
    with (volume / "huge").open("wb") as file:
        file.truncate(10 * 1024**4)
    with pytest.raises(DataError, match="the volume holds more than 1000000 bytes"):
        await pushed(store, source, volume, limits=Limits(10, 1_000_000, 9))
    assert await held(store, source) == {}


async def test_folders_and_links_count_as_objects(store: Store, source: Source, volume: Path) -> None:
    for number in range(6):
        (volume / f"l{number}").symlink_to("x")
    with pytest.raises(DataError, match="more than 5 files and folders"):
        await pushed(store, source, volume, limits=Limits(5, 100, 9))


def test_beyond_what_it_may_hold_a_folder_is_not_read_on(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may hold a million files; and of those that count little is kept of each."""
    write(volume, {f"f{number}": b"" for number in range(300)})
    looks, scandir = [0], os.scandir

    class Counted:
        def __init__(self, fd: int) -> None:
            self._entries = scandir(fd)

        def __enter__(self) -> Counted:
            return self

        def __exit__(self, *_: object) -> None:
            self._entries.close()

        def __iter__(self) -> Iterator[os.DirEntry[str]]:
            for each in self._entries:
                looks[0] += 1
                yield each

    monkeypatch.setattr(os, "scandir", Counted)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(DataError, match="more than 5 files and folders"):
        walking.walk(volume, Limits(5, 100, 9))
    assert looks[0] == 6
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    monkeypatch.undo()
    tracemalloc.start()
    tree = walking.walk(volume, Limits(300, 100, 9))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tree.files) == 300
    assert kept / 300 < 450


@pytest.mark.parametrize("kind", ["folder", "file"])
async def test_a_pull_writes_through_no_link(
    store: Store, source: Source, volume: Path, host: Path, kind: str
) -> None:
    """A pull into a running job's volume, where the job waits with a link."""
    await fill(store, source, {"d/passwd": b"from the store"})
    if kind == "folder":
        (volume / "d").symlink_to(host)
    else:
        (volume / "d").mkdir()
        (volume / "d/passwd").symlink_to(host / "passwd")
    done = await pulled(store, source, volume)
    assert files(host) == {"passwd": SECRET, "sub/passwd": SECRET}
    if kind == "folder":
        assert done.failed == 1
        assert done.notes[0].startswith("d/passwd: something else is in its place")
    else:
        assert files(volume) == {"d/passwd": b"from the store"}


async def test_a_pull_over_a_fifo_or_folder_does_not_hang(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"pipe": b"1", "folder": b"2"})
    os.mkfifo(volume / "pipe")
    write(volume, {"folder/x": b"x"})
    done = await pulled(store, source, volume)
    assert (volume / "pipe").read_bytes() == b"1"
    assert (done.completed, done.failed) == (1, 1)
