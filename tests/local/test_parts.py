"""The local parts, all real: side by side, killed in every way, and taken over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from service.errors import Misconfigured, Unavailable
from service.local import engine_api, parts, places, processes, throwaway
from service.local.parts import Parts, local_parts
from service.local.postgres import EmbeddedPostgres
from service.local.postgres_home import lie_in
from tests.local import helpers
from tests.support.waiting import until

_PIDFILES = {"dockerd": "docker/dockerd.pid", "postgres": "postgres.pid", "rclone": "s3.pid"}


def _parts(state: Path, say: Callable[[str], None] = print) -> AbstractAsyncContextManager[Parts]:
    return local_parts(state, database_url=None, docker_host=None, store=True, say=say, own_engine=True)


def _running(state: Path) -> dict[str, int]:
    """The pid of each part that runs for `state`."""
    found = {name: processes.adopt(name, state / pidfile) for name, pidfile in _PIDFILES.items()}
    return {name: process.pid for name, process in found.items() if process is not None}


async def _kill_all(state: Path) -> None:
    for name, pidfile in _PIDFILES.items():
        process = processes.adopt(name, state / pidfile)
        assert process is not None
        assert process.send(signal.SIGKILL)
        assert await process.ended(10)


async def _crash(state: Path) -> None:
    """Kills a run and then its parts, so that nobody is there to start them again."""
    async with helpers.another_run(state) as run:
        run.kill()
        await run.wait()
    await _kill_all(state)


async def _write(parts: Parts, value: str) -> None:
    connection = await asyncpg.connect(parts.database_url)
    await connection.execute("CREATE TABLE kept (value text)")
    await connection.execute("INSERT INTO kept VALUES ($1)", value)
    await connection.close()
    assert parts.s3 is not None
    await helpers.put_object(parts.s3, "kept", "folder/value", value.encode())


async def _read(parts: Parts) -> tuple[str, str]:
    connection = await asyncpg.connect(parts.database_url)
    value: str = await connection.fetchval("SELECT value FROM kept")
    await connection.close()
    assert parts.s3 is not None
    return value, (await helpers.get_object(parts.s3, "kept", "folder/value")).decode()


async def test_two_state_directories_run_side_by_side(state: Path) -> None:
    first, second = state / "first", state / "second"
    async with _parts(first) as one, _parts(second) as other:
        assert one.docker_host != other.docker_host and one.s3 != other.s3
        subnets = [json.loads((each / "docker" / "network.json").read_text()) for each in (first, second)]
        assert subnets[0]["subnet"] != subnets[1]["subnet"] and subnets[0]["bridge"] != subnets[1]["bridge"]
        for parts, value in ((one, "one"), (other, "other")):
            assert parts.engine_is_ours and await engine_api.answers(parts.docker_host)
            await helpers.import_busybox(parts.docker_host)
            await helpers.start_container(parts.docker_host, "job", "sh", "-c", "exit 7")
            assert await helpers.wait_for_exit(parts.docker_host, "job") == 7
            await _write(parts, value)
        assert await _read(one) == ("one", "one") and await _read(other) == ("other", "other")
    for folder, parts in ((first, one), (second, other)):
        assert _running(folder) == {}
        assert not await engine_api.answers(parts.docker_host)
        bridge = json.loads((folder / "docker" / "network.json").read_text())["bridge"]
        assert not Path(f"/sys/class/net/{bridge}").exists(), "no container ran, so the bridge goes"


async def test_what_a_killed_run_left_is_taken_over_and_what_was_killed_itself_comes_back(
    state: Path,
) -> None:
    async with helpers.another_run(state) as killed:
        left = _running(state)
        assert left.keys() == _PIDFILES.keys()
        killed.kill()
        await killed.wait()
    assert _running(state) == left, "the parts outlive a run that is killed"

    said: list[str] = []
    async with _parts(state, said.append) as parts:
        assert _running(state) == left, "they are used as they are"
        assert sum("Taking over" in line for line in said) == 3
        access = parts.s3
        await _write(parts, "kept")
        await helpers.import_busybox(parts.docker_host)
        await helpers.start_container(parts.docker_host, "job", "sleep", "1000")
        before = await helpers.inspect(parts.docker_host, "job")

    assert _running(state) == {}
    await _crash(state)

    async with _parts(state) as parts:
        assert await _read(parts) == ("kept", "kept")
        assert parts.s3 == access, "the endpoint and the keys stay, as data stores are registered with them"
        after = await helpers.inspect(parts.docker_host, "job")
        assert after["Running"] and after["Pid"] == before["Pid"], "the container lived through all of it"
        await engine_api.remove_all(parts.docker_host)


async def test_a_part_that_is_killed_is_started_again(state: Path) -> None:
    said: list[str] = []
    async with _parts(state, said.append) as parts:
        before = _running(state)
        await _write(parts, "kept")
        await _kill_all(state)

        async def answers_again() -> bool:
            now = _running(state)
            if now.keys() != before.keys() or not await engine_api.answers(parts.docker_host):
                return False
            try:
                return await _read(parts) == ("kept", "kept")
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, BotoCoreError, ClientError):
                return False

        await until(answers_again, 60)
        assert all(_running(state)[name] != pid for name, pid in before.items())
    assert sum("ended by itself" in line for line in said) == 3
    assert _running(state) == {}
    assert str(state) not in Path("/proc/self/mountinfo").read_text(), "nor does a mount stay behind"


async def test_dockerd_stays_while_containers_run_when_it_is_asked_to(state: Path) -> None:
    """So they go on printing, more than a pipe holds, and end with their own code, while nobody is there."""
    said: list[str] = []

    def parts() -> AbstractAsyncContextManager[Parts]:
        return local_parts(
            state,
            database_url="given",
            docker_host=None,
            store=False,
            say=said.append,
            own_engine=True,
            engine_stays_in_use=True,
        )

    talks = "i=0; while [ $i -lt 3000 ]; do echo " + "x" * 100 + "; i=$((i+1)); done; exit 3"
    async with parts() as first:
        await helpers.import_busybox(first.docker_host)
        await helpers.start_container(first.docker_host, "lives", "sleep", "1000")
        await helpers.start_container(first.docker_host, "talks", "sh", "-c", f"sleep 3; {talks}")
    (pid,) = _running(state).values()
    assert f"2 containers run on, and dockerd for that (process {pid}): the next `up` takes it over." in said
    assert await helpers.wait_for_exit(first.docker_host, "talks") == 3
    async with parts() as second:
        assert list(_running(state).values()) == [pid] and second.docker_host == first.docker_host
        await engine_api.remove_all(second.docker_host)
    assert _running(state) == {}, "nothing needs it any more"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_stops_everything_in_order(state: Path, number: signal.Signals) -> None:
    async with helpers.another_run(state) as run:
        assert _running(state).keys() == _PIDFILES.keys()
        run.send_signal(number)
        await run.wait()
        assert _running(state) == {}
    log = (state / "postgres.log").read_text()
    assert "received fast shutdown request" in log and "database system is shut down" in log


async def test_a_second_run_in_one_state_directory_is_told_who_holds_it(state: Path) -> None:
    async with helpers.another_run(state) as first:
        with pytest.raises(Misconfigured, match=f"in use by another Jobyard .process {first.pid}.: stop it"):
            async with _parts(state):
                pytest.fail("both runs hold the directory")
        assert _running(state).keys() == _PIDFILES.keys(), "the first run's parts were not touched"
        first.terminate()
        await first.wait()


async def test_one_part_that_cannot_start_stops_the_others(state: Path) -> None:
    (state / "docker").mkdir()
    (state / "docker" / "data").write_text("not a folder")
    with pytest.raises(Unavailable, match=r"dockerd ended at its start: .*points to a file.*dockerd\.log"):
        async with _parts(state):
            pytest.fail("dockerd cannot have started")
    assert _running(state) == {}


async def test_the_object_store_keeps_its_secret_and_gives_up_a_port_only_if_it_must(state: Path) -> None:
    async with _parts(state) as parts:
        access = parts.s3
        assert access is not None
        assert access.secret_key not in repr(parts)
        arguments = Path(f"/proc/{_running(state)['rclone']}/cmdline").read_text()
        assert access.secret_key not in arguments and access.access_key not in arguments
        assert stat.S_IMODE((state / "s3.json").stat().st_mode) == 0o600
        await helpers.put_object(access, "data", "one", b"1")
        (state / "s3" / "data" / "two").write_bytes(b"2")

        async def sees_both() -> bool:
            return await helpers.list_keys(access, "data") == ["one", "two"]

        await until(sees_both)  # what is put beside it is seen within moments, not minutes

    said: list[str] = []
    with socket.create_server(("127.0.0.1", int(access.endpoint.rpartition(":")[2]))):
        async with _parts(state, said.append) as parts:
            assert parts.s3 is not None and parts.s3.endpoint != access.endpoint
            assert parts.s3.secret_key == access.secret_key
            assert any("taken by another program" in line and parts.s3.endpoint in line for line in said)
            assert await helpers.get_object(parts.s3, "data", "one") == b"1"


async def test_postgres_is_durable_and_private_also_where_its_user_cannot_reach_the_state() -> None:
    closed = Path(tempfile.mkdtemp(prefix="jobyard-closed-"))  # mode 0700, as a clone below /root is
    long = closed / ("deep-" * 24) / "state"  # and its sockets would have too long a path
    said: list[str] = []
    try:
        async with _parts(long, said.append) as parts:
            connection = await asyncpg.connect(parts.database_url)
            names = ("fsync", "synchronous_commit", "full_page_writes", "max_connections", "listen_addresses")
            settings = [await connection.fetchval("SELECT current_setting($1)", name) for name in names]
            data = Path(await connection.fetchval("SHOW data_directory"))
            sockets = Path((await connection.fetchval("SHOW unix_socket_directories")).strip('"'))
            await connection.close()
            assert settings == ["on", "on", "on", "200", ""]
            assert await engine_api.answers(parts.docker_host), "dockerd's sockets have a short path"
            for folder in (data, sockets):
                assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and folder.stat().st_uid != os.geteuid()
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700, "nobody's folder was opened"
        assert any(str(data.parent) in line for line in said), "where the data lies is said"
    finally:
        throwaway.remove(long)
        throwaway.remove(closed)
    assert not data.exists()


async def test_a_stale_postmaster_pidfile_that_names_a_stranger_is_no_obstacle(state: Path) -> None:
    await _crash(state)
    own_record = state / "postgres" / "data" / "postmaster.pid"
    # Of the same user: Postgres takes such a one for itself.
    stranger = await asyncio.create_subprocess_exec("sleep", "1000", user=own_record.stat().st_uid)
    lines = own_record.read_text().splitlines()
    own_record.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
    try:
        async with _parts(state) as parts:
            connection = await asyncpg.connect(parts.database_url)
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
        assert stranger.returncode is None, "it was left alone"
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_throw_away_run_leaves_nothing_and_cleans_up_after_one_that_was_killed() -> None:
    folder = Path(tempfile.mkdtemp(prefix="jobyard-throwaway-"))
    folder.chmod(0o755)
    async with helpers.another_run(folder) as killed:
        left = [processes.running(name, pid) for name, pid in _running(folder).items()]
        killed.kill()
        await killed.wait()
    said: list[str] = []
    async with throwaway.throwaway_parts(say=said.append, own_engine=True, in_memory=True) as parts:
        assert any(str(folder) in line for line in said)
        assert not folder.exists() and not any(each and each.is_alive() for each in left)
        await helpers.import_busybox(parts.docker_host)
        await helpers.start_container(parts.docker_host, "job", "sleep", "1000")
        pid = int(str((await helpers.inspect(parts.docker_host, "job"))["Pid"]))
        state = Path(parts.docker_host.removeprefix("unix://")).parents[1]
        outside = EmbeddedPostgres(state, say=print).outside()
    assert processes.start_time(pid) is None, "its containers are gone"
    assert not state.exists() and not any(folder.exists() for folder in outside)
    assert not Path(f"/sys/class/net/jy-{places.digest(state)}").exists()


async def test_a_database_in_memory_is_one_and_nothing_of_it_is_left(state: Path) -> None:
    """Also of one that lay there when its checks were killed: the state directory says where."""
    memory = state.with_name(f"{state.name}-memory")
    lie_in(state, memory)
    server = EmbeddedPostgres(state, say=print)
    await server.start()
    try:
        connection = await asyncpg.connect(server.url("jobyard"))
        assert Path(await connection.fetchval("SHOW data_directory")).is_relative_to(memory)
        await connection.close()
    finally:
        await server.stop()
    assert memory.exists()
    throwaway.remove(state)
    assert not memory.exists()


def test_a_database_lies_in_memory_only_where_there_is_plenty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def where() -> list[str]:
        throwaway.keep_in_memory(tmp_path)
        return [path.read_text() for path in tmp_path.iterdir()]

    monkeypatch.setattr(throwaway, "_PLENTY_BYTES", sys.maxsize)
    assert where() == []
    monkeypatch.setattr(throwaway, "_PLENTY_BYTES", 0)
    memory = throwaway._MEMORY
    monkeypatch.setattr(throwaway, "_MEMORY", tmp_path)
    assert where() == [], "it is a disk"
    monkeypatch.setattr(throwaway, "_MEMORY", memory)
    assert where() == [f"{memory / tmp_path.name}\n"]


async def test_a_configured_engine_or_database_is_used_and_must_answer(state: Path) -> None:
    nowhere = f"unix://{state}/nothing.sock"
    with pytest.raises(Unavailable, match="no Docker Engine answers at"):
        async with local_parts(state, database_url="given", docker_host=nowhere, store=False, say=print):
            pytest.fail("nothing answers there")
    given = os.environ["JOBYARD_TEST_DOCKER_HOST"]
    async with local_parts(state, database_url="given", docker_host=given, store=False, say=print) as parts:
        assert (parts.database_url, parts.docker_host, parts.s3) == ("given", given, None)
        assert not parts.engine_is_ours and _running(state) == {}
    assert await engine_api.answers(given), "an engine that is not ours is never stopped"


def test_the_user_of_postgres_is_asked_of_the_kernel(tmp_path: Path) -> None:
    nobody = processes.User("nobody", 65534, 65534)
    (tmp_path / "closed").mkdir(mode=0o700)
    assert not places.can_reach(nobody, tmp_path / "closed")
    assert places.can_reach(nobody, Path("/usr"))


async def test_the_bridge_and_its_rules_are_gone_after_the_last_container(state: Path) -> None:
    async with _parts(state) as parts:
        name = f"jy-{places.digest(state)}"
        assert name in await _rules()
        await helpers.import_busybox(parts.docker_host)
        await helpers.start_container(parts.docker_host, "job", "sleep", "1000")
    assert Path(f"/sys/class/net/{name}").exists(), "a container still runs on it"
    async with _parts(state) as parts:
        await engine_api.remove_all(parts.docker_host)
    assert not Path(f"/sys/class/net/{name}").exists()
    assert name not in await _rules()


async def _rules() -> str:
    listed = []
    for table in ("nat", "filter"):
        command = [processes.which("iptables") or "iptables", "-w", "-t", table, "-S"]
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        listed.append((await child.communicate())[0].decode())
    return "".join(listed)


def test_a_state_directory_that_cannot_be_written_is_told_in_one_line(state: Path) -> None:
    state.mkdir(parents=True, exist_ok=True)
    (state / "lock").symlink_to("/dev/full")
    with pytest.raises(Misconfigured, match="nothing can be written in") as refused, parts._only_one(state):
        raise AssertionError("it was taken")
    assert str(state) in refused.value.message
