"""Archives from strangers into a volume: what comes, what is left out, and what is refused as a whole."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import DataError, FetchRefused, JobyardError, UnsafeKey
from service.supervisor.data.archive.unpack import unpack
from service.supervisor.data.model import Limits
from service.supervisor.data.progress import Progress
from service.supervisor.data.volume import layout

LIMITS = Limits(max_objects=50, max_bytes=100_000, max_depth=4)


def tarred(*members: tuple[str, Any], **how: Any) -> bytes:
    """A tar archive: bytes are a file, None a folder, a TarInfo as it is."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **how) as tar:
        for name, what in members:
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size, info.mode = len(what), 0o755 if what.startswith(b"#!") else 0o640
                tar.addfile(info, io.BytesIO(what))
            elif what is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.type, info.linkname = what
                tar.addfile(info)
    return out.getvalue()


def zipped(*members: tuple[str, bytes], mode: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, data in members:
            info = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            info.external_attr, info.create_system, info.compress_type = mode << 16, 3, method
            file.writestr(info, data)
    return out.getvalue()


async def unpacked(volume: Path, data: bytes, limits: Limits = LIMITS) -> Progress:
    partial = layout.fresh_partial(volume)
    (partial / "archive").write_bytes(data)
    said: list[Progress] = []
    done = await unpack(
        partial / "archive", volume, origin="archive:u", limits=limits, on_progress=said.append
    )
    assert said[-1] == done
    return done


def held(volume: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(volume)): None if path.is_dir() else path.read_bytes()
        for path in sorted(volume.rglob("*"))
    }


_TAR = tarred(("./", None), ("./a/b", b"1"), ("./run", b"#!x"), ("empty", None))


@pytest.mark.parametrize(
    "data",
    [
        *(_TAR, gzip.compress(_TAR), bz2.compress(_TAR), lzma.compress(_TAR)),
        lzma.compress(_TAR[:1000]) + lzma.compress(_TAR[1000:]),
        zipped(("a/b", b"1"), ("run", b"#!x"), ("empty/", b"")),
    ],
    ids=["tar", "gz", "bz2", "xz", "xz-two", "zip"],
)
async def test_each_form_by_its_content(volume: Path, data: bytes) -> None:
    done = await unpacked(volume, data)
    assert held(volume) == {"a": None, "a/b": b"1", "run": b"#!x", "empty": None}
    assert (done.total, done.completed, done.failed) == (2, 2, 0)


async def test_the_execute_bit_is_kept_and_nothing_else(volume: Path) -> None:
    await unpacked(volume, tarred(("run", b"#!x"), ("text", b"x")))
    modes = [stat.S_IMODE((volume / name).stat().st_mode) for name in ("run", "text")]
    assert modes == [0o755, 0o644]


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "a//b", "a/./b", "a\nb", "\udcff", "x" * 256]
)
async def test_a_bad_name_refuses_all_of_it(volume: Path, name: str) -> None:
    with pytest.raises(UnsafeKey):
        await unpacked(volume, tarred(("good", b"1"), (name, b"2")))
    assert held(volume) == {}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\0/../x"])
async def test_a_bad_name_in_a_zip_too(volume: Path, name: str) -> None:
    data = zipped(("good", b"1"), ("z" * len(name), b"2")).replace(b"z" * len(name), name.encode())
    with pytest.raises(JobyardError):
        await unpacked(volume, data)
    assert held(volume) == {}


async def test_links_devices_and_fifos_are_left_out_and_noted(volume: Path) -> None:
    done = await unpacked(
        volume,
        tarred(
            ("link", (tarfile.SYMTYPE, "/etc")),
            ("hard", (tarfile.LNKTYPE, "good")),
            ("dev", (tarfile.CHRTYPE, "")),
            ("pipe", (tarfile.FIFOTYPE, "")),
            ("good", b"1"),
        ),
    )
    assert held(volume) == {"good": b"1"}
    assert [note.partition(" (")[2] for note in done.notes] == [
        "symbolic link)",
        "hard link)",
        "device)",
        "fifo)",
    ]


async def test_a_zip_s_link_is_left_out(volume: Path) -> None:
    await unpacked(volume, zipped(("link", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777))
    assert held(volume) == {}


async def test_a_file_below_a_link_of_the_same_archive_stays_inside(volume: Path) -> None:
    await unpacked(volume, tarred(("d", (tarfile.SYMTYPE, "/tmp")), ("d/x", b"1")))
    assert held(volume) == {"d": None, "d/x": b"1"}


async def test_a_link_that_the_job_made_is_never_followed(volume: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "in").mkdir(parents=True)
    (volume / "d").symlink_to(outside)
    done = await unpacked(volume, tarred(("d/x", b"1"), ("d/in/x", b"1"), ("e", b"2")))
    assert list(outside.rglob("*")) == [outside / "in"]
    assert (done.completed, done.failed) == (1, 2)


async def test_of_two_of_one_name_the_later_counts(volume: Path) -> None:
    done = await unpacked(volume, tarred(("a", b"1"), ("a", b"2")))
    assert held(volume) == {"a": b"2"}
    assert (done.total, done.completed) == (1, 1)
    assert "more than once" in done.notes[0]


@pytest.mark.parametrize("members", [[("a", b"1"), ("a/b", b"2")], [("a/b", b"1"), ("a", b"2")]])
async def test_a_name_that_is_file_and_folder(volume: Path, members: list[tuple[str, bytes]]) -> None:
    with pytest.raises(UnsafeKey, match="file and a folder"):
        await unpacked(volume, tarred(*members))
    assert held(volume) == {}


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(tarred(("zeros", bytes(100_001)))),
        zipped(("zeros", bytes(100_001))),
        tarred(*((f"f{n}", b"") for n in range(51))),
        zipped(*((f"f{n}", b"") for n in range(51))),
        tarred(("1/2/3/4/5", b"")),
        tarred(*(("x" * 200, (tarfile.SYMTYPE, "/")) for _ in range(51))),
    ],
    ids=["gz-bytes", "zip-bytes", "tar-count", "zip-count", "depth", "links"],
)
async def test_bombs(volume: Path, data: bytes) -> None:
    with pytest.raises(DataError):
        await unpacked(volume, data)
    assert held(volume) == {}


async def test_a_size_that_cannot_be_is_refused_before_its_bytes_are_read(volume: Path) -> None:
    info = tarfile.TarInfo("huge")
    info.size = 10**15
    with pytest.raises(DataError, match="more than 100000 bytes"):
        await unpacked(volume, info.tobuf(tarfile.GNU_FORMAT))


def hollow_zip(count: int) -> bytes:
    """A zip of one empty file, which is packed as so many blocks of nothing."""
    data = bytearray(zipped(("a", b"\0\0\0\xff\xff" * count + b"\1\0\0\xff\xff"), method=zipfile.ZIP_STORED))
    for at in (8, data.index(b"PK\x01\x02") + 10):  # in the file's own header, and in the list of names
        data[at : at + 2] = struct.pack("<H", zipfile.ZIP_DEFLATED)
        data[at + 6 : at + 10] = bytes(4)
        data[at + 14 : at + 18] = bytes(4)
    return bytes(data)


@pytest.mark.parametrize(
    "hollow",
    [
        lambda count: gzip.compress(b"") * count + gzip.compress(_TAR),
        lambda count: bz2.compress(b"") * count + bz2.compress(_TAR),
        lambda count: lzma.compress(b"") * count + lzma.compress(_TAR),
        lambda count: gzip.compress(_TAR) + gzip.compress(b"") * count,
        hollow_zip,
    ],
    ids=["gz", "bz2", "xz", "gz, behind its end", "zip"],
)
async def test_an_archive_that_holds_nothing_for_too_long(
    volume: Path, monkeypatch: pytest.MonkeyPatch, hollow: Callable[[int], bytes]
) -> None:
    """A gigabyte of it took a disk thread for minutes, in which nobody could cancel it."""
    monkeypatch.setattr("service.supervisor.data.archive.members.MAX_HOLLOW_BYTES", 40_000)
    await unpacked(volume, hollow(1000))
    with pytest.raises(FetchRefused, match="holds nothing for more than 40000 bytes"):
        await unpacked(volume, hollow(10_000))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
async def test_what_is_as_large_packed_as_unpacked(volume: Path, pack: Callable[[bytes], bytes]) -> None:
    """Of bzip2, a whole block of nearly a megabyte is read before the first byte of it comes out."""
    data = os.urandom(3_000_000)
    await unpacked(volume, pack(tarred(("a", data))), Limits(50, 10**7, 4))
    assert held(volume) == {"a": data}


async def test_an_extended_header_that_would_fill_the_memory(volume: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 10**6
    limits = Limits(50, 10**9, 4)
    with pytest.raises(FetchRefused, match="a header of the archive"):
        await unpacked(volume, info.tobuf() + bytes(10**6 + 1024), limits)


@pytest.mark.parametrize("bit", [0x1])
async def test_an_encrypted_zip(volume: Path, bit: int) -> None:
    data = bytearray(zipped(("a", b"1")))
    data[data.index(b"PK\x01\x02") + 8] |= bit
    data[6] |= bit
    with pytest.raises(FetchRefused, match="encrypted"):
        await unpacked(volume, bytes(data))


@pytest.mark.parametrize(
    "data", [b"", b"<html>no</html>" * 100, _TAR[:700], gzip.compress(_TAR)[:-20], lzma.compress(_TAR)[:-30]]
)
async def test_what_is_no_archive_or_half_of_one(volume: Path, data: bytes) -> None:
    with pytest.raises(FetchRefused):
        await unpacked(volume, data)
    assert held(volume) == {}


async def test_a_zip_whose_bytes_do_not_match(volume: Path) -> None:
    data = zipped(("a", b"12345678"), method=zipfile.ZIP_STORED).replace(b"12345678", b"12345679", 1)
    with pytest.raises(FetchRefused, match="damaged"):
        await unpacked(volume, data)
    assert held(volume) == {}


async def test_again_leaves_what_the_job_did(volume: Path) -> None:
    await unpacked(volume, tarred(("a", b"1"), ("b", b"1"), ("c", b"1")))
    (volume / "a").write_bytes(b"job")
    (volume / "own").write_bytes(b"job")
    (volume / "b").unlink()
    done = await unpacked(volume, tarred(("a", b"1"), ("b", b"1"), ("c", b"2")))
    assert held(volume) == {"a": b"job", "b": b"1", "c": b"2", "own": b"job"}
    assert (done.completed, done.skipped) == (2, 1)


_NAMES = st.text(st.sampled_from("ab./\\\0\u00e9"), max_size=8)
_CONTENTS = st.one_of(
    st.binary(max_size=20), st.none(), st.just((tarfile.SYMTYPE, "..")), st.just((tarfile.LNKTYPE, "/etc"))
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.tuples(_NAMES, _CONTENTS), max_size=6), st.data())
async def test_nothing_ever_leaves_the_volume(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, Any]], data: st.DataObject
) -> None:
    """Any names and kinds, also with damage: plain files inside, or one of our errors and nothing at all."""
    top = tmp_path_factory.mktemp("fuzz")
    volume = top / "v"
    await layout.prepare(volume)
    archive = bytearray(tarred(*members, format=data.draw(st.sampled_from([0, 1, 2]))))
    for at in data.draw(st.lists(st.integers(0, min(len(archive), 2048) - 1), max_size=3)):
        archive[at] = data.draw(st.integers(0, 255))
    try:
        await unpacked(volume, bytes(archive))
    except DataError:
        assert held(volume) == {}
    assert not any(path.is_symlink() for path in volume.rglob("*"))
    assert {path.name for path in top.iterdir()} <= {"v", "v.partial", "v.manifest.json"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"])
)
async def test_any_bytes_are_an_archive_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, magic: bytes
) -> None:
    volume = tmp_path_factory.mktemp("any") / "v"
    await layout.prepare(volume)
    with pytest.raises(DataError):
        await unpacked(volume, magic + data)
