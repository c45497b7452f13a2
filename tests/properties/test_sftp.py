"""The SFTP server under any packets: each gets one well-formed answer, or ends the session."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.supervisor.inside.sftp import MOST_DATA_BYTES, Broken, Server, serve

INIT = b"\x01" + struct.pack(">I", 3)
_KNOWN = [b"a", b"b", b"d", b"d/x", b"link", b"", b".", b"a\0b", b"x" * 300]
_NAMES = st.sampled_from(_KNOWN) | st.binary(max_size=8).filter(lambda name: not {*b"/."} & {*name})
_NUMBERS = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2, 3, 8, 0x1A, 0x80000000])
_LONGS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**63])
_HANDLES = st.integers(0, 4).map(lambda number: struct.pack(">Q", number))
_EXTENSIONS = st.sampled_from([b"limits@openssh.com", b"statvfs@openssh.com", b"fsync@openssh.com", b"no"])
_FIELDS = st.one_of(
    (_NAMES | _HANDLES | _EXTENSIONS).map(lambda text: struct.pack(">I", len(text)) + text),
    _NUMBERS.map(lambda number: struct.pack(">I", number)),
    _LONGS.map(lambda number: struct.pack(">Q", number)),
)
_REQUESTS = st.tuples(
    st.integers(0, 255) | st.integers(3, 20), _NUMBERS, st.lists(_FIELDS, max_size=5).map(b"".join)
)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where relative paths begin."""
    before = Path.cwd()
    (tmp_path / "a").write_bytes(b"hello")
    (tmp_path / "d").mkdir()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


@given(st.lists(_REQUESTS, max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_packet_has_one_answer(folder: Path, requests: list[tuple[int, int, bytes]]) -> None:
    server = Server()
    assert server.answer(INIT).startswith(b"\x02\0\0\0\3")
    descriptors = set(Path("/proc/self/fd").iterdir())
    for kind, number, fields in requests:
        if kind in _UNSAFE:
            continue
        answer = server.answer(bytes([kind]) + struct.pack(">I", number) + fields)
        assert answer[0] in (101, 102, 103, 104, 105, 201)
        assert answer[1:5] == struct.pack(">I", number)
        assert len(answer) <= MOST_DATA_BYTES + 1024
    server.close()
    assert set(Path("/proc/self/fd").iterdir()) <= descriptors


#: What would change files outside of the folder when a generated path leads there.
_UNSAFE = frozenset({9, 13, 14, 15, 18, 20})


@given(st.binary(max_size=20))
def test_what_comes_first_must_be_a_greeting(request: bytes) -> None:
    try:
        answer = Server().answer(request)
    except Broken:
        assert request[:1] != b"\x01"
    else:
        assert (request[:1], answer[:1]) == (b"\x01", b"\x02")


@pytest.mark.parametrize("stream", [b"\0\0\0", b"\0\0\0\5\1", b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_streams_that_are_none(stream: bytes) -> None:
    source, told = os.pipe()
    os.write(told, stream)
    os.close(told)
    with pytest.raises(Broken):
        serve(Server(), source, -1)
    os.close(source)


def test_an_append_goes_to_the_end_and_a_write_to_its_place(folder: Path) -> None:
    server = Server()
    server.answer(INIT)

    def text(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    def write(flags: int, offset: int, data: bytes) -> None:
        opened = server.answer(b"\3" + bytes(4) + text(b"a") + struct.pack(">II", flags, 0))
        assert opened[0] == 102
        handle = text(opened[9:])
        done = server.answer(b"\6" + bytes(4) + handle + struct.pack(">Q", offset) + text(data))
        assert done[5:9] == bytes(4)
        server.answer(b"\4" + bytes(4) + handle)

    write(2, 1, b"E")
    write(2 | 4, 0, b"!")
    assert (folder / "a").read_bytes() == b"hEllo!"
    server.close()
