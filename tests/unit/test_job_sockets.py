"""What a socket to a job holds, weighed: against aiohttp's own readers, the fast one and the plain one."""

from __future__ import annotations

import asyncio
import gc
import random
import struct
import weakref
from typing import Any

import pytest
from aiohttp import WSMsgType
from aiohttp._websocket import reader as used
from aiohttp._websocket import reader_py as plain
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import WebSocketWriter

from service.api.job_http.weighing import ENTRY_BYTES, PIECE_BYTES, TOO_MUCH, Reader, Scale, Unfinished
from service.held import Room

MOST = 16 * 1024**2
TEXT, BINARY, PING, CLOSE = 1, 2, 9, 8


class Line(asyncio.Transport):
    """A connection whose other end takes everything."""

    high: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.paused, self.aborted, self.unwritten = False, False, 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def abort(self) -> None:
        self.aborted = True


class Side:
    """A side's queue and reader, as aiohttp puts them together."""

    def __init__(self, kind: Any = used) -> None:
        loop = asyncio.get_running_loop()
        self.line, self.protocol = Line(), BaseProtocol(loop)
        self.protocol.transport, self.protocol._upgraded = self.line, True
        self.queue = kind.WebSocketDataQueue(self.protocol, 2**18, loop=loop)
        self.inner = kind.WebSocketReader(self.queue, MOST, compress=False, decode_text=False)
        self.reader = Reader(self.inner, self.queue)
        self._writer: Any = WebSocketWriter(self.protocol, self.line)


def is_paused(side: Side) -> bool:
    return side.line.paused


def frame(kind: int, data: bytes, *, last: bool = True, mask: bool = False) -> bytes:
    size, masked = len(data), 128 if mask else 0
    head = bytes([kind | (128 if last else 0)])
    if size < 126:
        head += bytes([masked | size])
    elif size < 65536:
        head += bytes([masked | 126]) + struct.pack(">H", size)
    else:
        head += bytes([masked | 127]) + struct.pack(">Q", size)
    return head + bytes(4 if mask else 0) + data


def some_frames(chance: random.Random) -> bytes:
    """Whole messages in one frame or in several, pings between them, and the beginning of one."""
    said = b""
    for number in range(40):
        kind = BINARY
        for _ in range(chance.choice((0, 0, 1, 5))):
            size = chance.choice((0, 1, 125, 126, 3000, 70_000))
            said += frame(kind, bytes(size), last=False, mask=chance.random() < 0.5)
            kind = 0
            if chance.random() < 0.3:
                said += frame(PING, bytes(chance.choice((0, 5, 125))))
        if number < 39:
            said += frame(kind, bytes(chance.choice((0, 1, 125, 126, 70_000))), mask=chance.random() < 0.5)
    return said + frame(0 if kind == 0 else BINARY, bytes(90_000), last=False)[:-7]


@pytest.mark.parametrize("seed", range(8))
async def test_what_is_unfinished_is_what_aiohttp_holds_however_it_comes(seed: int) -> None:
    chance = random.Random(seed)
    said, side = some_frames(chance), Side(plain)
    while said:
        size = chance.choice((1, 2, 3, 9, 14, 1500, 65536, 200_000))
        part, said = said[:size], said[size:]
        assert side.reader.feed_data(part) == (False, b"")
        held: Any = side.inner
        there = len(held._partial)
        if held._frame_opcode < CLOSE:
            there += len(held._payload_buffer) + sum(map(len, held._payload_fragments))
        pieces = side.reader._unfinished.bytes - there
        assert pieces >= 0 and pieces % PIECE_BYTES == 0
        while side.queue._buffer:
            await side.queue.read()
        assert not held._tail or len(held._tail) < 14
    assert side.reader._unfinished.bytes >= 90_000 - 7


def test_the_fast_reader_is_the_one_in_use() -> None:
    assert used.WebSocketReader.__module__.endswith("reader_c")


async def test_the_queue_and_what_is_not_looked_at_for_its_sake_count() -> None:
    side = Side()
    heard: list[int] = []
    side.reader.changed = lambda: heard.append(side.reader.held_bytes)
    message = frame(BINARY, bytes(100_000))
    for _ in range(7):  # the limit is 512 KiB: the last is not looked at
        side.reader.feed_data(message)
    assert side.queue._stalled_reader is not None
    assert is_paused(side)
    waiting = len(side.queue._buffer)
    assert heard[-1] == waiting * (100_000 + 128 + ENTRY_BYTES) + len(message)
    assert heard[:2] == [100_000 + 128 + ENTRY_BYTES, 2 * (100_000 + 128 + ENTRY_BYTES)]
    for _ in range(7):
        assert len((await side.queue.read()).data) == 100_000
    assert side.reader.held_bytes == 0
    assert (side.reader.waiting, is_paused(side)) == (False, False)


async def test_what_is_dropped_is_held_by_nobody() -> None:
    side = Side()
    for _ in range(6):
        side.reader.feed_data(frame(BINARY, bytes(100_000)))
    side.reader.feed_data(frame(BINARY, bytes(5_000_000), last=False))
    assert is_paused(side)
    inner = weakref.ref(side.inner)
    del side.inner
    side.reader.drop()
    gc.collect()
    assert inner() is None and not side.queue._buffer
    assert not (is_paused(side) or side.line.aborted)


async def test_of_a_side_that_was_dropped_only_its_closing_is_heard() -> None:
    side = Side()
    beginning = frame(BINARY, bytes(100_000), last=False)
    side.reader.feed_data(beginning[:50_000])
    side.reader.drop()
    rest = beginning[50_000:] + frame(0, bytes(200_000)) + frame(PING, b"x") + frame(BINARY, bytes(9))
    rest += frame(CLOSE, b"\x03\xe8bye") + frame(CLOSE, b"") + frame(PING, bytes(20))
    for at in range(0, len(rest), 5):
        assert side.reader.feed_data(rest[at : at + 5]) == (False, b"")
    assert [entry[0].type for entry in side.queue._buffer] == [WSMsgType.CLOSE]


async def test_a_side_that_does_not_take_what_was_sent_is_broken_off() -> None:
    side = Side()
    side.line.unwritten = 1
    side.reader.drop()
    assert side.line.aborted


def test_a_frame_in_pieces_costs_for_each() -> None:
    """So does each of its reads in aiohttp, which keeps them until the frame is whole."""
    found, said = Unfinished(), frame(BINARY, bytes(1000))
    for at in range(len(said) - 1):
        found.feed(said[at : at + 1])
    assert found.bytes > 990 * PIECE_BYTES
    assert found.feed(said[-1:]).bytes == 0
    for part in struct.unpack("7c", frame(PING, b"hello")):
        assert found.feed(part).bytes == 0, "who only says that he is there holds nothing"


async def test_who_is_cut_before_anybody_reads_from_him_is_cut_all_the_same() -> None:
    room, side, other = Room(1000), Side(), Side()
    side.reader.feed_data(frame(BINARY, bytes(2000), last=False))
    scale = Scale(room, "default")
    scale.add(side)
    assert scale.was_cut and not side.queue._buffer and room.bytes == 0
    other.line.unwritten = 1
    scale.add(other)
    assert other.line.aborted
    reading = asyncio.create_task(asyncio.Event().wait())
    scale.ends(reading)
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(20):
            await reading


async def test_what_a_side_has_still_to_take_is_let_go_at_the_end() -> None:
    room, side = Room(10_000), Side()
    scale = Scale(room, "default")
    scale.add(side)
    side.reader.feed_data(frame(BINARY, bytes(2000), last=False))
    scale.carry(100)
    assert room.bytes == 2200 and side.line.high == 0 and side._writer._limit == 0
    side.line.unwritten = 1
    scale.leave()
    assert room.bytes == 0 and side.line.aborted


def test_the_reason_goes_into_a_closing_frame() -> None:
    assert len(TOO_MUCH.encode()) <= 123
