"""Deleting what a hostile job leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.errors import DataError, Misconfigured
from service.supervisor.data import Source, Store, prepare, remove_tree
from service.supervisor.data.volume import beneath
from tests.data.sync import fill, pulled, write


async def test_nothing_is_left_and_nothing_outside_is_touched(tmp_path: Path, volume: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, {"keep": b"1"})
    write(volume, {"a/b/c": b"1", "a/d": b"2", "x": b"3", ".jobyard-removing-0": b"4"})
    (volume / "a/link").symlink_to(outside)
    (volume / "dangling").symlink_to("nowhere")
    (volume / ".jobyard-removing-1").symlink_to(outside)
    os.link(outside / "keep", volume / "hard")
    os.mkfifo(volume / "a/pipe")
    (volume / "shut/in").mkdir(parents=True)
    write(volume, {"shut/in/x": b"1"})
    (volume / "shut/in").chmod(0)
    (volume / "shut").chmod(0)
    await remove_tree(volume)
    assert not volume.exists()
    assert (outside / "keep").read_bytes() == b"1"
    await remove_tree(volume)


async def test_any_depth_and_width(volume: Path) -> None:
    fd = os.open(volume, os.O_RDONLY)
    for number in range(3000):
        os.mkdir("d" * 50, dir_fd=fd)
        if number % 100 == 0:
            os.mkdir("side", dir_fd=fd)
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    await remove_tree(volume)
    assert not volume.exists()


async def test_the_manifest_goes_too(store: Store, source: Source, volume: Path) -> None:
    await fill(store, source, {"x": b"1"})
    await pulled(store, source, volume)
    await remove_tree(volume)
    assert list(volume.parent.iterdir()) == []


async def test_prepare_can_be_repeated_and_keeps_what_is_there(volume: Path) -> None:
    write(volume, {"x": b"1"})
    await prepare(volume)
    assert (volume / "x").read_bytes() == b"1"


async def test_prepare_takes_no_link_for_a_volume(tmp_path: Path) -> None:
    (tmp_path / "0").symlink_to("/etc")
    with pytest.raises(DataError):
        await prepare(tmp_path / "0")


def test_beneath_refuses_every_way_out(tmp_path: Path) -> None:
    write(tmp_path, {"out/secret": b"s", "in/plain": b"p"})
    (tmp_path / "in/up").symlink_to("../out")
    (tmp_path / "in/here").symlink_to("plain")
    with beneath.opened_root(tmp_path / "in") as root:
        for path in ("../out/secret", "/etc/passwd", "up/secret", "here", "up", "plain/x", "nothing"):
            with pytest.raises(OSError):
                os.close(beneath.openat2(root, path, os.O_RDONLY))
        with beneath.opened_file(root, "plain") as fd:
            assert os.read(fd, 9) == b"p"
            assert os.get_inheritable(fd) is False


def test_a_kernel_without_openat2_is_said_clearly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath, "_SYS_OPENAT2", 100_000)  # no kernel has this call: ENOSYS
    with beneath.opened_root(tmp_path) as root, pytest.raises(Misconfigured, match=r"Linux 5\.6"):
        beneath.openat2(root, "x", os.O_RDONLY)


async def test_a_folder_that_is_swept_while_a_volume_is_prepared_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "job"
    mkdir = os.mkdir
    swept: list[Path] = []

    def sweeping(path: Path, *how: int) -> None:
        if path == job / "1" and job.exists() and len(swept) < 2:  # `mkdir` itself tries twice
            job.rmdir()
            swept.append(path)
        mkdir(path, *how)

    job.mkdir()
    monkeypatch.setattr(os, "mkdir", sweeping)
    await prepare(job / "1" / "0")
    assert len(swept) == 2
    assert (job / "1" / "0").is_dir()
