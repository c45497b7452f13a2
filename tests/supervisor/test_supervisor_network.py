"""A project's bridge that somebody took away: no job is lost by it, nor the network of those that run."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from service.domain import commands as cmd
from service.domain.states import State
from service.supervisor import shift
from service.supervisor.driver import FAILURES
from service.supervisor.engine import firewall, network
from service.supervisor.names import LEDGER, PROJECT, network_name
from tests.images import networks_named, remove_network
from tests.supervisor.lab import DONE, RUNS_ON, Behaviour, shell
from tests.supervisor.world import World
from tests.support.engine import fake
from tests.support.waiting import until


async def _take_link(world: World) -> None:
    name = network_name((await world.ledger.head()).ledger_id, "default")
    if not world.is_real:
        world.fake.break_network(name)
        return
    (network,) = await asyncio.to_thread(networks_named, name)
    process = await asyncio.create_subprocess_exec("ip", "link", "delete", f"br-{network[:12]}")
    assert await process.wait() == 0


async def test_jobs_start_although_the_bridge_of_their_project_is_gone(anywhere: World) -> None:
    async with anywhere.supervised():
        assert (await anywhere.end(await anywhere.submit(DONE))).state is State.DONE
        await _take_link(anywhere)
        jobs = [await anywhere.submit(DONE) for _ in range(3)]
        assert [(await anywhere.end(job)).state for job in jobs] == [State.DONE] * 3


async def test_a_broken_network_is_left_to_the_jobs_in_it_and_others_wait(anywhere: World) -> None:
    """Not for so many tries: for as long as they run."""
    async with anywhere.supervised():
        living = await anywhere.submit(RUNS_ON)
        await anywhere.reach(living, State.RUNNING)
        await _take_link(anywhere)
        job = await anywhere.submit(DONE)
        await anywhere.told(job, "network-broken")
        if not anywhere.is_real:
            calls = anywhere.fake.calls
            more = lambda: [call for call, _ in calls].count("drop_network") > FAILURES  # noqa: E731
            await until(more, what="more tries than an error gets")
        found = await anywhere.ledger.find_job(living)
        assert found is not None and found.state is State.RUNNING
        await anywhere.kill(living)
        assert (await anywhere.end(job)).state is State.DONE


async def test_projects_are_kept_apart_when_another_dockerd_emptied_the_engines_own_rules(
    on_docker: World,
) -> None:
    """As each that starts on the host does. Projects' own jobs still reach each other."""
    world = on_docker
    await world.order(cmd.CreateProject(project="others", name="Others", cpu=8, gpu=0))
    serves = Behaviour(shell("echo ready; while :; do echo hello | nc -l -p 8080; done"), DONE.script)
    asks = "nc -w {} {} 8080 < /dev/null 2> /dev/null || echo nothing"
    async with world.supervised():
        server = await world.submit(serves, project="others")
        address = (await world.reach(server, State.RUNNING)).ip
        await world.printed(server)
        ledger_id = (await world.ledger.head()).ledger_id
        await world.end(await world.submit(DONE))
        for project in ("default", "others"):
            await _take_isolation(network_name(ledger_id, project))
        said = []
        for project, patience_s in (("default", 1), ("others", 20)):
            does = shell(asks.format(patience_s, address))
            client = await world.submit(Behaviour(does, DONE.script), project=project)
            await world.end(client)
            said.append(await world.log(client))
        assert said == ["nothing\n", "hello\n"]


async def test_rules_of_networks_that_are_gone_are_taken_away(on_docker: World) -> None:
    gone = f"br-{uuid4().hex[:12]}"
    answers = ("-m", "conntrack", "!", "--ctstate", "RELATED,ESTABLISHED", "-j", "DROP")
    # It is not looked for: others on this machine take away what is gone, too.
    assert (await _iptables("-I", firewall.CHAIN, "!", "-i", gone, "-o", gone, *answers))[0] == 0
    async with on_docker.supervised():
        await on_docker.end(await on_docker.submit(DONE))
    _, rules = await _iptables("-S", firewall.CHAIN)
    (found,) = networks_named(network_name((await on_docker.ledger.head()).ledger_id, "default"))
    assert gone not in rules
    assert f"br-{found[:12]}" in rules


async def test_a_wall_that_another_program_took_down_is_put_up_again(
    on_docker: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shift, "SWEEP_S", 0.1)
    async with on_docker.supervised():
        await on_docker.end(await on_docker.submit(DONE))
        (found,) = networks_named(network_name((await on_docker.ledger.head()).ledger_id, "default"))
        rule = firewall._apart(f"br-{found[:12]}")
        assert (await _iptables("-D", *rule))[0] == 0

        async def is_there() -> bool:
            return (await _iptables("-C", *rule))[0] == 0

        await until(is_there)


async def test_networks_of_projects_without_jobs_go_but_for_a_few(
    anywhere: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine has addresses for some dozens. What the living job is in is the oldest of them,
    and what one that waits for room will be in the next."""
    monkeypatch.setattr(shift, "SWEEP_S", 0.1)
    for room in (network, fake):
        monkeypatch.setattr(room, "IDLE_KEPT", 1)
    ledger_id = (await anywhere.ledger.head()).ledger_id
    async with anywhere.supervised():
        living = await anywhere.submit(RUNS_ON)
        await anywhere.reach(living, State.RUNNING)
        await anywhere.order(cmd.CreateProject(project="waits", name="Waits", cpu=99, gpu=0))
        await anywhere.submit(DONE, project="waits", cpu=12)
        for project in ("waits", "one", "two", "three"):
            labels = {LEDGER: str(ledger_id), PROJECT: project}
            await anywhere.engine.ensure_network(network_name(ledger_id, project), labels)
        foreign = f"jobyard-{ledger_id.hex[-8:]}-foreign"
        await anywhere.engine.ensure_network(foreign, {LEDGER: str(UUID(int=7))})

        async def of(*projects: str) -> bool:
            asked = ("default", "waits", "one", "two", "three")
            names = {each: network_name(ledger_id, each) for each in asked}
            return {each for each, name in names.items() if await _is_there(anywhere, name)} == set(projects)

        await until(lambda: of("default", "waits", "three"))
        assert await _is_there(anywhere, foreign)
        await anywhere.kill(living)
        await anywhere.end(living)
        await until(lambda: of("waits", "three"))
        assert (await anywhere.end(await anywhere.submit(DONE))).state is State.DONE
    if anywhere.is_real:
        for name in (foreign, *(network_name(ledger_id, each) for each in ("one", "two", "three"))):
            for left in networks_named(name):
                remove_network(left)


async def _is_there(world: World, name: str) -> bool:
    if not world.is_real:
        return name in world.fake._networks
    return bool(await asyncio.to_thread(networks_named, name))


async def _iptables(*words: str) -> tuple[int | None, str]:
    """How it ended, and what it said."""
    process = await asyncio.create_subprocess_exec(
        "iptables", "-w", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def _take_isolation(network: str) -> None:
    """Takes the engine's rules away, of this network alone: others on this machine are at work too."""
    (found,) = await asyncio.to_thread(networks_named, network)
    link = f"br-{found[:12]}"
    one = ("DOCKER-ISOLATION-STAGE-1", "-i", link, "!", "-o", link, "-j", "DOCKER-ISOLATION-STAGE-2")
    two = ("DOCKER-ISOLATION-STAGE-2", "-o", link, "-j", "DROP")
    for rule in (one, two):  # another that started meanwhile may have taken it away before
        await _iptables("-D", *rule)
