"""Ports of the job's own by `ssh -L`, and nothing else that SSH could lead to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import asyncssh
import pytest

from service.errors import NotRunning
from service.local.objectstore import free_port
from service.ssh.entrance import MOST_FORWARDS
from service.ssh.forward import Connection
from service.supervisor.inside import containers
from service.supervisor.inside.containers import Inside
from tests.ssh.client import Client, finished
from tests.ssh.house import House
from tests.ssh.test_files import not_root
from tests.support.waiting import until

__all__ = ["not_root"]
BIG = 2_000_000


@asynccontextmanager
async def forwarded(client: Client, to: str) -> AsyncIterator[int]:
    """A port of this machine that the real client forwards."""
    port = free_port()
    process = await client.start("ssh", "-N", "-L", f"127.0.0.1:{port}:{to}", client.at)

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await until(listens)
        yield port
    finally:
        process.terminate()
        await finished(process)


@asynccontextmanager
async def serving(house: House, port: int, text: str) -> AsyncIterator[None]:
    """While it lasts, a program in the container listens on a port."""

    async def listens() -> bool:
        return f":{port:04X} " in await house.inside("cat /proc/net/tcp /proc/net/tcp6")

    async with house.running(text):
        await until(listens)
        yield


def http_server(address: str) -> str:
    return (
        "mkdir -p /tmp/www; echo hello from the job > /tmp/www/index.html;"
        f"head -c {BIG} /dev/zero > /tmp/www/big; exec httpd -f -p {address} -h /tmp/www"
    )


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_a_real_http_client_reaches_a_port_that_only_the_job_can_see(house: House, name: str) -> None:
    async with (
        serving(house, 8080, http_server("127.0.0.1:8080")),
        forwarded(house.client, f"{name}:8080") as port,
        aiohttp.ClientSession() as http,
    ):
        for path, size in (("", 19), ("big", BIG), ("", 19)):
            async with http.get(f"http://127.0.0.1:{port}/{path}") as answer:
                assert (answer.status, len(await answer.read())) == (200, size)
    kinds = [(kind, words) for kind, words, _ in await house.opened()]
    assert kinds == [("forward", ["8080"])]


async def test_both_ends_can_close_first_and_nothing_is_lost(house: House) -> None:
    async with (
        serving(house, 7000, "exec nc -ll -p 7000 -e cat"),
        serving(house, 7001, "exec nc -ll -p 7001 -e echo bye"),
        house.connected() as connection,
    ):
        reader, writer = await connection.open_connection("localhost", 7000)
        writer.write(b"x" * BIG)
        writer.write_eof()
        assert len(await reader.read()) == BIG
        reader, writer = await connection.open_connection("localhost", 7001)
        assert await reader.read() == b"bye\n"
        writer.close()


async def test_a_far_end_that_takes_little_at_a_time_is_given_all() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for each in (ours, theirs):
            each.setblocking(False)
        writing = asyncio.create_task(Connection(ours).write(b"x" * BIG))
        loop, taken = asyncio.get_running_loop(), 0
        async with asyncio.timeout(20):
            while taken < BIG:
                taken += len(await loop.sock_recv(theirs, 1000))
            await writing


async def test_nothing_but_the_job_is_led_to(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hosts:
        port = hosts.getsockname()[1]
        async with house.connected() as connection:
            # The host's own port is none of the job's, whatever it is called.
            with pytest.raises(asyncssh.ChannelOpenError, match="refused") as refused:
                await connection.open_connection("127.0.0.1", port)
            assert refused.value.code == asyncssh.OPEN_CONNECT_FAILED
            gateway = await house.inside("ip route | grep default | cut -d' ' -f3 || true")
            for host in (
                "example.org",
                "10.0.0.1",
                "127.0.0.2",
                "0.0.0.0",
                "::",
                "",
                gateway.strip() or "172.17.0.1",
            ):
                with pytest.raises(asyncssh.ChannelOpenError, match="only to a port of the job") as refused:
                    await connection.open_connection(host, port)
                assert refused.value.code == asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED
            for number in (0, 65_536, 2**32 - 1):
                with pytest.raises(asyncssh.ChannelOpenError, match="only to a port"):
                    await connection.open_connection("localhost", number)
            for wrong in (
                connection.open_unix_connection("/var/run/docker.sock"),
                connection.create_tun(asyncssh.SSHTunTapSession),
            ):
                with pytest.raises(asyncssh.ChannelOpenError):
                    await wrong
            with pytest.raises(asyncssh.ChannelListenError):
                await connection.start_server(lambda *_: None, "127.0.0.1", 0)
    assert [kind for kind, _, _ in await house.opened()] == ["forward"]


async def test_the_real_client_is_told_so(house: House, tmp_path: Path) -> None:
    said = await replace(house.client, log_level="INFO").ssh(options=("-W", "example.org:80"))
    assert said.code != 0 and b"administratively prohibited" in said.err
    options = ("-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1")
    assert (await house.client.ssh(options=options)).code != 0
    # An agent and a display are not asked for twice: the session goes on without.
    said = await house.client.ssh("env", options=("-A", "-X"), SSH_AUTH_SOCK=str(tmp_path / "none"))
    assert said.code == 0
    assert b"SSH_AUTH_SOCK" not in said.out and b"DISPLAY" not in said.out


async def test_forwards_are_bounded_and_end_with_their_connection(house: House) -> None:
    async with serving(house, 7000, "exec nc -ll -p 7000 -e cat"):
        async with house.connected() as connection:
            held = [await connection.open_connection("localhost", 7000) for _ in range(MOST_FORWARDS)]
            with pytest.raises(asyncssh.ChannelOpenError, match=f"at most {MOST_FORWARDS}"):
                await connection.open_connection("localhost", 7000)
            held.pop()[1].close()
            await until(lambda: len(house.gateway._work) < MOST_FORWARDS)
            await connection.open_connection("localhost", 7000)
        await until(lambda: not house.gateway._work)


@pytest.mark.usefixtures("not_root")
async def test_without_root_it_is_the_containers_address(house: House) -> None:
    async with (
        serving(house, 8080, http_server("0.0.0.0:8080")),
        forwarded(house.client, "localhost:8080") as port,
        aiohttp.ClientSession() as http,
    ):
        answer = await http.get(f"http://127.0.0.1:{port}/")
        assert await answer.read() == b"hello from the job\n"


async def test_the_address_of_a_container_that_has_just_ended_is_anybodys(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Inside._place

    async def looked(self: Inside, container_id: str) -> object:
        found = await look(self, container_id)
        await house.lab.engine.remove(container_id, force=True)
        return found

    monkeypatch.setattr(Inside, "_place", looked)
    inside = Inside()
    try:
        with pytest.raises(NotRunning):
            await inside.connect(house.container, 8080)
    finally:
        await inside.close()


async def test_a_thread_that_went_into_a_network_is_back(house: House) -> None:
    inside = house.gateway.parts.inside
    assert isinstance(inside, Inside)
    place = await inside._place(house.container)
    held = inside._held(place, house.container)
    before = Path("/proc/thread-self/ns/net").readlink()
    made = containers._socket_within(held.network, socket.AF_INET)
    assert Path("/proc/thread-self/ns/net").readlink() == before
    made.close()
    held.close()
