"""A dockerd that is killed between the making of a container's process and its start."""

from __future__ import annotations

import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from service.errors import Unavailable
from service.local import containerd, docker, engine_api, processes, shims
from service.local.docker import DockerEngine
from tests.local import helpers
from tests.support.waiting import until

#: As runc; but where a file says so it kills dockerd and containerd: before it makes the container's process,
#: before it tells that to begin, or after it did.
_DEADLY = """#!/bin/sh
die() {{ kill -9 $(cat {run}/engine.pid) $(cat {run}/exec/containerd/containerd.pid); exit 1; }}
for word; do
  case "$word" in
    create) rm {folder}/create 2>/dev/null && die;;
    start)
      rm {folder}/start 2>/dev/null && die
      rm {folder}/started 2>/dev/null && {{ {runc} "$@"; die; }};;
  esac
done
exec {runc} "$@"
"""


_UNTIL_TOLD = "trap 'exit 7' TERM; while :; do sleep 0.1; done"


class DeadlyEngine(DockerEngine):
    """Knows a runtime `deadly`, which does what `_DEADLY` says."""

    def _command(self, link: Any) -> list[str]:
        program = self.folder / "deadly"
        words = {"folder": self.folder, "run": self._run, "runc": shutil.which("runc")}
        program.write_text(_DEADLY.format(**words))
        program.chmod(0o755)
        return [*super()._command(link), "--add-runtime", f"deadly={program}"]


@pytest.fixture
async def engine(state: Path) -> AsyncIterator[DeadlyEngine]:
    made = DeadlyEngine(state, configured=None, say=print, own=True)
    async with helpers.running(made):
        yield made


async def _create(host: str, *command: str, runtime: str) -> str:
    body = {"Image": "busybox:test", "Cmd": list(command), "HostConfig": {"Runtime": runtime, "Init": True}}
    async with engine_api.session(host) as http, http.post("/containers/create", json=body) as response:
        said = await response.json()
        assert response.status == 201, said
        return str(said["Id"])


async def _start(host: str, container: str) -> int:
    async with (
        engine_api.session(host, timeout_s=60) as http,
        http.post(f"/containers/{container}/start") as response,
    ):
        return response.status


async def _inspect(host: str, container: str) -> Any:
    async with engine_api.session(host) as http, http.get(f"/containers/{container}/json") as response:
        return (await response.json())["State"]


async def _cut_off(engine: DeadlyEngine, container: str, at: str) -> None:
    (engine.folder / at).touch()
    with pytest.raises(aiohttp.ClientError):
        await _start(engine.host, container)
    await until(engine.has_died)


async def _kill_containerd(engine: DeadlyEngine) -> None:
    found = containerd.of(engine.exec_root)
    assert found is not None and found.send(signal.SIGKILL) and await found.ended(10)


async def _holds(shim: int, count: int) -> list[int]:
    """What a shim holds, once it is so many: a runtime that ended its dockerd is a moment longer there."""
    await until(lambda: len(shims.held_by(shim)) == count, what=f"{count} processes of shim {shim}")
    return shims.held_by(shim)


async def _no_shims(engine: DeadlyEngine) -> None:
    """A shim ends a moment after its container is known to have ended."""
    await until(lambda: not shims.of(engine.exec_root), what="the end of all shims")


async def _ended(host: str, container: str) -> Any:
    found: Any = None

    async def has_ended() -> bool:
        nonlocal found
        found = await _inspect(host, container)
        return bool(found["Status"] == "exited")

    await until(has_ended)
    return found


@pytest.mark.parametrize("at", ["create", "start"])
async def test_a_container_that_had_not_begun_can_be_started(engine: DeadlyEngine, at: str) -> None:
    """And one that runs meanwhile runs on."""
    runs = await _create(engine.host, "sleep", "600", runtime="runc")
    assert await _start(engine.host, runs) == 204
    (other,) = shims.of(engine.exec_root)
    cut = await _create(engine.host, "echo", runtime="deadly")
    await _cut_off(engine, cut, at)
    (held,) = [pid for pid in shims.of(engine.exec_root) if pid != other]
    waiting = [processes.command_line(pid) for pid in await _holds(held, int(at == "start"))]
    assert all(line.endswith(b"runc\0init\0") for line in waiting)

    await engine.restart()

    assert shims.of(engine.exec_root) == [other]
    assert (await _inspect(engine.host, runs))["Running"]
    assert (await _inspect(engine.host, cut))["StartedAt"].startswith("0001-01-01"), "it has never begun"
    assert await _start(engine.host, cut) == 204
    assert (await _ended(engine.host, cut))["ExitCode"] == 0


@pytest.mark.parametrize("alive", [True, False])
async def test_a_container_that_its_shim_had_not_begun_to_make_can_be_started(
    engine: DeadlyEngine, alive: bool
) -> None:
    """containerd cannot remove its folder, which does not say by which runtime; then nobody can start it.

    A shim comes no further than this when its containerd dies as soon as it is there.
    """
    cut = await _create(engine.host, "echo", runtime="deadly")
    await _cut_off(engine, cut, "create")
    (shim,) = shims.of(engine.exec_root)
    (folder,) = (engine.exec_root / shims._TASKS).glob(f"*/{cut}")
    assert Path(f"/proc/{shim}/cwd").samefile(folder)
    (folder / "runtime").unlink()
    if not alive:
        process = processes.running("containerd-shim", shim)
        assert process is not None and process.send(signal.SIGKILL) and await process.ended(10)

    await engine.restart()

    assert await _start(engine.host, cut) == 204
    assert (await _ended(engine.host, cut))["ExitCode"] == 0


async def test_a_container_that_had_begun_goes_on_and_is_not_begun_twice(engine: DeadlyEngine) -> None:
    cut = await _create(engine.host, "sh", "-c", _UNTIL_TOLD, runtime="deadly")
    await _cut_off(engine, cut, "started")
    (shim,) = shims.of(engine.exec_root)
    (begun,) = await _holds(shim, 1)

    await engine.restart()

    known = await _inspect(engine.host, cut)
    assert (known["Running"], known["Pid"]) == (True, begun)
    assert "eth0:" in Path(f"/proc/{begun}/net/dev").read_text(), "it keeps its network"
    async with (
        engine_api.session(engine.host) as http,
        http.post(f"/containers/{cut}/kill", params={"signal": "TERM"}) as response,
    ):
        assert response.status == 204
    assert (await _ended(engine.host, cut))["ExitCode"] == 7
    await _no_shims(engine)


async def test_a_container_that_had_begun_and_ended_is_not_begun_twice(engine: DeadlyEngine) -> None:
    """While there was no dockerd. Its shim knows how it ended, and now dockerd asks it."""
    cut = await _create(engine.host, "sh", "-c", "exit 7", runtime="deadly")
    await _cut_off(engine, cut, "started")
    (shim,) = shims.of(engine.exec_root)
    await _holds(shim, 0)

    await engine.restart()

    known = await _ended(engine.host, cut)
    assert not known["StartedAt"].startswith("0001-01-01"), "it has begun"
    assert known["StartedAt"] <= known["FinishedAt"]
    assert known["ExitCode"] == 7
    await _no_shims(engine)


async def test_what_ends_while_there_is_no_containerd_is_known_to_have_ended(engine: DeadlyEngine) -> None:
    """By itself dockerd starts another after ten seconds, and never hears of it."""
    ends = await _create(engine.host, "sh", "-c", "sleep 1; exit 7", runtime="runc")
    stays = await _create(engine.host, "sleep", "600", runtime="runc")
    for container in (ends, stays):
        assert await _start(engine.host, container) == 204
    shim = next(pid for pid in shims.of(engine.exec_root) if shims._container(pid) == ends)
    assert not engine.has_died()
    await _kill_containerd(engine)
    await _holds(shim, 0)
    assert engine.has_died()

    await engine.restart()

    assert not engine.has_died()
    assert (await _ended(engine.host, ends))["ExitCode"] == 7
    assert (await _inspect(engine.host, stays))["Running"]


@pytest.mark.parametrize("has_another", [False, True], ids=["none by now", "another by now"])
async def test_a_containerd_that_died_while_nobody_watched_is_noticed_by_who_comes_next(
    engine: DeadlyEngine, monkeypatch: pytest.MonkeyPatch, has_another: bool
) -> None:
    ends = await _create(engine.host, "sh", "-c", "sleep 1; exit 7", runtime="runc")
    assert await _start(engine.host, ends) == 204
    (shim,) = shims.of(engine.exec_root)
    dockerd = processes.adopt("dockerd", engine.folder / "dockerd.pid")
    await _kill_containerd(engine)
    await _holds(shim, 0)
    if has_another:
        monkeypatch.setattr(containerd, "_STARTED_WITHIN_S", 1)
        await until(lambda: containerd.of(engine.exec_root) is not None, what="another containerd")
        await until(lambda: engine_api.answers(engine.host))
        assert (await _inspect(engine.host, ends))["Running"], "dockerd never hears of its end"

    said: list[str] = []
    another = DockerEngine(engine.folder.parent, configured=None, say=said.append, own=True)
    await another.start()
    engine._process, engine._containerd = another._process, another._containerd

    assert any("has lost its containerd" in line for line in said)
    assert another._process != dockerd and not another.has_died()
    assert (await _ended(another.host, ends))["ExitCode"] == 7
    again = DockerEngine(engine.folder.parent, configured=None, say=said.append, own=True)
    await again.start()
    assert again._process == another._process, "what is as it was is taken over"


async def test_a_dockerd_that_is_only_slow_is_not_killed_for_it(
    engine: DeadlyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor after its containerd had died: what recovers many containers would never be done."""
    await _kill_containerd(engine)
    assert engine.has_died()
    with monkeypatch.context() as impatient:
        impatient.setattr(docker, "_START_TIMEOUT_S", 0)
        with pytest.raises(Unavailable, match="does not answer after 0 s"):
            await engine.restart()
    slow = engine._process
    await until(lambda: processes.adopt("dockerd", engine.folder / "dockerd.pid") == slow)

    await engine.restart()

    assert engine._process == slow and not engine.has_died()
    assert await engine_api.answers(engine.host)


async def test_what_is_left_of_a_container_that_dockerd_no_longer_knows_is_ended(
    engine: DeadlyEngine,
) -> None:
    forgotten = await _create(engine.host, "sleep", "600", runtime="runc")
    assert await _start(engine.host, forgotten) == 204
    (shim,) = shims.of(engine.exec_root)
    (process,) = shims.held_by(shim)
    dockerd = processes.adopt("dockerd", engine.folder / "dockerd.pid")
    assert dockerd is not None and dockerd.send(signal.SIGKILL) and await dockerd.ended(10)
    shutil.rmtree(engine.folder / "data" / "containers" / forgotten)

    await engine.restart()

    assert shims.of(engine.exec_root) == []
    assert processes.start_time(process) is None
