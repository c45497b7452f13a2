"""A state directory that is copied or moved while its parts run, or after."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from service.errors import Misconfigured
from service.local import copies, engine_api, postgres_home, processes, throwaway
from service.local.parts import Parts, local_parts
from service.local.postgres import EmbeddedPostgres
from service.supervisor.names import PROJECT
from tests.local import helpers

_PIDFILES = {"dockerd": "docker/dockerd.pid", "postgres": "postgres.pid", "rclone": "s3.pid"}


def _parts(state: Path, say: Callable[[str], None] = print) -> AbstractAsyncContextManager[Parts]:
    return local_parts(state, database_url=None, docker_host=None, store=True, say=say, own_engine=True)


def _running(state: Path) -> dict[str, int]:
    found = {name: processes.adopt(name, state / pidfile) for name, pidfile in _PIDFILES.items()}
    return {name: process.pid for name, process in found.items() if process is not None}


async def _copy(source: Path, target: Path) -> None:
    """As an operator would. What only lives in the kernel, as a network namespace, cannot be copied."""
    child = await asyncio.create_subprocess_exec(
        "cp", "-a", str(source), str(target), stderr=asyncio.subprocess.DEVNULL
    )
    await child.wait()


async def _run(parts: Parts, value: str) -> None:
    connection = await asyncpg.connect(parts.database_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (value text)")
    await connection.execute("DELETE FROM kept")
    await connection.execute("INSERT INTO kept VALUES ($1)", value)
    await connection.close()
    assert parts.s3 is not None
    await helpers.put_object(parts.s3, value, "value", value.encode())


async def _kept(parts: Parts) -> tuple[str, str]:
    connection = await asyncpg.connect(parts.database_url)
    value: str = await connection.fetchval("SELECT value FROM kept")
    await connection.close()
    assert parts.s3 is not None
    return value, (await helpers.get_object(parts.s3, value, "value")).decode()


async def _network(host: str) -> str:
    """A project's network with a container in it; its link on the machine."""
    body: dict[str, Any] = {"Name": "project", "Driver": "bridge", "Labels": {PROJECT: "p"}}
    async with engine_api.session(host, timeout_s=60) as http:
        async with http.post("/networks/create", json=body) as response:
            assert response.status == 201, await response.text()
            link = f"br-{(await response.json())['Id'][:12]}"
        body = {"Image": "busybox:test", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "project"}}
        async with http.post("/containers/create", params={"name": "lives"}, json=body) as response:
            assert response.status == 201, await response.text()
        async with http.post("/containers/lives/start") as response:
            assert response.status == 204, await response.text()
    return link


async def test_a_copy_of_a_running_state_has_parts_of_its_own(state: Path) -> None:
    """And the original's go on, to the last container and link."""
    original, copy = state / "original", state / "copy"
    async with _parts(original) as one:
        await helpers.import_busybox(one.docker_host)
        link = await _network(one.docker_host)
        await _run(one, "original")
        before, container = _running(original), await helpers.inspect(one.docker_host, "lives")
        await _copy(original, copy)

        said: list[str] = []
        async with _parts(copy, said.append) as other:
            mine = _running(copy)
            assert mine.keys() == before.keys() and not set(mine.values()) & set(before.values())
            assert not any("Taking over" in line for line in said)
            assert other.docker_host != one.docker_host and other.s3 != one.s3
            ids = [await helpers.engine_id(each.docker_host) for each in (one, other)]
            assert ids[0] != ids[1], "to a ledger that both have, they are two engines"
            assert await _kept(other) == ("original", "original")
            await _run(other, "copy")
            assert await _kept(other) == ("copy", "copy")
            assert await _kept(one) == ("original", "original")
            await helpers.start_container(other.docker_host, "own", "sleep", "1000")
            assert not (await helpers.inspect(other.docker_host, "lives"))["Running"]
            await engine_api.remove_all(other.docker_host)

        assert _running(copy) == {}
        assert _running(original) == before
        assert await helpers.inspect(one.docker_host, "lives") == container
        assert processes.start_time(int(str(container["Pid"]))) is not None
        assert Path(f"/sys/class/net/{link}").exists()
        assert await _kept(one) == ("original", "original")
        await engine_api.remove_all(one.docker_host)
    throwaway.remove(copy)
    throwaway.remove(original)


async def test_a_state_that_is_moved_goes_on_where_it_is(state: Path) -> None:
    """Also while its parts run, as those of a run that was killed do: they know the old path."""
    before, after, last = (state / name for name in ("before", "after", "last"))
    async with _parts(before) as one:
        await helpers.import_busybox(one.docker_host)
        await _run(one, "kept")
        access = one.s3
    before.rename(after)
    async with helpers.another_run(after) as run:
        left = _running(after)
        run.kill()
        await run.wait()
    after.rename(last)
    async with _parts(last) as moved:
        mine = _running(last)
        assert mine.keys() == left.keys() and not set(mine.values()) & set(left.values())
        assert not any(processes.start_time(pid) for pid in left.values()), "nobody is left behind"
        assert await _kept(moved) == ("kept", "kept")
        assert moved.s3 == access
        await helpers.start_container(moved.docker_host, "own", "sleep", "1000")
        await engine_api.remove_all(moved.docker_host)
    throwaway.remove(last)


async def test_data_that_lies_elsewhere_is_of_one_state_only(state: Path) -> None:
    """A copy brings the word along where the data lies, and would open the original's database."""
    original, copy, moved = state / "original", state / "copy", state / "moved"
    home = state / "home"
    original.mkdir()
    postgres_home.lie_in(original, home)
    server = EmbeddedPostgres(original, say=print)
    await server.start()
    await server.stop()
    await _copy(original, copy)

    with pytest.raises(Misconfigured, match=rf"is of {original}, of which {copy} is a copy") as refused:
        await EmbeddedPostgres(copy, say=print).start()
    assert f"remove {copy / 'postgres.path'}" in refused.value.message
    throwaway.remove(copy)
    assert (home / "data").exists(), "it is not the copy's to delete"

    original.rename(moved)
    server = EmbeddedPostgres(moved, say=print)
    await server.start()
    await server.stop()
    throwaway.remove(moved)
    assert not home.exists()


def test_a_folder_is_a_copy_unless_it_was_moved_or_put_back(tmp_path: Path) -> None:
    made, copy, moved = tmp_path / "made", tmp_path / "copy", tmp_path / "moved"
    made.mkdir()
    assert not copies.is_copy(made), "there is no mark yet"
    copies.mark(made)
    shutil.copytree(made, copy)
    assert copies.is_copy(copy) and not copies.is_copy(made)
    made.rename(moved)
    assert not copies.is_copy(moved)
    copy.rename(made)
    assert not copies.is_copy(made), "it is put back in its place"
