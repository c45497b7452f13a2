"""A supervisor ends at any moment and another begins: the same container, the same end, the same bill."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.domain.states import State
from service.errors import EngineError
from service.local import processes
from service.supervisor.data import Source, Store, StoreAccess
from service.supervisor.engine.protocol import ContainerSummary
from service.supervisor.logs.kept import AWAY as AWAY_NOTE
from service.supervisor.logs.reader import LogReader
from service.supervisor.names import JOB
from tests.data.sync import fill, held
from tests.supervisor.bills import bill
from tests.supervisor.door import Door
from tests.supervisor.lab import DONE, ENDS_WELL_ON_TERM, RUNS_ON
from tests.supervisor.supervise import supervising
from tests.supervisor.world import World, volume
from tests.support.engine.fake import When
from tests.support.waiting import gathered, until

AWAY = timedelta(minutes=10)


@dataclass(frozen=True)
class Moment:
    """When the first supervisor ends: at `gate` (a call of the engine), at the store's door, or in a state.
    `order` is what happens before; `pays` tells whether the absence is time in which the container ran."""

    gate: tuple[str, str] | None = None
    door: bool = False
    state: State | None = None
    order: str = ""
    ends: State = State.DONE
    pays: bool = False


MOMENTS = {
    "INITIALIZING": Moment(door=True),
    "PENDING, image pull": Moment(gate=("pull", "before")),
    "PENDING, before create": Moment(gate=("create", "before")),
    "PENDING, after create": Moment(gate=("create", "after")),
    "PENDING, before start": Moment(gate=("start", "before")),
    "PENDING, after start": Moment(gate=("start", "after"), pays=True),
    "RUNNING": Moment(state=State.RUNNING, pays=True),
    "INTERRUPTING": Moment(gate=("stop", "before"), order="kill", ends=State.INTERRUPTED),
    "INTERRUPTING, after stop": Moment(gate=("stop", "after"), order="kill", ends=State.INTERRUPTED),
    "TIMEOUT": Moment(gate=("stop", "before"), order="timeout", ends=State.INTERRUPTED),
    "FINALIZING, push": Moment(door=True, order="exit"),
    "FINALIZING, before remove": Moment(gate=("remove", "before"), order="exit"),
    "FINALIZING, after remove": Moment(gate=("remove", "after"), order="exit"),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
async def test_the_next_supervisor_goes_on_where_the_first_was(
    stored_on_fake: World, door: Door, access: StoreAccess, moment: Moment
) -> None:
    world, fake = stored_on_fake, stored_on_fake.fake
    source = Source(f"test-{uuid4().hex[:16]}")
    async with Store.open(access) as store:
        await store.ensure_container(source.container)
        await fill(store, source, {"old": b"1"})
        fake.add_image("image:1", pulled=moment.gate != ("pull", "before"))
        gate = fake.gates.hold(*moment.gate) if moment.gate else None
        if moment.door and not moment.order:
            door.hold()
        door.knocked.clear()
        timeout = 1 if moment.order == "timeout" else 60
        asked: dict[str, Any] = {
            "image": "image:1",
            "timeout": timeout,
            "volumes": [volume("/v", "RW", source.container)],
        }
        async with world.supervised() as first:
            job = await world.submit(RUNS_ON, **asked)
            if moment.state or moment.order:
                await world.reach(job, State.RUNNING)
                (world.volume(job) / "new").write_bytes(b"2")
            if moment.door and moment.order:
                door.hold()
                door.knocked.clear()
            await _order(world, job, moment.order)
            if gate is not None:
                await gate.reached.wait()
            elif moment.door:
                await door.knocked.wait()
            assert first.ready.is_set()
            before = await world.ledger.job(job)
        if gate is not None:
            gate.open.set()
        door.open()
        async with world.supervised():
            if moment.order == "":
                await world.reach(job, State.RUNNING)
                (world.volume(job) / "new").write_bytes(b"2")
                await fake.exit(await world.name(job))
            ended = await world.end(job)
            assert await world.log(job) == "ready\n"
        assert ended.state is moment.ends
        assert await held(store, source) == {"old": b"1", "new": b"2"}
    assert world.created(job) == [await world.name(job)]
    assert await world.containers() == []
    events = await world.events(job)
    adopted = [event for event in events if event.type == "RunAdopted"]
    assert [(event.body.epoch, event.run) for event in adopted] == [(2, 1)]
    assert adopted[0].position > before.position
    if not moment.pays:
        undisturbed, disturbed = bill(events), bill(events, away=AWAY)
        assert disturbed.absences[0].end - disturbed.absences[0].start >= AWAY
        assert (disturbed.minutes, disturbed.amount) == (undisturbed.minutes, undisturbed.amount)
        assert undisturbed.minutes == 1


async def _order(world: World, job: UUID, what: str) -> None:
    if what == "kill":
        await world.kill(job)
    elif what == "exit":
        await world.fake.exit(await world.name(job))


async def test_what_runs_already_needs_no_image(on_fake: World) -> None:
    """It is looked for before the image is: that may have been taken away meanwhile, everywhere."""
    fake = on_fake.fake
    fake.add_image("image:1")
    gate = fake.gates.hold("start", "after")
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON, image="image:1")
        await gate.reached.wait()
    gate.open.set()
    fake.images.clear()
    fake.registry.clear()
    async with on_fake.supervised():
        await on_fake.reach(job, State.RUNNING)
    assert on_fake.created(job) == [await on_fake.name(job)]


async def test_what_others_make_between_our_look_and_our_making_is_looked_at_first(
    on_fake: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their container has the name that ours would have. Whose it is says whether it may be started."""
    fake, listed, blind = on_fake.fake, on_fake.fake.list, 2
    gate = fake.gates.hold("create", "after")
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await gate.reached.wait()
    gate.open.set()

    async def late(labels: Mapping[str, str]) -> list[ContainerSummary]:
        nonlocal blind
        found = await listed(labels)
        blind -= JOB in labels
        return [] if JOB in labels and blind >= 0 else found

    monkeypatch.setattr(fake, "list", late)
    async with on_fake.supervised():
        await on_fake.reach(job, State.RUNNING)
    assert blind < 0, "it was looked for once more"
    assert len(fake.begun) == 1


async def test_a_container_that_ended_while_nobody_watched(anywhere: World) -> None:
    """When it ended counts, not when it was noticed."""
    async with anywhere.supervised():
        job = await anywhere.submit(ENDS_WELL_ON_TERM)
        await anywhere.reach(job, State.RUNNING)
        await anywhere.printed(job)
    left = await anywhere.container(job)
    await anywhere.engine.stop(left.id, 5)
    stopped = await anywhere.container(job)
    code = stopped.exit_code
    async with anywhere.supervised():
        ended = await anywhere.end(job)
    assert (ended.exit_code, ended.container_id) == (code, left.id)
    events = await anywhere.events(job)
    adopted = next(event for event in events if event.type == "RunAdopted")
    exited = next(event for event in events if event.type == "RunExited")
    assert exited.position > adopted.position
    assert exited.occurred_at == stopped.finished_at
    assert exited.occurred_at < adopted.occurred_at
    assert bill(events, away=AWAY).minutes == bill(events).minutes == 1


async def test_a_timeout_that_passed_while_nobody_watched(on_fake: World) -> None:
    """The run is stopped at once, and its timeout is dated at when it was due."""
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON, timeout=1)
        running = await on_fake.reach(job, State.RUNNING)
    due_at = running.timeout_at
    assert due_at is not None

    async def due() -> bool:
        return await on_fake.ledger.now() > due_at

    await until(due)
    async with on_fake.supervised():
        ended = await on_fake.end(job)
    reached = next(event for event in await on_fake.events(job) if event.type == "TimeoutReached")
    assert (ended.state, ended.info.code) == (State.INTERRUPTED, "timeout")
    assert reached.occurred_at == due_at


@pytest.mark.parametrize("anew", [False, True])
async def test_what_ended_while_nobody_was_there_and_perhaps_no_engine_either(
    on_fake: World, anew: bool
) -> None:
    """255 is what an engine that began anew says of what ended without it: no code of the process, whose user
    does not pay. And what it printed then is lost. An engine that was there all the while knows both."""
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        await on_fake.printed(job)
    if anew:
        on_fake.fake.begin_anew()
    await on_fake.fake.exit(await on_fake.name(job), 255)
    async with on_fake.supervised():
        ended = await on_fake.end(job)
        log = await on_fake.log(job)
    code = "unknown-outcome" if anew else "exit-code"
    assert (ended.state, ended.exit_code, ended.info.code) == (State.FAILED, 255, code)
    assert (await on_fake.bill(job)).credited is anew
    assert log == ("ready\n" + (f"[jobyard] {AWAY_NOTE.decode()}\n" if anew else ""))


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("code", [130, 131, 143])
async def test_what_was_told_to_end_as_the_node_went_down(on_fake: World, code: int, anew: bool) -> None:
    """The service first, then the engine, which tells all to end and does not remember it when it is back. By
    an engine that was there all the while nobody was told, and the code is the process's own."""
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
    if anew:
        on_fake.fake.begin_anew()
    await on_fake.fake.exit(await on_fake.name(job), code)
    async with on_fake.supervised():
        ended = await on_fake.end(job)
    expected = "stopped-outside" if anew else "exit-code"
    assert (ended.state, ended.exit_code, ended.info.code) == (State.FAILED, code, expected)
    assert (await on_fake.bill(job)).credited is anew


async def test_an_engine_that_forgot_a_start_over_others_has_not_begun_anew(on_fake: World) -> None:
    """It keeps 256 events: a long run's start is not among those of a busy node. What ends with 255 then says
    so itself, and nothing is missing in its log."""
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        await on_fake.printed(job)
    on_fake.fake.have_others()
    assert on_fake.fake.begun == []
    async with on_fake.supervised():
        await until(lambda: "began_anew" in {name for name, _ in on_fake.fake.calls})
    await on_fake.fake.exit(await on_fake.name(job), 255)
    async with on_fake.supervised():
        ended = await on_fake.end(job)
        log = await on_fake.log(job)
    assert (ended.state, ended.exit_code, ended.info.code) == (State.FAILED, 255, "exit-code")
    assert not (await on_fake.bill(job)).credited
    assert log == "ready\n"


async def test_an_engine_that_began_anew_between_two_looks(on_fake: World) -> None:
    """So quickly that every look was answered: that its stream of events broke off is what tells."""
    fake = on_fake.fake
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        # Its log is watched once it was seen running.
        await until(lambda: "logs" in {name for name, _ in fake.calls})
        fake.begin_anew()
        fake.drop_events = True
        await fake.exit(await on_fake.name(job), 255)
        fake.end_events()
        ended = await on_fake.end(job)
        log = await on_fake.log(job)
    assert ended.info.code == "unknown-outcome"
    assert log == f"ready\n[jobyard] {AWAY_NOTE.decode()}\n"


async def test_what_goes_on_through_a_new_engine_and_a_new_supervisor_has_a_note_in_its_log(
    on_fake: World,
) -> None:
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        reader = LogReader(on_fake.settings.logs_dir, poll_s=0.02)

        async def is_kept() -> bool:
            return b"ready" in await gathered(reader.read(job, 1))

        await until(is_kept)
    on_fake.fake.begin_anew()
    async with on_fake.supervised():
        await until(lambda: "began_anew" in {name for name, _ in on_fake.fake.calls})
        await on_fake.fake.exit(await on_fake.name(job))
        assert (await on_fake.end(job)).state is State.DONE
    assert await on_fake.log(job) == f"ready\n[jobyard] {AWAY_NOTE.decode()}\n", "once"


async def test_a_container_that_vanished_while_nobody_watched(on_fake: World) -> None:
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
    await on_fake.engine.remove((await on_fake.container(job)).id, force=True)
    async with on_fake.supervised():
        ended = await on_fake.end(job)
    assert (ended.state, ended.info.code) == (State.ERROR, "container-lost")
    bill = await on_fake.bill(job)
    assert (bill.credited, bill.net) == (True, Decimal(0))


async def test_orders_that_came_while_nobody_was_there(on_fake: World) -> None:
    async with on_fake.supervised():
        stopped, deleted = await on_fake.submit(RUNS_ON), await on_fake.submit(RUNS_ON)
        for job in (stopped, deleted):
            await on_fake.reach(job, State.RUNNING)
    await on_fake.kill(stopped)
    await on_fake.delete(deleted, force=True)
    late = await on_fake.submit(DONE)
    async with on_fake.supervised():
        assert (await on_fake.end(stopped)).state is State.INTERRUPTED
        await on_fake.when(deleted, lambda known, _: known.deleted, "deleted")
        assert (await on_fake.end(late)).state is State.DONE
        assert await on_fake.containers() == []


async def test_a_supervisor_that_is_killed(on_docker: World) -> None:
    """`kill -9`: nobody said goodbye, the lease is still held, and the next one need not wait for its end."""
    world = on_docker
    async with supervising(world, lease_ttl_s=600) as first:
        job = await world.submit(ENDS_WELL_ON_TERM)
        await world.reach(job, State.RUNNING)
        await world.printed(job)
        before = await world.container(job)
        await first.kill()
    async with world.supervised(stop_grace_s=20):
        assert (await world.container(job)).id == before.id
        assert (await world.container(job)).started_at == before.started_at
        await world.kill(job)
        ended = await world.end(job)
        assert await world.log(job) == "ready\n"
    assert (ended.state, ended.exit_code, ended.container_id) == (State.INTERRUPTED, 0, before.id)
    started = [event for event in await world.events() if event.type == "SupervisorStarted"]
    assert [event.body.epoch for event in started] == [1, 2]
    assert [event.type for event in await world.events(job)].count("RunAdopted") == 1


def _shim_of(container: str) -> int:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            words = processes.command_line(int(folder.name)).decode(errors="replace").split("\0")
            if "containerd-shim" in words[0] and container in words:
                return int(folder.name)
    raise LookupError(container)


async def test_a_process_whose_shim_was_killed_ended_nobody_knows_how(on_docker: World) -> None:
    """containerd then has the process killed: no code of its own, and nobody's order."""
    world = on_docker
    async with world.supervised():
        job = await world.submit(RUNS_ON)
        await world.reach(job, State.RUNNING)
        await world.printed(job)
        container = (await world.container(job)).id
        os.kill(_shim_of(container), signal.SIGKILL)
        ended = await world.end(job)
    assert (ended.state, ended.info.code, ended.exit_code) == (State.FAILED, "unknown-outcome", 137)
    bill = await world.bill(job)
    assert bill.fault is not None
    assert bill.fault.reason == "its engine was lost as the process ended, and nobody knows how it did"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_the_engine_fails_in_every_call_once(on_fake: World, when: When) -> None:
    """Before it did anything, or after it did all of it: the outcome of a call may be unknown."""
    for call in ("info", "list", "find", "image", "ensure_network", "create", "start", "stop", "remove"):
        on_fake.fake.fail_next(call, when)
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        await on_fake.kill(job)
        ended = await on_fake.end(job)
    assert ended.state is State.INTERRUPTED
    # A start whose answer never came may still come: what it would start is made anew.
    made = 2 if when == "before" else 1
    assert on_fake.created(job) == [await on_fake.name(job)] * made
    assert on_fake.fake.started == [await on_fake.name(job)]


async def test_an_order_need_not_wait_for_the_next_try(on_fake: World) -> None:
    """The longer the engine is away, the rarer it is asked; who interrupts the job is heard at once."""
    for _ in range(3):
        on_fake.fake.fail_next("ensure_network")
    async with on_fake.supervised(retry_s=20.0):
        job = await on_fake.submit(RUNS_ON)
        await until(lambda: "ensure_network" in dict(on_fake.fake.calls), what="the first try")
        await on_fake.kill(job)
        assert (await on_fake.end(job)).state is State.INTERRUPTED


async def test_a_refusal_of_the_engine_may_pass(on_fake: World) -> None:
    """Seen on a real engine: the firewall's chain was gone when the network was made, and back at once."""
    for call in ("ensure_network", "start"):
        on_fake.fake.fail_next(call, error=EngineError("iptables failed"))
    async with on_fake.supervised():
        job = await on_fake.submit(DONE)
        assert (await on_fake.end(job)).state is State.DONE
    assert on_fake.created(job) == [await on_fake.name(job)]


@pytest.mark.parametrize("how", ["drop", "repeat", "end"])
async def test_events_of_the_engine_are_only_hints(on_fake: World, how: str) -> None:
    fake = on_fake.fake
    fake.drop_events, fake.repeat_events = how == "drop", how == "repeat"
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        if how == "end":
            fake.end_events()
        await fake.exit(await on_fake.name(job))
        ended = await on_fake.end(job)
    assert ended.state is State.DONE
