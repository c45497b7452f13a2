"""Engines of our own that start in the same moment, and what is said of one that does not start."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Network
from pathlib import Path
from uuid import uuid4

import pytest

from service.errors import Misconfigured, Unavailable
from service.local import bridge, docker, engine_api, engine_id, locks, processes, throwaway
from service.local.docker import DockerEngine
from service.supervisor.names import PROJECT
from tests.local import helpers

SAID = 'time="2026-01-01T00:00:00Z" level=info msg="Starting up"\nfailed to start daemon: {}\n'
CONTENDED = [
    "unable to add jump rule: iptables failed: iptables -t nat -N DOCKER: iptables: Chain already exists.",
    "iptables failed: Another app is currently holding the xtables lock.",
    "unable to remove jump to DOCKER-ISOLATION-STAGE-1 rule in FORWARD chain:  (iptables failed: iptables"
    " --wait -D FORWARD -j DOCKER-ISOLATION-STAGE-1: iptables: Bad rule (does a matching rule exist in that"
    " chain?).",
    "iptables failed: iptables v1.8.9 (nf_tables): CHAIN_ADD failed (Resource temporarily unavailable)",
]
KERNEL = [
    "iptables v1.8.9 (legacy): can't initialize iptables table `nat': Table does not exist",
    "iptables/1.8.9 Failed to initialize nft: Protocol not supported",
]


async def test_engines_that_start_at_once_all_answer(state: Path) -> None:
    folders = [state / name for name in ("one", "two", "three", "four")]
    engines = [DockerEngine(folder, configured=None, say=print, own=True) for folder in folders]
    try:
        await asyncio.gather(*(engine.start() for engine in engines))
        assert await asyncio.gather(*(engine_api.answers(engine.host) for engine in engines)) == [True] * 4
        assert len({engine.host for engine in engines}) == 4
        ids = [await helpers.engine_id(engine.host) for engine in engines]
        assert len(set(ids)) == 4, "the ledger tells them apart by it"
        await engines[0].stop()
        await engines[0].start()
        assert await helpers.engine_id(engines[0].host) == ids[0]
    finally:
        await asyncio.gather(*(engine.stop() for engine in engines))
        for folder in folders:
            throwaway.remove(folder)


def test_an_engine_of_before_keeps_the_machines_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a new one does not take it."""
    machine, old, new = (tmp_path / name for name in ("machine.json", "old", "new"))
    machine.write_text("the machine's")
    monkeypatch.setattr(engine_id, "_OF_THE_MACHINE", machine)
    (old / "data").mkdir(parents=True)
    new.mkdir()
    for folder in (old, new):
        engine_id.keep(folder)
    assert (old / "key.json").read_text() == "the machine's"
    assert (old / "key.json").stat().st_mode & 0o077 == 0
    assert list(new.iterdir()) == []


async def test_only_ones_own_links_go_and_who_must_move_says_so(state: Path) -> None:
    """A yard whose /16 is in another's record, then taken by another, with a project in dockerd's store."""
    said: list[str] = []
    engine = DockerEngine(state / "one", configured=None, say=said.append, own=True)
    record = state / "one" / "docker" / "network.json"
    other = state / "other" / "docker" / "network.json"
    squatter = f"x-{uuid4().hex[:8]}"
    try:
        await engine.start()
        link, keeps = await _network(engine.host, "project"), await _network(engine.host, "of-operator", {})
        subnet = IPv4Network(json.loads(record.read_bytes())["subnet"])
        assert link in bridge.links_of(state / "one" / "docker" / "data")
        other.parent.mkdir(parents=True)
        for name in ("jy-deadbeef", DockerEngine(state / "other", configured=None, say=print)._bridge_name):
            other.write_text(json.dumps({"bridge": name, "subnet": str(subnet)}))
            throwaway.remove(state / "other")
            assert _stands(link) and _stands(engine._bridge_name)
            other.parent.mkdir(parents=True)
        await engine.stop()
        assert not _stands(link) and not _stands(keeps)
        await _run("ip", "link", "add", squatter, "type", "bridge")
        await _run("ip", "addr", "add", f"{subnet.network_address + 1}/24", "dev", squatter)
        await _run("ip", "link", "set", squatter, "up")
        await engine.start()
        assert any(f"Another program has {subnet} by now" in each for each in said)
        assert "The network project had addresses that are no longer ours: removed, to be made anew" in said
        assert not _stands(link) and _stands(keeps) and _stands(squatter)
        moved = IPv4Network(json.loads(record.read_bytes())["subnet"])
        assert bridge._addresses(engine._bridge_name) == [f"{moved.network_address + 1}/24"]
    finally:
        await engine.stop()
        if _stands(squatter):
            await _run("ip", "link", "delete", squatter)
    assert not _stands(keeps) and not _stands(engine._bridge_name)


def _stands(link: str) -> bool:
    return Path(f"/sys/class/net/{link}").exists()


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0, command


async def _network(host: str, name: str, labels: dict[str, str] | None = None) -> str:
    """Makes a network, a project's unless other labels are given; answers its link."""
    body = {"Name": name, "Labels": {PROJECT: name} if labels is None else labels}
    async with (
        engine_api.session(host, timeout_s=60) as http,
        http.post("/networks/create", json=body) as response,
    ):
        assert response.status == 201, await response.text()
        link = f"br-{(await response.json())['Id'][:12]}"
    assert _stands(link)
    return link


@pytest.fixture
def first_dockerd(state: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The first `times` that dockerd is started it is a program that says this and ends; then it is real."""
    real = processes.which("dockerd") or ""

    def says(text: str, times: int = 1) -> None:
        program, marker = state / "dockerd", state / "was-here"
        program.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {real} "$@"\n'
            f'[ "$(cat {marker} 2>/dev/null | wc -l)" = {times} ] && exec {real} "$@"\n'
            f"echo >> {marker}\ncat <<'END'\n{text}END\nexit 1\n"
        )
        program.chmod(0o755)
        which = processes.which
        monkeypatch.setattr(
            processes, "which", lambda name: str(program) if name == "dockerd" else which(name)
        )

    return says


@asynccontextmanager
async def started(state: Path, say: Callable[[str], None]) -> AsyncIterator[DockerEngine]:
    engine = DockerEngine(state, configured=None, say=say, own=True)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.stop()


@pytest.mark.parametrize("line", CONTENDED)
async def test_who_meets_another_program_at_iptables_tries_once_more(
    state: Path, first_dockerd: Callable[..., None], line: str
) -> None:
    first_dockerd(SAID.format(line))
    said: list[str] = []
    async with started(state, said.append) as engine:
        assert await engine_api.answers(engine.host)
    (told,) = [each for each in said if "trying once more" in each]
    assert line in told and "kernel" not in told


async def test_what_it_said_is_read_although_its_log_was_set_aside(
    state: Path, first_dockerd: Callable[..., None]
) -> None:
    """Else it wrote nothing, as far as anybody knows, and there is no other try."""
    first_dockerd(SAID.format(CONTENDED[0]))
    log = state / "docker" / "dockerd.log"
    log.parent.mkdir()
    with log.open("wb") as large:
        large.truncate(processes._LOG_LIMIT_BYTES + 1)
    said: list[str] = []
    async with started(state, said.append) as engine:
        assert await engine_api.answers(engine.host)
    assert any(CONTENDED[0] in each and "trying once more" in each for each in said)
    assert log.with_name("dockerd.log.1").stat().st_size == processes._LOG_LIMIT_BYTES + 1


async def test_it_may_meet_it_more_than_once_but_not_for_ever(
    state: Path, first_dockerd: Callable[..., None]
) -> None:
    first_dockerd(SAID.format(CONTENDED[0]), times=docker._STARTS - 1)
    async with started(state, print) as engine:
        assert await engine_api.answers(engine.host)
    (state / "was-here").unlink()
    first_dockerd(SAID.format(CONTENDED[0]), times=docker._STARTS)
    with pytest.raises(Unavailable, match="another program may be changing iptables"):
        async with started(state, print):
            pytest.fail("it said that it cannot")


@pytest.mark.parametrize(
    ("line", "hinted"), [*((line, True) for line in KERNEL), ("error: disk full", False)]
)
async def test_the_kernel_is_blamed_only_for_what_it_lacks(
    state: Path, first_dockerd: Callable[..., None], line: str, hinted: bool
) -> None:
    first_dockerd(SAID.format(line))
    with pytest.raises(Unavailable) as raised:
        async with started(state, print):
            pytest.fail("it said that it cannot")
    assert line in raised.value.message and str(state / "docker" / "dockerd.log") in raised.value.message
    assert ("this kernel lacks" in raised.value.message) is hinted


async def test_a_lock_is_held_by_one_and_had_after_the_patience_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_FOLDER", tmp_path)
    second = asyncio.Event()

    async def take(patience_s: float) -> None:
        async with locks.taken("it", patience_s=patience_s):
            second.set()

    async with locks.taken("it", patience_s=60):
        await take(patience_s=0.1)  # the holder hangs: it goes on
        second.clear()
        waiting = asyncio.create_task(take(patience_s=60))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(second.wait(), 0.3)
    await asyncio.wait_for(waiting, 10)
    assert second.is_set()


async def test_a_link_in_the_place_of_a_lock_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_FOLDER", tmp_path)
    (tmp_path / "jobyard-it.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        async with locks.taken("it", patience_s=1):
            pytest.fail("it is a link")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("host", ["tcp://h:99999", "tcp://[::1", "tcp://", "tcp://h:x", "ssh://h"])
async def test_an_address_that_is_none_is_refused_in_one_line(host: str) -> None:
    with pytest.raises(Misconfigured, match=re.escape(repr(host))):
        await engine_api.answers(host)
