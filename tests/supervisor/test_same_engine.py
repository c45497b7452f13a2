"""Another engine answers in the place of the one before, while the service lives on."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from service.domain.states import State
from tests.supervisor.lab import DONE, RUNS_ON
from tests.supervisor.world import World
from tests.support.waiting import until

OLD, NEW = "FAKE:ENGINE", "FAKE:NEW"
#: So long nobody listens again, and no run is looked at again that waits: longer than a test lasts.
LONG_S = 600.0


async def _running(world: World) -> UUID:
    job = await world.submit(RUNS_ON)
    await world.reach(job, State.RUNNING)
    return job


def _asked(world: World) -> int:
    return [name for name, _ in world.fake.calls].count("info")


async def test_new_runs_are_the_new_engines_and_outlive_the_service(on_fake: World) -> None:
    with capture_logs() as lines:
        async with on_fake.supervised(lease_ttl_s=0.05):
            before = await _running(on_fake)
            on_fake.fake.become_another(NEW)
            job = await on_fake.submit(RUNS_ON)
            assert (await on_fake.reach(job, State.RUNNING)).engine == NEW
            ended = await on_fake.end(before)
    assert (ended.engine, ended.state, ended.info.code) == (OLD, State.ERROR, "engine-gone")
    assert (await on_fake.bill(before)).credited
    (told,) = [line for line in lines if line["event"] == "supervisor interrupted"]
    assert OLD in told["error"] and NEW in told["error"]
    async with on_fake.supervised(lease_ttl_s=0.05):
        await on_fake.when(job, lambda _, event: event.type == "RunAdopted", "adopted")
        assert (await on_fake.end(await on_fake.submit(DONE))).state is State.DONE
        assert (await on_fake.ledger.job(job)).state is State.RUNNING
        await on_fake.fake.exit(await on_fake.name(job))
        assert (await on_fake.end(job)).state is State.DONE


async def test_one_that_comes_without_a_break_is_noticed_as_the_stream_is_taken_up_anew(
    on_fake: World,
) -> None:
    """As behind a link: that was silent, and leads elsewhere now."""
    fake = on_fake.fake
    async with on_fake.supervised() as supervisor:
        await until(lambda: _asked(on_fake) == 2, what="that it is the same is known")
        asked = _asked(on_fake)
        fake.take_events_up_anew()
        await until(lambda: _asked(on_fake) > asked)
        assert supervisor.ready.is_set(), "it is the same"
        fake.become_another(NEW, breaks=False)
        fake.take_events_up_anew()

        async def is_ours() -> bool:
            begun = [each for each in await on_fake.events() if each.type == "SupervisorStarted"]
            return any(each.body.engine == NEW for each in begun)

        await until(is_ours)
        job = await on_fake.submit(RUNS_ON)
        assert (await on_fake.reach(job, State.RUNNING)).engine == NEW


@pytest.mark.parametrize("breaks", [True, False])
async def test_that_nothing_is_there_says_nothing_of_a_run_of_the_one_before(
    on_fake: World, breaks: bool
) -> None:
    """Whoever looks before the id was asked for asks himself."""
    async with on_fake.supervised(retry_s=LONG_S):
        job = await _running(on_fake)
        asked = _asked(on_fake)
        on_fake.fake.become_another(NEW, breaks=breaks)
        await until(lambda: _asked(on_fake) > asked, what="its driver did not find it, and asks")
        assert (await on_fake.ledger.job(job)).state is State.RUNNING
    async with on_fake.supervised(lease_ttl_s=0.05):
        assert (await on_fake.end(job)).info.code == "engine-gone"


async def test_that_nothing_is_there_is_no_proof_that_an_interrupted_run_never_ran(on_fake: World) -> None:
    gate = on_fake.fake.gates.hold("start", "after")
    async with on_fake.supervised(retry_s=LONG_S):
        job = await on_fake.submit(RUNS_ON)
        await gate.reached.wait()
        await on_fake.kill(job)
        asked = _asked(on_fake)
        on_fake.fake.become_another(NEW)
        gate.open.set()
        await until(lambda: _asked(on_fake) >= asked + 2, what="as it was started, and to be stopped")
        assert (await on_fake.ledger.job(job)).state is State.INTERRUPTING
    async with on_fake.supervised(lease_ttl_s=0.05):
        assert (await on_fake.end(job)).info.code == "engine-gone"


@pytest.mark.parametrize("moment", ["pull", "ensure_network", "create"])
async def test_nothing_of_the_one_before_is_begun_on_it(
    on_fake: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """However far its driver is: it asks, and waits then."""
    fake = on_fake.fake
    fake.add_image("image:1", pulled=False)
    done, came = getattr(fake, moment), asyncio.Event()

    async def replaced(*of: object, **more: object) -> object:
        answer = await done(*of, **more)
        if not came.is_set():
            came.set()
            fake.become_another(NEW)
            await asyncio.sleep(0.05)  # that its events broke off is heard meanwhile
        return answer

    monkeypatch.setattr(fake, moment, replaced)
    async with on_fake.supervised(retry_s=LONG_S):
        job = await on_fake.submit(RUNS_ON, image="image:1")
        await came.wait()
        asked = _asked(on_fake)
        await until(lambda: _asked(on_fake) > asked)
        assert fake.started == []
        assert len(on_fake.created(job)) == (moment == "create")
    async with on_fake.supervised(lease_ttl_s=0.05):
        ended = await on_fake.end(job)
    assert (ended.info.code, ended.started_at) == ("engine-gone", None)
    assert fake.started == []


async def test_no_run_is_placed_under_the_id_of_the_one_before(on_fake: World) -> None:
    async with on_fake.supervised(retry_s=LONG_S) as supervisor:
        await until(lambda: _asked(on_fake) == 2, what="that it is the same is known")
        on_fake.fake.become_another(NEW)
        job = await on_fake.submit(RUNS_ON)
        await until(lambda: not supervisor.ready.is_set(), what="its epoch ends")
        assert (await on_fake.ledger.job(job)).state is State.QUEUED
    async with on_fake.supervised():
        assert (await on_fake.reach(job, State.RUNNING)).engine == NEW
