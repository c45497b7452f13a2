"""Clients with their job's key who do what no client does: it costs the service little, and nobody waits."""

from __future__ import annotations

import time
from typing import Any

import asyncssh
import pytest
from asyncssh.channel import SSHChannel
from asyncssh.constants import MSG_CHANNEL_DATA
from asyncssh.packet import String, UInt32

from service.rate import Rates
from service.ssh import gateway, sending
from service.ssh.entrance import MOST_SESSIONS, Entrance
from service.ssh.pieces import PIECE_BYTES
from service.ssh.reading import MOST_READ_BYTES
from service.ssh.sending import MOST_DEFERRED
from service.ssh.talk import LEAST_PACKET_BYTES
from tests.ssh.house import House
from tests.support.waiting import until


def begin_exchange(connection: Any) -> None:
    """Ask for new keys, then hear nothing more: what is sent afterwards goes out as if there were none."""
    connection._recv_handler = lambda: False
    connection._send_kexinit()
    connection._kex_complete = True


def only(house: House) -> Entrance:
    (entrance,) = house.gateway._in
    return entrance


def deferred_bytes(entrance: Entrance) -> int:
    return sum(len(arg) for _, args in entrance._conn._deferred_packets for arg in args)


async def raw_channel(connection: Any, kind: bytes = b"session", *words: bytes, **sizes: int) -> Any:
    """A channel that nothing was asked of yet."""
    bounds = {"window": 2**21, "max_pktsize": 2**15} | sizes
    channel: Any = SSHChannel(connection, connection._loop, None, "strict", **bounds)
    await channel._open(kind, *words)
    return channel


# -- a key exchange that is not finished ---------------------------------------------------------------


async def test_nothing_is_read_for_a_client_amid_a_key_exchange(house: House) -> None:
    async with house.connected() as connection:
        process = await connection.create_process("cat /dev/zero", encoding=None, window=2**31 - 1)
        await process.stdout.readexactly(2**20)
        entrance = only(house)
        begin_exchange(connection)
        await until(lambda: not entrance._conn._kex_complete)
        for _ in range(3):  # the service goes on meanwhile
            assert (await house.client.ssh("exit 8")).code == 8
        assert deferred_bytes(entrance) < 2**19
        assert not entrance.free.is_set()
        connection.abort()


async def test_requests_amid_a_key_exchange_are_few(house: House) -> None:
    async with house.connected() as connection:
        channel = await raw_channel(connection)
        entrance = only(house)
        begin_exchange(connection)
        for _ in range(MOST_DEFERRED + 1):
            channel._send_request(b"nothing", want_reply=True)
        await until(lambda: not house.gateway._in)
        assert len(entrance._conn._deferred_packets) <= MOST_DEFERRED + 1


async def test_a_key_exchange_is_over_soon_or_the_connection_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house.connected() as connection:
        await connection.run("true")
        monkeypatch.setattr(sending, "EXCHANGE_S", 0.05)
        begin_exchange(connection)
        await until(lambda: not house.gateway._in)


async def test_new_keys_in_the_middle_of_everything(house: House) -> None:
    """Many exchanges, begun by either side, while much is sent both ways."""
    sent = bytes(range(256)) * 2**14
    async with house.connected(rekey_bytes=2**18) as connection:
        await connection.run("true")
        only(house)._conn._rekey_bytes = 300_000
        found = await connection.run("cat", input=sent, encoding=None)
        assert found.stdout == sent
        assert only(house).free.is_set()
        await until(lambda: only(house).hand.bytes == 0)


# -- small packets -------------------------------------------------------------------------------------


async def test_input_in_small_packets_is_joined(house: House) -> None:
    sent = 10_000
    async with house.connected() as connection:
        channel = await raw_channel(connection)
        for number in range(sent):
            channel.send_packet(MSG_CHANNEL_DATA, String(b"%d" % (number % 10)))
        (held,) = only(house)._conn._channels.values()
        await until(lambda: held._init_recv_window - held._recv_window == sent)
        assert len(held._recv_buf) <= 1 + 2 * sent // PIECE_BYTES
        channel._send_request(b"exec", String(b"cat > /tmp/digits"))
        channel.write_eof()
        await until(lambda: not only(house)._conn._channels)
    assert await house.inside("cat /tmp/digits") == "0123456789" * (sent // 10)


async def test_little_is_read_at_a_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much has come: all packets in it are gone through before anything else is done."""
    async with house.connected() as connection:
        conn, sizes = only(house)._conn, []
        taken = conn.data_received

        def counted(data: bytes) -> None:
            sizes.append(len(data))
            taken(data)

        monkeypatch.setattr(conn, "data_received", counted)
        found = await connection.run("wc -c", input=b"x" * 2**20, encoding=None)
        assert found.stdout == b"%d\n" % 2**20
    assert sum(sizes) > 2**20
    assert max(sizes) <= MOST_READ_BYTES


async def test_output_in_small_pieces_is_joined(house: House) -> None:
    """A client that takes nothing at first, and a command that writes byte by byte."""
    pieces = 3000
    async with house.connected() as connection:
        channel = await raw_channel(connection, window=0)
        (held,) = only(house)._conn._channels.values()
        text = f"i=0; while [ $i -lt {pieces} ]; do printf x; i=$((i+1)); done"
        channel._send_request(b"exec", String(text.encode()))
        await until(lambda: held._send_buf_len == pieces)
        assert len(held._send_buf) == 1


async def test_a_client_that_takes_tiny_packets_is_told(house: House) -> None:
    port = String(b"localhost") + UInt32(80) + String(b"localhost") + UInt32(0)
    async with house.connected() as connection:
        for _ in range(20):  # none of them is counted for ever
            for kind, words in ((b"session", b""), (b"direct-tcpip", port)):
                with pytest.raises(asyncssh.ChannelOpenError, match="at least 1024 bytes"):
                    await raw_channel(connection, kind, words, max_pktsize=LEAST_PACKET_BYTES - 1)
        assert (only(house)._sessions, only(house)._forwards) == (0, 0)
        await raw_channel(connection, max_pktsize=LEAST_PACKET_BYTES)
    assert (await house.client.ssh("exit 8")).code == 8


# -- sessions that are left at once --------------------------------------------------------------------


async def test_a_connection_that_is_lost_has_its_place_until_its_sessions_are_over(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ending what one began takes a while: who comes and goes would have any number of them."""
    monkeypatch.setattr(gateway, "MOST_OF_ONE_JOB", 2)
    house.gateway.openings = Rates(1e6, 1e6, time.monotonic)
    refused, most = 0, 0
    for _ in range(12):
        async with house.connected() as connection:
            try:
                for _ in range(MOST_SESSIONS):
                    channel = await raw_channel(connection)
                    channel._send_request(b"exec", String(b"sleep 1012"))
                most = max(most, len(house.gateway._work))
            except (asyncssh.Error, OSError):
                refused += 1
            connection.abort()
    assert refused and most <= 2 * MOST_SESSIONS
    await until(lambda: not house.gateway._work)
    assert not house.gateway._in
    assert (await house.client.ssh("exit 8")).code == 8


async def test_sessions_that_are_left_count_until_they_are_over(house: House) -> None:
    """What they have begun in the container is still to be ended."""
    house.gateway.openings = Rates(1e6, 1e6, time.monotonic)
    most = opened = refused = 0
    async with house.connected() as connection:
        for _ in range(5 * MOST_SESSIONS):
            try:
                channel = await raw_channel(connection)
            except asyncssh.ChannelOpenError:
                refused += 1
                continue
            channel._send_request(b"exec", String(b"sleep 1011"))
            channel.abort()
            opened += 1
            most = max(most, len(house.gateway._work))
        assert refused and most <= MOST_SESSIONS
        await until(lambda: not house.gateway._work)
        assert only(house)._sessions == 0
        assert (await connection.run("exit 8")).exit_status == 8
    assert opened >= MOST_SESSIONS
