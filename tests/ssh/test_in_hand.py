"""What waits on all connections together: bounded, by whose it is, and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import String, UInt32
from structlog.testing import capture_logs

from service.held import Room
from service.ssh import entrance
from service.ssh.entrance import TOO_MUCH, WINDOW_BYTES, Entrance
from service.ssh.gateway import KEEPALIVE_S
from service.ssh.pieces import PIECE_COST_BYTES
from service.ssh.talk import Talk
from tests.api.yard import OPERATOR, SPEC, Supervision
from tests.ssh.far import Said, Scripted
from tests.ssh.house import House
from tests.ssh.test_bounds import begin_exchange, deferred_bytes, only, raw_channel
from tests.ssh.test_forward import serving
from tests.support.waiting import until

MIB = 1024**2


async def another_job(house: House, project: str = "default") -> str:
    """One more in the same container, that the same key leads to."""
    await house.yard.token(project, OPERATOR, project=project)
    spec = SPEC | {"sshPublicKeys": [house.client.key.public]}
    answer = await house.yard.call("POST", "/v1/job", spec, token=project)
    assert answer.status == 200, answer.raw
    await Supervision(house.yard, project).running(answer.json["id"], container=house.container)
    return str(answer.json["id"])


async def stuff(connection: Any, sessions: int) -> None:
    """Send to commands that read nothing all that they may be sent."""
    for _ in range(sessions):
        channel = (await connection.create_process("sleep 1013", encoding=None)).channel
        channel.write(b"x" * 4 * WINDOW_BYTES)
        await until(partial(said_all, connection, channel))


def said_all(connection: Any, channel: Any) -> bool:
    return bool(channel._send_window == 0 or connection.is_closed())


def of_job(house: House, job: str) -> Entrance:
    (found,) = (each for each in house.gateway._in if str(each.guest.job) == job)
    return found


def cut(lines: Any) -> list[tuple[str, str]]:
    return [(line["job"], line["why"]) for line in lines if line["event"] == "ssh cut"]


async def emptied(house: House) -> None:
    await until(lambda: not house.gateway._in and not house.gateway._work)
    assert (house.gateway.held.bytes, house.gateway.held._owners) == (0, {})


# -- input that far ends do not take -------------------------------------------------------------------


async def test_who_fills_many_channels_is_cut_and_a_neighbour_is_served_whole(house: House) -> None:
    house.gateway.held = room = Room(8 * MIB)
    neighbour, sent, most = await another_job(house, "other"), bytes(range(256)) * 2**14, 0
    with capture_logs() as lines:
        async with (
            house.connected(username=neighbour) as other,
            house.connected() as small,
            house.connected() as greedy,
        ):
            await stuff(small, 1)
            process = await other.create_process("cat", encoding=None)
            process.stdin.write(sent[: MIB // 2])
            filling = asyncio.create_task(stuff(greedy, 10))

            def seen() -> bool:
                nonlocal most
                most = max(most, sum(each.hand.bytes for each in house.gateway._in))
                return bool(cut(lines))

            await until(seen)
            assert cut(lines) == [(house.job, TOO_MUCH)]
            await until(greedy.is_closed)
            await asyncio.gather(filling, return_exceptions=True)
            process.stdin.write(sent[MIB // 2 :])
            process.stdin.write_eof()
            assert await process.stdout.read() == sent
            assert not small.is_closed()
            assert 4 * MIB < most <= 8 * MIB + 2**15
        await emptied(house)
    assert room.bytes == 0
    assert len(cut(lines)) == 1


async def test_jobs_of_one_project_count_together(house: House) -> None:
    """Who has several jobs is not served before one with more in a single one."""
    house.gateway.held = Room(13 * MIB // 2)
    house.gateway.parts = replace(house.gateway.parts, execs=Scripted(before_it_takes=asyncio.Event().wait))
    neighbour, second = await another_job(house, "other"), await another_job(house)
    with capture_logs() as lines:
        async with (
            house.connected(username=neighbour) as other,
            house.connected() as one,
            house.connected(username=second) as two,
        ):
            await stuff(other, 3)
            await stuff(one, 2)
            await until(lambda: house.gateway.held.bytes > 5 * MIB)
            filling = asyncio.create_task(stuff(two, 2))
            await until(lambda: cut(lines))
            assert cut(lines) == [(house.job, TOO_MUCH)]
            assert of_job(house, neighbour).hand.bytes > 3 * MIB
            await filling
            assert not two.is_closed()
            assert not other.is_closed()
        await emptied(house)


async def test_all_that_waits_is_counted_and_given_back(house: House) -> None:
    may_take = asyncio.Event()
    far = Scripted(before_it_takes=may_take.wait)
    house.gateway.parts = replace(house.gateway.parts, execs=far)
    async with house.connected() as connection:
        process = await connection.create_process("any", encoding=None)
        process.stdin.write(b"x" * 700_000)  # the window, and less than is taken before it is paused
        hand = only(house).hand
        await until(lambda: far.given)
        await until(lambda: hand.bytes >= 700_000)
        assert hand.bytes - 700_000 <= 50 * PIECE_COST_BYTES
        await until(lambda: house.gateway.held.bytes == hand.bytes)
        may_take.set()
        await until(lambda: sum(map(len, far.taken)) == 700_000)
        await until(lambda: house.gateway.held.bytes == 0)
        process.channel.abort()
        await until(lambda: not hand._parts)
    await emptied(house)


@pytest.mark.parametrize("size", [100_000, MIB])
async def test_what_is_left_of_a_lost_connection_goes_before_its_commands_have_ended(
    house: House, size: int
) -> None:
    """And the far end does not take it for all that there was."""
    may_end = asyncio.Event()
    far = Scripted(before_it_is_over=may_end.wait)
    house.gateway.parts = replace(house.gateway.parts, execs=far)
    async with house.connected() as connection:
        process = await connection.create_process("any", encoding=None)
        (talk,) = only(house).hand._parts
        assert isinstance(talk, Talk)

        async def until_it_is_gone() -> None:
            await (talk.gone if far.given == 1 else asyncio.Event()).wait()

        far.before_it_takes = until_it_is_gone
        process.stdin.write(b"x" * size)
        process.stdin.write_eof()
        await until(lambda: process.channel._send_state == "eof" and talk.received_bytes)
        await until(lambda: far.given and house.gateway.held.bytes >= size)
        (held,) = only(house)._conn._channels.values()
        await until(lambda: held._recv_state != "open")
        connection.abort()
        await until(lambda: talk.gone.is_set())
        await until(lambda: house.gateway.held.bytes == 0)
        assert house.gateway._work
        assert talk._held.size_bytes == 0 and not talk._chan._recv_buf
        await until(lambda: far.taken)
        may_end.set()
    await emptied(house)
    assert not far.has_ended_input


async def test_what_went_out_by_itself_is_seen_by_the_next_look(house: House) -> None:
    """Nothing tells of it: a client that takes all and says nothing is as one that takes nothing."""
    waited = []

    def until_it_waits() -> Iterator[Said]:
        while (waits := house.gateway.held.bytes) < MIB // 2:
            yield Said(b"x" * 30_000)
        waited.append(waits)

    far = Scripted(says=until_it_waits())
    house.gateway.parts = replace(house.gateway.parts, execs=far)
    async with house.connected() as connection:
        process = await connection.create_process("any", encoding=None, window=2**31 - 1)
        await until(lambda: waited)
        await process.stdout.readexactly(far.asked * 30_000)
        await until(lambda: house.gateway.held.bytes == 0, KEEPALIVE_S / 2)
    await emptied(house)


# -- output that clients do not take -------------------------------------------------------------------


async def test_a_client_that_reads_nothing_from_its_line_is_cut(house: House) -> None:
    house.gateway.held = Room(MIB * 3 // 4)
    with capture_logs() as lines:
        async with house.connected() as connection:
            await connection.create_process("cat /dev/zero", encoding=None, window=2**31 - 1)
            transport: Any = connection._transport
            transport.pause_reading()
            await until(lambda: cut(lines))
        assert cut(lines) == [(house.job, TOO_MUCH)]
        await emptied(house)
        assert (await house.client.ssh("exit 8")).code == 8


async def test_a_client_that_opens_no_window_is_cut(house: House) -> None:
    house.gateway.held = Room(MIB // 2)
    with capture_logs() as lines:
        async with house.connected() as connection:
            for _ in range(10):
                channel = await raw_channel(connection, window=0)
                channel._send_request(b"exec", String(b"cat /dev/zero"))
            await until(lambda: cut(lines))
        assert cut(lines) == [(house.job, TOO_MUCH)]
        await emptied(house)


async def test_what_a_far_end_has_said_is_counted_from_when_it_was_asked(house: House) -> None:
    far = Scripted(says=[Said(b"x" * 30_000)] * 10)
    house.gateway.parts = replace(house.gateway.parts, execs=far)
    async with house.connected() as connection:
        channel = await raw_channel(connection, window=0)
        channel._send_request(b"exec", String(b"any"))
        (held,) = only(house)._conn._channels.values()
        await until(lambda: held._send_paused and far.asked * 30_000 > held._send_buf_len)
        said, pieces = far.asked * 30_000, len(held._send_buf)
        await until(lambda: house.gateway.held.bytes == said + pieces * PIECE_COST_BYTES)
        channel._recv_window = channel._init_recv_window = MIB
        channel.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(MIB))
        await until(lambda: far.asked == 10 and house.gateway.held.bytes == 0)
    await emptied(house)


async def test_what_waits_for_new_keys_is_counted(house: House) -> None:
    far = Scripted(says=[Said(b"x" * 30_000)] * 10)
    house.gateway.parts = replace(house.gateway.parts, execs=far)
    async with house.connected() as connection:
        channel = await raw_channel(connection, window=0)
        channel._send_request(b"exec", String(b"any"))
        conn = only(house)._conn
        (held,) = conn._channels.values()
        await until(lambda: held._send_paused)
        begin_exchange(connection)
        await until(lambda: not conn._kex_complete)
        channel.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(MIB))
        await until(lambda: deferred_bytes(only(house)) > 60_000)
        await until(lambda: house.gateway.held.bytes >= deferred_bytes(only(house)))
        assert house.gateway.held.bytes == only(house).hand.bytes
        connection.abort()
    await emptied(house)


def all_closing(house: House, count: int) -> bool:
    states = [each._send_state for each in only(house)._conn._channels.values()]
    return states == ["close_pending"] * count


async def test_forwards_count_until_their_client_has_taken_all(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when their far end has said all it has to say, and is gone."""
    monkeypatch.setattr(entrance, "MOST_FORWARDS", 3)
    words = (String(b"localhost"), UInt32(7001), String(b"localhost"), UInt32(0))
    async with serving(house, 7001, "exec nc -ll -p 7001 -e echo bye"), house.connected() as connection:
        channels = []
        for count in range(1, 4):
            channels.append(await raw_channel(connection, b"direct-tcpip", *words, window=0))
            channels[-1].write_eof()
            await until(partial(all_closing, house, count))
        with pytest.raises(asyncssh.ChannelOpenError, match="at most 3 forwards"):
            await raw_channel(connection, b"direct-tcpip", *words)
        assert house.gateway.held.bytes == 3 * (4 + PIECE_COST_BYTES)
        for channel in channels:
            channel._recv_window = 100
            channel.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(100))
        entered = only(house)
        await until(lambda: entered._forwards == 0)
        await raw_channel(connection, b"direct-tcpip", *words)
    await emptied(house)
