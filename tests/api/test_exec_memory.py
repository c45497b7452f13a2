"""What sockets to commands hold in the API's process: input that no command reads, messages that do not end,
output that no client takes. Over plain HTTP: `test_exec`."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.api.call import SERVICE
from service.api.exec_socket import CLOSE, STDIN, STDOUT
from service.api.job_http.weighing import TOO_MUCH
from service.held import Room as InHand
from tests.api.test_exec import Room, Socket, exit_code, room
from tests.supervisor.lab import shell
from tests.support.waiting import until

__all__ = ["room"]

MB = 1_000_000


def in_hand(room: Room) -> InHand:
    return room.yard.app[SERVICE].parts.held


def begin_message(socket: Socket, size: int) -> None:
    """A message to a command's input that does not end yet."""
    data = bytes([STDIN]) + bytes(size - 1)
    frame = b"\x02\xff" + struct.pack(">Q", size) + bytes(4) + data  # masked with nought
    transport: Any = socket.raw._writer.transport
    transport.write(frame)


def end_message(socket: Socket, data: bytes) -> None:
    transport: Any = socket.raw._writer.transport
    transport.write(bytes([0x80, 0x80 + len(data)]) + bytes(4) + data)


async def holds(room: Room, least: int) -> None:
    async def enough() -> bool:
        return in_hand(room).bytes >= least

    await until(enough)


async def holds_nothing(room: Room) -> None:
    async def nothing() -> bool:
        return in_hand(room).bytes == 0

    await until(nothing)


async def are_gone(room: Room, words: str) -> None:
    async def gone() -> bool:
        return words not in await room.processes()

    await until(gone)


async def test_who_holds_most_is_cut_and_the_others_lose_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_hand(room), "_most", 4 * MB)
    unfinished = await room.open(*shell("wc -c"), stdin=True)
    begin_message(unfinished, MB)
    await holds(room, MB)
    unread = await room.open("sleep", "4321", stdin=True)
    await unread.say(STDIN, bytes(MB))
    await holds(room, 3 * MB)  # a message in hand is held twice: as it came, and as it is written
    last = await room.open(*shell("wc -c"), stdin=True)
    with capture_logs() as lines:
        begin_message(last, MB)
        heard, status = await unread.end()
        await until(lambda: TOO_MUCH in [line.get("cut") for line in lines])
    assert (status, heard[STDOUT]) == (None, b"")
    assert unread.raw.close_code == 1013
    await are_gone(room, "sleep 4321")
    for each in (unfinished, last):
        end_message(each, b"12345")
        await each.say(CLOSE, bytes([STDIN]))
        heard, status = await each.end()
        assert (exit_code(status), int(heard[STDOUT])) == (0, MB - 1 + 5)
    await holds_nothing(room)


async def test_output_that_no_client_takes_is_in_hand_and_can_be_cut(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than a piece of it; a client that takes nothing cannot be told why."""
    lazy = await room.open(*shell("exec cat /dev/zero"))
    await lazy.hear(bytes(1))
    transport: Any = lazy.raw._writer.transport
    transport.pause_reading()
    await holds(room, 20_000)
    assert in_hand(room).bytes <= MB
    monkeypatch.setattr(in_hand(room), "_most", 15_000)
    other = await room.open("cat", stdin=True)
    with capture_logs() as lines:
        await other.say(STDIN, bytes(5000))
        await until(lambda: TOO_MUCH in [line.get("cut") for line in lines])
    await are_gone(room, "cat /dev/zero")
    assert len(await other.hear(bytes(5000))) == 5000
    await other.say(CLOSE, bytes([STDIN]))
    _, status = await other.end()
    assert exit_code(status) == 0
    await holds_nothing(room)
