"""Which containers may be started that were made and never started: not those that others may start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from service.domain.scheduling import Node
from service.domain.states import State
from service.errors import EngineAway, ImageUnavailable
from service.supervisor import container, supervisor
from service.supervisor.effects import Yard
from service.supervisor.engine import image_ref
from service.supervisor.names import EPOCH
from service.supervisor.shift import Shift
from tests.images import BUSYBOX
from tests.supervisor.lab import DONE, RUNS_ON
from tests.supervisor.world import World
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("made_in", "unfenced", "may"),
    [
        ("7", False, False),
        ("7", True, False),
        ("6", False, False),
        ("6", True, True),
        ("5", False, True),  # its holder may be stopped, whatever is known of the one between
        ("5", True, True),
        (None, False, True),
    ],
)
def test_what_an_epoch_made_is_its_own_and_that_of_who_follows_its_end(
    made_in: str | None, unfenced: bool, may: bool
) -> None:
    yard: Any = SimpleNamespace(epoch=7, lease=SimpleNamespace(unfenced=unfenced), asked_to_start=set())
    found: Any = SimpleNamespace(id="c0ffee", labels={EPOCH: made_in} if made_in else {})
    assert container._may_be_started_by_others(yard, found) is may
    yard.asked_to_start.add("c0ffee")
    assert container._may_be_started_by_others(yard, found), "a start without an answer may come still"


async def test_only_starts_without_an_answer_are_remembered(
    on_fake: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch may last for as many jobs as there ever are."""
    yards: list[Yard] = []

    def kept(yard: Yard, node: Node) -> Shift:
        yards.append(yard)
        return Shift(yard, node)

    monkeypatch.setattr(supervisor, "Shift", kept)
    gate = on_fake.fake.gates.hold("start", "after")
    async with on_fake.supervised():
        runs_on, job = [await on_fake.submit(each) for each in (RUNS_ON, DONE)]
        await gate.reached.wait()
        assert yards[0].asked_to_start
        gate.open.set()
        await on_fake.reach(runs_on, State.RUNNING)
        await on_fake.end(job)
        assert yards[0].asked_to_start == set()


@pytest.mark.parametrize("in_time", [False, True], ids=["never came", "came late"])
async def test_a_start_without_an_answer_is_forgotten_with_its_container(
    on_fake: World, monkeypatch: pytest.MonkeyPatch, in_time: bool
) -> None:
    yards: list[Yard] = []

    def kept(yard: Yard, node: Node) -> Shift:
        yards.append(yard)
        return Shift(yard, node)

    monkeypatch.setattr(supervisor, "Shift", kept)
    on_fake.fake.fail_next("start", "after" if in_time else "before", EngineAway("no answer"))
    async with on_fake.supervised():
        job = await on_fake.submit(DONE)
        assert (await on_fake.end(job)).state is State.DONE
        await until(lambda: not yards[0].asked_to_start, what="nothing to be remembered")


@pytest.mark.parametrize(
    ("answered", "anew", "code", "unknown"),
    [
        (False, True, 1, True),
        (False, True, 141, True),
        (False, True, 0, False),  # it did what it was to do
        (False, False, 1, False),  # its answer alone was lost: the engine was there, and read what it printed
        (True, True, 1, False),
    ],
)
async def test_what_fails_as_its_engine_died_while_starting_it(
    on_fake: World, monkeypatch: pytest.MonkeyPatch, answered: bool, anew: bool, code: int, unknown: bool
) -> None:
    """What it printed went nowhere, and that may be why it failed: nobody saw it run."""
    fake, start = on_fake.fake, on_fake.fake.start

    async def cut_off(container_id: str) -> None:
        await start(container_id)
        await fake.exit(container_id, code)
        if anew:
            fake.begin_anew()
            fake.end_events()
        if not answered:
            raise EngineAway("no answer")

    monkeypatch.setattr(fake, "start", cut_off)
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        ended = await on_fake.end(job)
    expected = "unknown-outcome" if unknown else "exit-code" if code else "done"
    assert (ended.info.code, ended.exit_code) == (expected, code)
    assert (await on_fake.bill(job)).credited is unknown


async def test_what_was_seen_running_after_its_start_was_cut_off_fails_by_its_own_code(
    on_fake: World,
) -> None:
    on_fake.fake.fail_next("start", "after", EngineAway("no answer"))
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        # Its log is watched once it was seen running.
        await until(lambda: "logs" in {name for name, _ in on_fake.fake.calls})
        on_fake.fake.begin_anew()
        on_fake.fake.end_events()
        await on_fake.fake.exit((await on_fake.container(job)).id, 1)
        ended = await on_fake.end(job)
    assert (ended.info.code, ended.exit_code) == ("exit-code", 1)


async def test_who_comes_next_removes_what_is_half_removed_too(on_fake: World) -> None:
    """Although nobody else could start it."""
    gate = on_fake.fake.gates.hold("start", "before")
    async with on_fake.supervised():
        job = await on_fake.submit(DONE)
        await gate.reached.wait()
        (container_id,) = on_fake.fake._containers
    on_fake.fake._containers[container_id].state = "dead"
    gate.open.set()
    async with on_fake.supervised():
        assert (await on_fake.end(job)).state is State.DONE
    assert container_id not in on_fake.fake._containers
    assert [call for call, _ in on_fake.fake.calls].count("create") == 2


@pytest.mark.parametrize("killed", [False, True], ids=["job runs", "job is stopped"])
async def test_a_container_whose_removal_was_cut_off_is_removed_and_made_anew(
    on_fake: World, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """dockerd was killed on the way: the next one calls it dead, and starts it no more."""
    fake, remove, left = on_fake.fake, on_fake.fake.remove, list[str]()

    async def cut_off(container_id: str, *, force: bool = False) -> None:
        if not left:
            left.append(container_id)
            fake._containers[container_id].state = "dead"
            raise EngineAway("no answer")
        await remove(container_id, force=force)

    monkeypatch.setattr(fake, "remove", cut_off)
    fake.fail_next("start", "before", EngineAway("no answer"))
    async with on_fake.supervised():
        job = await on_fake.submit(DONE)
        await until(lambda: left)
        if killed:
            await on_fake.kill(job)
        ended = await on_fake.end(job)
        assert ended.state in ((State.INTERRUPTED, State.DONE) if killed else (State.DONE,))
        await until(lambda: left[0] not in fake._containers, what="nothing is left of it")


@pytest.mark.parametrize(
    ("by_others", "begun", "removed_in"),
    [
        (False, False, State.FINALIZING),
        (True, False, State.PENDING),  # before it is said that it never ran: so it never will
        (True, True, State.FINALIZING),
    ],
    ids=["nobody can", "others may", "others did"],
)
async def test_what_has_no_image_any_more_ends_unless_it_was_begun_meanwhile(
    on_fake: World, by_others: bool, begun: bool, removed_in: State
) -> None:
    """Its container was there, and whoever had made it may start it at any moment."""
    fake, gates = on_fake.fake, on_fake.fake.gates
    start = gates.hold("start")
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await start.reached.wait()
    start.open.set()
    ((container_id, made),) = fake._containers.items()
    if by_others:
        del made.labels[EPOCH]
    name = str(image_ref.parse(BUSYBOX))
    fake.add_image(BUSYBOX)
    fake.registry[name] = ImageUnavailable(f"{name} is gone", reason="missing")
    pull, remove = gates.hold("pull"), gates.hold("remove")
    async with on_fake.supervised():
        await pull.reached.wait()
        if begun:
            await fake.start(container_id)
        pull.open.set()
        if begun:
            await on_fake.reach(job, State.RUNNING)
            await fake.exit(container_id, 3)
        await remove.reached.wait()
        found = await on_fake.ledger.find_job(job)
        assert found is not None and found.state is removed_in
        remove.open.set()
        ended = await on_fake.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "exit-code" if begun else "image-missing")
    assert [each for each, _ in fake.calls].count("start") == begun
    assert not fake._containers
