"""Who is let in and for how long, and that those who are not learn nothing and hold up nobody."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import asyncssh
import pytest
from structlog.testing import capture_logs

from service.errors import Misconfigured
from service.ssh import gateway
from service.ssh.entrance import MOST_TRIES, WINDOW_BYTES
from service.ssh.gateway import MOST_STRANGERS_OF_ONE
from service.ssh.host_key import host_key
from service.ssh.sending import MOST_UNSENT_BYTES
from service.ssh.talk import MOST_HELD_BYTES
from service.ssh.words import MOST_VARIABLES
from tests.ssh.client import Key, finished
from tests.ssh.house import House, serving
from tests.supervisor.lab import RUNS_ON
from tests.support.waiting import until


def refused(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What the log says of those who were not let in."""
    return [line for line in lines if line["event"] == "ssh refused"]


@pytest.mark.parametrize(
    ("kind", "how"),
    [("ssh-rsa", {"key_size": 2048}), ("ecdsa-sha2-nistp256", {}), ("ecdsa-sha2-nistp521", {})],
)
async def test_keys_of_other_kinds(house: House, tmp_path: Path, kind: str, how: dict[str, Any]) -> None:
    key = Key.made(tmp_path / "eve", kind, **how)
    job = await house.yard.submit(sshPublicKeys=[house.client.key.public, key.public])
    await house.supervision.running(job["id"], container=house.container)
    assert (await replace(house.client, user=job["id"], key=key).ssh("exit 7")).code == 7


async def test_all_refusals_are_one_to_the_client_and_the_log_tells_them_apart(
    house: House, tmp_path: Path
) -> None:
    eve = Key.made(tmp_path / "eve")
    other = await house.yard.submit(sshPublicKeys=[eve.public])
    await house.supervision.running(other["id"], container=house.container)
    without = await house.yard.submit()
    await house.supervision.running(without["id"], container=house.container)
    waiting = await house.yard.submit(sshPublicKeys=[eve.public])
    ended = await house.yard.submit(sshPublicKeys=[eve.public])
    await house.supervision.running(ended["id"], container=house.container)
    await house.supervision.ended(ended["id"])
    deleted = await house.yard.submit(sshPublicKeys=[eve.public])
    await house.supervision.running(deleted["id"], container=house.container)
    await house.supervision.ended(deleted["id"])
    assert (await house.yard.call("DELETE", f"/v1/job/{deleted['id']}")).status == 204

    cases = {
        house.job: "the key is none of the job's",
        without["id"]: "the key is none of the job's",
        str(uuid4()): "there is no such job",
        deleted["id"]: "there is no such job",
        "root": "the user name is no job's id",
        house.job.upper(): "the user name is no job's id",
        waiting["id"]: "the job is QUEUED",
        ended["id"]: "the job is DONE",
    }
    client = replace(house.client, key=eve)
    said = set()
    for user, why in cases.items():
        with capture_logs() as lines:
            answer = await replace(client, user=user).ssh("true")
            await until(functools.partial(refused, lines))
        (line,) = refused(lines)
        assert why in line["why"] and line["user"] == user and line["peer"] == "127.0.0.1"
        assert answer.code == 255
        said.add(answer.err.decode().replace(user, "USER"))
    assert said == {"USER@127.0.0.1: Permission denied (publickey).\r\n"}
    assert (await replace(client, user=other["id"]).ssh("exit 2")).code == 2
    assert [kind for kind, _, _ in await house.opened()] == ["command"]


async def test_a_key_that_is_only_named_is_not_enough(house: House, tmp_path: Path) -> None:
    """The public half is no secret: whoever sends it must prove to have the other."""
    eve = asyncssh.read_private_key(Key.made(tmp_path / "eve").file)
    true = asyncssh.import_public_key(house.client.key.public)

    (pair,) = asyncssh.load_keypairs([eve])
    pair.public_data = true.public_data  # it says that it is the job's key, and signs with another
    with capture_logs() as lines:
        with pytest.raises(asyncssh.PermissionDenied):
            async with house.connected(client_keys=[pair]):
                raise AssertionError("it was let in")
        await until(lambda: refused(lines))
    assert [line["why"] for line in refused(lines)] == ["the key was not proved"]


async def test_what_is_not_a_key_is_not_asked_for(house: House) -> None:
    for password in ("", "x", None):
        with pytest.raises(asyncssh.PermissionDenied):
            async with house.connected(client_keys=None, agent_path=None, password=password):
                raise AssertionError("it was let in")


async def test_who_is_in_leaves_when_the_job_ends(house: House) -> None:
    shell = await house.client.start("ssh", house.client.at, "sleep 1004")
    idle = await house.client.start("ssh", "-N", house.client.at)
    await until(lambda: house.runs("sleep 1004"))
    await until(lambda: len(house.gateway._in) == 2)
    # The stop order is no end yet: it is seen how the process takes it.
    assert (await house.yard.call("PUT", f"/v1/job/{house.job}/kill")).status == 204
    assert (await house.client.ssh("exit 6")).code == 6
    await until(lambda: len(house.gateway._in) == 2)  # that one has left
    await house.gateway.look()
    assert len(house.gateway._in) == 2
    await house.supervision.ended(house.job)
    assert [(await finished(each)).code for each in (shell, idle)] == [255, 255]

    async def gone() -> bool:
        return not await house.runs("sleep 1004")

    await until(gone)
    assert (await house.client.ssh("true")).code == 255


async def test_who_is_in_leaves_also_when_a_look_has_failed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Roles of Postgres that change, its memory that is short: each is over a moment later."""
    errors = [Misconfigured("Postgres refused the connection"), asyncpg.OutOfMemoryError("out of memory")]
    look = house.gateway.look

    async def failing() -> None:
        if errors:
            raise errors.pop()
        await look()

    idle = await house.client.start("ssh", "-N", house.client.at)
    await until(lambda: house.gateway._in)
    monkeypatch.setattr(house.gateway, "look", failing)
    await until(lambda: not errors)
    await house.supervision.ended(house.job)
    assert (await finished(idle)).code == 255


async def test_another_run_is_another_container(house: House) -> None:
    old = await house.client.start("ssh", house.client.at, "sleep 1005")
    await until(lambda: house.runs("sleep 1005"))
    await house.inside("echo first > /tmp/run")
    await house.supervision.ended(house.job)
    assert (await house.yard.call("PUT", f"/v1/job/{house.job}/start")).status == 204
    container = await house.lab.started(RUNS_ON)
    await house.supervision.running(house.job, 2, container=container)
    assert (await finished(old)).code == 255
    assert (await house.client.ssh("cat /tmp/run || hostname")).out.decode().strip() == container[:12]


async def test_the_service_closes(house: House) -> None:
    process = await house.client.start("ssh", house.client.at, "sleep 1006")
    await until(lambda: house.runs("sleep 1006"))
    await house.gateway.close()
    assert (await finished(process)).code == 255
    assert not await house.runs("sleep 1006")


# -- bounds -----------------------------------------------------------------------------------------


async def test_strangers_are_few_and_do_not_stay(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncExitStack() as stack:
        held = [
            await stack.enter_async_context(line(house.client.port)) for _ in range(MOST_STRANGERS_OF_ONE)
        ]
        for reader, _ in held:
            assert (await reader.readline()).startswith(b"SSH-2.0-Jobyard")
        async with line(house.client.port) as (reader, _):
            assert await reader.read() == b""  # closed at once
        held[0][1].close()
        await until(lambda: len(house.gateway._strangers) < MOST_STRANGERS_OF_ONE)
        assert (await house.client.ssh("exit 8")).code == 8
    monkeypatch.setattr(gateway, "LOGIN_S", 0.05)
    parts = house.gateway.parts
    another = serving(parts.ledger, parts.execs, parts.inside, house.client.home / "host_key")
    async with another as (_, port), line(port) as (reader, _):
        assert (await reader.read()).startswith(b"SSH-2.0-Jobyard")  # to its end


@asynccontextmanager
async def line(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()


async def test_what_is_no_ssh_harms_nobody(house: House) -> None:
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n" + os.urandom(5000), b"\0" * 100_000, b""):
        async with line(house.client.port) as (reader, writer):
            writer.write(sent)
            writer.write_eof()
            with suppress(ConnectionError):  # what came too late is not read, which resets the connection
                await reader.read()
    assert (await house.client.ssh("exit 8")).code == 8


async def test_keys_are_not_tried_for_ever(house: House) -> None:
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(MOST_TRIES + 5)]
    with capture_logs() as lines:
        with pytest.raises((asyncssh.Error, OSError)):
            async with house.connected(client_keys=keys):
                raise AssertionError("it was let in")
        await until(lambda: refused(lines))
    (said,) = refused(lines)
    assert (said["why"], said["tries"]) == ("too many keys were offered", MOST_TRIES + 1)


async def test_connections_of_one_job_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "MOST_OF_ONE_JOB", 2)
    async with house.connected(), house.connected() as second:
        said = await house.client.ssh("true")
        assert said.code == 255 and b"too many SSH connections" in said.err
        second.close()
        await second.wait_closed()
        await until(lambda: len(house.gateway._in) == 1)
        assert (await house.client.ssh("exit 8")).code == 8


async def test_a_client_that_takes_all_and_reads_nothing_costs_little(house: House) -> None:
    async with house.connected() as connection:
        process = await connection.create_process("cat /dev/zero", encoding=None, window=2**31 - 1)
        transport: Any = connection._transport
        assert transport is not None
        transport.pause_reading()
        (entrance,) = house.gateway._in
        await until(lambda: not entrance.free.is_set())
        assert entrance._conn._transport.get_write_buffer_size() < 2 * MOST_UNSENT_BYTES
        transport.resume_reading()
        heard = 0
        async with asyncio.timeout(20):
            while heard < 8 * MOST_UNSENT_BYTES:
                heard += len(await process.stdout.read(65536))
        process.close()


async def test_input_that_nobody_reads_is_not_kept(house: House) -> None:
    with capture_logs() as lines:
        async with house.connected() as connection:
            process = await connection.create_process("sleep 1007", encoding=None)
            process.stdin.write(b"x" * 20 * 1024**2)
            await until(lambda: house.runs("sleep 1007"))
            # It has taken what it takes when the client has nothing left that it may send.
            await until(lambda: process.channel._send_window == 0)
        await until(lambda: any(line["event"] == "ssh session" for line in lines))
    (said,) = (line for line in lines if line["event"] == "ssh session")
    assert 0 < said["received_bytes"] <= MOST_HELD_BYTES + WINDOW_BYTES + 1024**2
    assert said["cut"] and said["code"] is None


async def test_variables_are_few_and_only_of_the_locale(house: House) -> None:
    sent = {f"LC_{'A' * number}": "C" for number in range(1, 31)}
    sent |= {"LD_PRELOAD": "/tmp/x.so", "LC_WRONG": "a b;c", "LANG": "C.UTF-8\n"}
    async with house.connected() as connection:
        found = await connection.run("env", env=sent)
    assert isinstance(found.stdout, str)
    names = {each.partition("=")[0] for each in found.stdout.splitlines()}
    assert len({name for name in names if name.startswith("LC_")}) == MOST_VARIABLES
    assert not names & {"LD_PRELOAD", "LC_WRONG", "LANG"}


# -- the host key -----------------------------------------------------------------------------------


def test_the_host_key_is_there_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bytes are on the disk before it has its name, and the name is before it is used."""
    settled: list[tuple[Path, bool]] = []
    settle, file = os.fsync, tmp_path / "key"

    def noting(descriptor: int) -> None:
        settled.append((Path(f"/proc/self/fd/{descriptor}").resolve(), file.exists()))
        settle(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    host_key(file)
    (draft, named_before), *after = settled
    assert draft.parent == tmp_path and not named_before
    assert after == [(tmp_path, True)]


async def test_processes_that_make_the_host_key_at_once_agree(tmp_path: Path) -> None:
    file = tmp_path / "state" / "key"
    made = await asyncio.gather(*(asyncio.to_thread(host_key, file) for _ in range(8)))
    assert len({key.get_fingerprint() for key in made}) == 1
    assert host_key(file).get_fingerprint() == made[0].get_fingerprint()
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]
    file.chmod(0o640)
    with pytest.raises(Misconfigured, match="chmod 600"):
        host_key(file)
