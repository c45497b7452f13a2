"""Files by scp and sftp: real clients, hostile containers, and images that have nothing for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from service.errors import OutOfReach
from service.supervisor.engine.wire import Wire
from service.supervisor.inside.containers import Inside
from service.supervisor.inside.hold import NotHeld, hold
from tests.ssh.client import Client, Said
from tests.ssh.house import House
from tests.support.waiting import until

MIB = 1024**2


async def sftp(client: Client, *lines: str) -> Said:
    """A batch of commands to the real `sftp`."""
    return await client.run("sftp", "-b", "-", client.at, stdin=("\n".join(lines) + "\n").encode())


@asynccontextmanager
async def session(house: House) -> AsyncIterator[asyncssh.SFTPClient]:
    async with house.connected() as connection, connection.start_sftp_client() as client:
        yield client


async def read(files: asyncssh.SFTPClient, path: str) -> bytes:
    async with files.open(path, "rb") as file:
        found: Any = await file.read(MIB)  # its annotation knows only text
        return bytes(found)


async def test_scp_there_and_back(house: House, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.write_bytes(os.urandom(MIB + 1))
    there.chmod(0o640)
    said = await house.client.run("scp", "-p", str(there), f"{house.client.at}:/tmp/it")
    assert (said.code, said.err) == (0, b"")
    assert await house.inside("stat -c '%a %u %g %s' /tmp/it") == f"640 42420 42420 {MIB + 1}\n"
    said = await house.client.run("scp", "-p", f"{house.client.at}:/tmp/it", str(back))
    assert (said.code, said.err) == (0, b"")
    assert back.read_bytes() == there.read_bytes()
    assert int(back.stat().st_mtime) == int(there.stat().st_mtime)


async def test_scp_of_a_whole_folder(house: House, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    names = [f"{number:03}" for number in range(150)] + ["a b", "é", "-x", "*"]
    for name in names:
        (folder / "inner" / name).write_text(name)
    assert (await house.client.run("scp", "-rq", str(folder), f"{house.client.at}:/tmp/")).code == 0
    back = tmp_path / "back"
    assert (await house.client.run("scp", "-rq", f"{house.client.at}:/tmp/folder", str(back))).code == 0
    assert {each.name: each.read_text() for each in (back / "inner").iterdir()} == {
        name: name for name in names
    }


async def test_sftp_lists_renames_links_and_removes(house: House, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello\n")
    said = await sftp(
        house.client,
        "cd /tmp",
        "mkdir d",
        f"put {tmp_path}/file d/one",
        "rename d/one d/two",
        "ln -s two d/link",
        "ln d/two d/hard",
        "chmod 600 d/two",
        "ls -l d",
        "ls -1 d",
        "df -h /tmp",
        "rm d/link",
        "pwd",
        f"get d/hard {tmp_path}/back",
    )
    assert (said.code, said.err) == (0, b""), said
    assert b"-rw-------   2 42420    42420           6 " in said.out
    assert b"lrwxrwxrwx" in said.out and b"%Capacity" in said.out
    assert b"Remote working directory: /tmp\n" in said.out
    assert (tmp_path / "back").read_text() == "hello\n"
    assert await house.inside("ls /tmp/d; cat /tmp/d/two") == "hard\ntwo\nhello\n"
    for wrong in (
        "mkdir d",
        "rm nothing",
        "put /etc/hostname /etc/x",
        "get /bin",
        "rmdir d",
    ):
        assert (await sftp(house.client, "cd /tmp", wrong)).code != 0, wrong


async def test_a_rename_of_the_protocols_own_replaces_nothing(house: House) -> None:
    await house.inside("echo 1 > /tmp/1; echo 2 > /tmp/2")
    async with session(house) as files:
        with pytest.raises(asyncssh.SFTPError, match="taken"):
            await files.rename("/tmp/1", "/tmp/2")
        await files.posix_rename("/tmp/1", "/tmp/2")
        assert await read(files, "/tmp/2") == b"1\n"


async def test_links_lead_to_what_the_container_has_and_nowhere_else(house: House) -> None:
    """The paths are the host's own, too: what is read must be what the job itself would read."""
    socket = os.environ["DOCKER_HOST"].removeprefix("unix://")
    await house.inside(
        "mkdir /tmp/h; cd /tmp/h; ln -s /etc/shadow shadow; ln -s /proc/1/root/etc/shadow root;"
        f"ln -s ../../../../../../../../etc/shadow up; ln -s {socket} socket; ln -s / all;"
        f"ln -s {Path(__file__).parents[2]} sources; ln -s /proc/self/root/etc self"
    )
    assert Path("/etc/shadow").exists() and Path(socket).exists()
    async with session(house) as files:
        for name in ("shadow", "root", "up", "socket", "sources", "self/shadow", "all/etc/shadow"):
            with pytest.raises((asyncssh.SFTPNoSuchFile, asyncssh.SFTPPermissionDenied)):
                await files.stat(f"/tmp/h/{name}")
            with pytest.raises(asyncssh.SFTPError):
                await files.open(f"/tmp/h/{name}", "rb")
        assert sorted(await files.listdir("/tmp/h/all")) == sorted(
            [".", *(await house.inside("ls -a /")).split()[1:]]
        )
        with pytest.raises(asyncssh.SFTPPermissionDenied):
            await files.open("/etc/written", "wb")
        with pytest.raises(asyncssh.SFTPError):
            await files.chown("/tmp/h", uid=0, gid=0)
        # It is not a process of the container's, and there is no process in the container that is not.
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await files.stat("/proc/self/")
        assert (await read(files, "/proc/1/cmdline")).decode() == await house.inside("cat /proc/1/cmdline")


async def test_the_process_within_has_nothing_that_the_job_has_not(house: House) -> None:
    """Looked at from the host, where it can be seen."""
    async with session(house) as files:
        await files.stat("/")
        (pid,) = inner_processes(house.container)
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == status["Gid"].split() == ["42420"] * 4
        assert status["Groups"].strip() == ""
        assert {status[each] for each in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        assert status["NSpid"].split()[-1] == "1"  # alone in a pid namespace of its own
        assert house.container in Path(f"/proc/{pid}/cgroup").read_text()
        assert all(house.container in line for line in limits(pid)), limits(pid)
        assert {each.name for each in Path(f"/proc/{pid}/fd").iterdir()} == {"0", "1", "2"}
        assert Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")[:-1] == [b"LC_ALL=C", b"TZ=UTC0"]
        assert not await house.runs("enter.py")


def inner_processes(container: str) -> set[int]:
    """Processes of ours that are within a container. Other tests have their own, in others."""
    found = set()
    for pid in programs(container):
        with suppress(OSError):
            if "\nUid:\t42420" in Path(f"/proc/{pid}/status").read_text():
                found.add(pid)
    return found


def programs(container: str) -> set[int]:
    """Processes of ours for a container, outer and inner ones."""
    found = set()
    for each in Path("/proc").iterdir():
        with suppress(OSError):
            words = (each / "cmdline").read_bytes() if each.name.isdigit() else b""
            if b"inside/enter.py" in words and container.encode() in words:
                found.add(int(each.name))
    return found


def joined(pid: int, container: str) -> bool:
    """Whether a process is under all of the container's limits."""
    with suppress(OSError):
        return all(container in line for line in limits(pid))
    return False


def limits(pid: int) -> list[str]:
    """The cgroups that limit what it may have."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    limiting = {"memory", "pids", "cpu", "devices", "freezer"}
    v1 = [line for line in lines if limiting & set(line.split(":")[1].split(","))]
    return v1 or lines


async def test_a_fifo_holds_nothing_up_and_handles_are_bounded(house: House) -> None:
    await house.inside("mkfifo /tmp/fifo; echo x > /tmp/file")
    async with house.connected() as connection:
        files = await connection.start_sftp_client()
        try:
            async with asyncio.timeout(20):
                await bounded(files)
        finally:
            connection.abort()  # a server that is held up would be waited for


async def bounded(files: asyncssh.SFTPClient) -> None:
    with pytest.raises(asyncssh.SFTPError):
        await files.open("/tmp/fifo", "wb")
    opened = await files.open("/tmp/fifo", "rb")
    with pytest.raises(asyncssh.SFTPError):
        await opened.read(1, 0)
    await opened.close()
    held = []
    with pytest.raises(asyncssh.SFTPError, match="too many open files"):
        for _ in range(1000):
            held.append(await files.open("/tmp/file", "rb"))
    assert len(held) == 256
    await held.pop().close()
    assert await read(files, "/tmp/file") == b"x\n"


async def test_a_session_ends_with_its_client_and_with_its_container(house: House) -> None:
    process = await house.client.start("sftp", house.client.at)
    await until(lambda: inner_processes(house.container))
    process.kill()
    await process.wait()
    await until(lambda: not inner_processes(house.container))
    async with house.connected() as connection, connection.start_sftp_client() as files:
        await files.stat("/")
        await until(lambda: inner_processes(house.container))
        await house.lab.engine.remove(house.container, force=True)  # which would fail while somebody is in
        await until(lambda: not inner_processes(house.container))
        with pytest.raises((asyncssh.SFTPError, asyncssh.Error)):
            await files.stat("/")


async def test_a_killed_outer_process_takes_the_inner_one_along(house: House) -> None:
    async with session(house) as files:
        await files.stat("/")
        (inner,) = inner_processes(house.container)
        outer = int(Path(f"/proc/{inner}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(outer, 9)
        await until(lambda: not inner_processes(house.container))


async def test_an_inner_process_that_was_held_up_does_not_outlive_its_outer_one(house: House) -> None:
    """The container's limits can hold it up from the moment that it is under them, before it is within."""
    wire = Wire()
    try:
        assert (await wire.call("POST", f"/containers/{house.container}/pause")).status == 204
        async with house.connected() as connection:
            opening = asyncio.ensure_future(connection.start_sftp_client())
            await until(lambda: any(joined(pid, house.container) for pid in programs(house.container)))
            connection.abort()
            await until(lambda: len(programs(house.container)) == 1)
            await asyncio.gather(opening, return_exceptions=True)
        assert (await wire.call("POST", f"/containers/{house.container}/unpause")).status == 204
        await until(lambda: not programs(house.container))
    finally:
        await wire.close()


async def test_only_the_containers_own_process_is_held(house: House) -> None:
    ours = subprocess.Popen(["unshare", "-U", "sleep", "1008"])
    try:
        await until(lambda: b"sleep" in Path(f"/proc/{ours.pid}/cmdline").read_bytes().split(b"\0")[:1])
        with pytest.raises(NotHeld, match="not of the container"):
            hold(os.getpid(), house.container)
        with pytest.raises(NotHeld, match="not of the container"):
            hold(os.getpid(), "")
        everywhere = Path(f"/proc/{ours.pid}/cgroup").read_text().split(":")[0]
        hold(os.getpid(), everywhere).close()
        with pytest.raises(NotHeld, match="users are not"):
            hold(ours.pid, everywhere)
    finally:
        ours.kill()
        ours.wait()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotHeld):
        hold(ours.pid, house.container)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_many_sessions_at_once(house: House) -> None:
    async def one(number: int) -> bytes:
        async with session(house) as files:
            async with files.open(f"/tmp/{number}", "wb") as file:
                await file.write(b"%d" % number * 50_000)
            return await read(files, f"/tmp/{number}")

    found = await asyncio.gather(*map(one, range(5)))
    assert found == [b"%d" % number * 50_000 for number in range(5)]


@pytest.fixture
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a service that is not root on the engine's host."""

    def refuse(*_: object) -> None:
        raise OutOfReach("the service is not root on the engine's host")

    monkeypatch.setattr(Inside, "_held", refuse)


@pytest.mark.usefixtures("not_root")
async def test_without_root_the_images_own_server_is_asked_for(house: House) -> None:
    said = await sftp(house.client, "ls /")
    assert said.code != 0
    assert b"this image has no sftp-server" in said.err
