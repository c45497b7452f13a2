"""Jobs from submission to end, the same on the fake engine and on a real Docker Engine."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from structlog.testing import capture_logs

from service.domain import commands as cmd
from service.domain.states import State
from service.errors import CommandUnusable, EngineError, MountRefused, Unavailable
from service.supervisor.driver import FAILURES
from tests.supervisor.lab import (
    DONE,
    ENDS_WELL_ON_TERM,
    FAILS_3,
    IGNORES_SIGTERM,
    NOT_THERE,
    RUNS_ON,
    TALKS,
    Behaviour,
    shell,
)
from tests.supervisor.world import PROJECT, World, env, volume
from tests.support.engine.scripted import Script

EATS_MEMORY = Behaviour(("tail", "-c", "500m", "/dev/zero"), Script(ticks=0, exit_code=137, oom_killed=True))
ALL_WELL = ["QUEUED", "INITIALIZING", "PENDING", "RUNNING", "FINALIZING", "DONE"]


async def states(world: World, job: UUID) -> list[str]:
    found = await world.ledger.job(job)
    return [visit.state.value for visit in found.history]


async def test_a_job_that_ends_well(anywhere: World) -> None:
    async with anywhere.supervised():
        job = await anywhere.submit(TALKS)
        ended = await anywhere.end(job)
        assert await states(anywhere, job) == ALL_WELL
        assert (ended.exit_code, ended.info.code) == (0, "done")
        log = await anywhere.log(job)
        assert sorted(log.split()) == ["one", "problem", "three", "two"]
        assert await anywhere.containers(job) == []
    bill = await anywhere.bill(job)
    assert (bill.minutes, bill.amount, bill.credited) == (1, Decimal("0.000500"), False)


@pytest.mark.parametrize(
    ("behaviour", "code", "why"),
    [(FAILS_3, 3, "exit-code"), (NOT_THERE, 127, "exit-code")],
    ids=["exit code", "no such program"],
)
async def test_a_job_that_fails(anywhere: World, behaviour: Behaviour, code: int, why: str) -> None:
    async with anywhere.supervised():
        job = await anywhere.submit(behaviour)
        ended = await anywhere.end(job)
    assert (ended.state, ended.exit_code, ended.info.code) == (State.FAILED, code, why)
    assert (await anywhere.bill(job)).minutes == 1


async def test_a_job_that_needs_more_memory_than_it_has(anywhere: World) -> None:
    async with anywhere.supervised():
        ended = await anywhere.end(await anywhere.submit(EATS_MEMORY))
    # A real engine misses some of these kills; what it did not see is not claimed, nor ruled out.
    assert ended.oom_killed or anywhere.is_real
    why, words = ("out-of-memory", "ran out") if ended.oom_killed else ("exit-code", "does not rule it out")
    assert (ended.state, ended.exit_code, ended.info.code) == (State.FAILED, 137, why)
    assert words in ended.info.message


async def test_an_image_that_is_not_there(anywhere: World) -> None:
    async with anywhere.supervised():
        job = await anywhere.submit(image="127.0.0.1:9/not/there:1")
        code = "registry-unreachable" if anywhere.is_real else "image-missing"
        pulling = await anywhere.told(job, "pulling-image")
        assert pulling.state is State.PENDING
        ended = await anywhere.end(job)
        assert await anywhere.log(job) == ""
    assert (ended.state, ended.info.code, ended.exit_code) == (State.FAILED, code, None)
    assert "127.0.0.1:9/not/there:1" in ended.info.message
    assert (await anywhere.bill(job)).amount == 0


async def test_an_image_without_a_command(anywhere: World) -> None:
    """The engine refuses to make or start the container: the user's to mend, and not billed."""
    unusable = Behaviour((), Script(start_error=CommandUnusable("no command")))
    async with anywhere.supervised():
        job = await anywhere.submit(unusable)
        ended = await anywhere.end(job)
        assert await anywhere.log(job) == ""
        assert await anywhere.containers(job) == []
    assert (ended.state, ended.info.code) == (State.FAILED, "command-unusable")
    assert (await anywhere.bill(job)).amount == 0


async def test_a_volume_where_none_can_be(anywhere: World) -> None:
    """The user's to mend, and not billed; and nothing of the host is told."""
    refuses = Behaviour(
        shell("true"), Script(start_error=MountRefused("nothing can be mounted at /bin/busybox: a file"))
    )
    async with anywhere.supervised():
        job = await anywhere.submit(refuses, volumes=[volume("/bin/busybox", "RO")])
        ended = await anywhere.end(job)
        assert await anywhere.containers(job) == []
    assert (ended.state, ended.info.code) == (State.FAILED, "mount-refused")
    assert "mounted at /bin/busybox: " in ended.info.message
    assert str(anywhere.settings.state_dir) not in ended.info.message
    assert (await anywhere.bill(job)).amount == 0


@pytest.mark.parametrize("call", ["create", "start"])
async def test_what_the_engine_says_is_told_without_paths_of_the_host(on_fake: World, call: str) -> None:
    for _ in range(FAILURES):
        on_fake.fake.fail_next(call, error=EngineError('mounting "/var/lib/docker/x": /srv/y: no such thing'))
    async with on_fake.supervised():
        ended = await on_fake.end(await on_fake.submit(RUNS_ON))
    assert (ended.state, ended.info.code) == (State.ERROR, "engine-refused")
    assert ended.info.message == "The engine refused: mounting (a path): (a path): no such thing."


@pytest.mark.parametrize(
    ("behaviour", "grace_s", "code"),
    [(RUNS_ON, 20, 7), (IGNORES_SIGTERM, 1, 137)],
    ids=["honoured", "ignored"],
)
async def test_an_interrupt_while_it_runs(
    anywhere: World, behaviour: Behaviour, grace_s: int, code: int
) -> None:
    async with anywhere.supervised(stop_grace_s=grace_s):
        job = await anywhere.submit(behaviour)
        await anywhere.reach(job, State.RUNNING)
        await anywhere.printed(job)
        await anywhere.kill(job)
        ended = await anywhere.end(job)
        assert await anywhere.log(job) == "ready\n"
    assert (ended.state, ended.exit_code, ended.info.code) == (State.INTERRUPTED, code, "interrupted")
    assert (await states(anywhere, job))[-3:] == ["INTERRUPTING", "FINALIZING", "INTERRUPTED"]
    assert (await anywhere.bill(job)).minutes == 1


@pytest.mark.parametrize(("shutdown", "grace_s"), [(None, 7), ("Normal", 7), ("Fast", 0)])
async def test_how_long_a_job_has_to_end(on_fake: World, shutdown: str | None, grace_s: int) -> None:
    async with on_fake.supervised(stop_grace_s=7):
        job = await on_fake.submit(RUNS_ON, shutdown=shutdown)
        await on_fake.reach(job, State.RUNNING)
        await on_fake.kill(job)
        await on_fake.end(job)
    assert on_fake.fake.graces_s == [grace_s]


async def test_a_timeout(anywhere: World) -> None:
    async with anywhere.supervised():
        job = await anywhere.submit(RUNS_ON, timeout=1)
        ended = await anywhere.end(job)
    assert (ended.state, ended.info.code) == (State.INTERRUPTED, "timeout")
    assert (await states(anywhere, job))[-3:] == ["TIMEOUT", "FINALIZING", "INTERRUPTED"]
    events = {event.type: event for event in await anywhere.events(job)}
    assert events["TimeoutReached"].occurred_at == events["RunStarted"].occurred_at + timedelta(seconds=1)


async def test_a_timeout_with_a_restart(anywhere: World) -> None:
    async with anywhere.supervised():
        job = await anywhere.submit(RUNS_ON, restarts_after_s=4)  # beside it the order comes in time
        await anywhere.script(job, 2, RUNS_ON)
        again = await anywhere.reach(job, State.RUNNING, run=2)
        assert (again.run, again.timed_out, again.exit_code) == (2, False, None)
        await anywhere.kill(job)
        ended = await anywhere.end(job, run=2)
        assert await anywhere.log(job, 1) == "ready\n"
    assert ended.state is State.INTERRUPTED
    assert [line.run for line in await anywhere.ledger.runs(job)] == [1, 2]


async def test_a_job_is_started_again(anywhere: World) -> None:
    """A run of its own, with its own container, log and bill."""
    async with anywhere.supervised():
        job = await anywhere.submit(TALKS)
        first = await anywhere.end(job)
        await anywhere.script(job, 2, TALKS)
        await anywhere.start(job)
        second = await anywhere.end(job, run=2)
        assert sorted((await anywhere.log(job, 1)).split()) == sorted((await anywhere.log(job, 2)).split())
    assert (first.state, second.state) == (State.DONE, State.DONE)
    started = [event.body for event in await anywhere.events(job) if event.type == "RunStarted"]
    assert len({body.container_id for body in started}) == 2
    bills = await anywhere.ledger.runs(job)
    assert [(bill.run, bill.minutes) for bill in bills] == [(1, 1), (2, 1)]
    assert not set(bills[0].positions) & set(bills[1].positions)


async def test_a_container_that_is_removed_behind_our_back(anywhere: World) -> None:
    """Nobody knows how it ended: our fault, and credited."""
    async with anywhere.supervised():
        job = await anywhere.submit(RUNS_ON)
        await anywhere.reach(job, State.RUNNING)
        await anywhere.printed(job)
        await anywhere.engine.remove((await anywhere.container(job)).id, force=True)
        ended = await anywhere.end(job)
        await anywhere.log(job)  # ends
    assert (ended.state, ended.info.code, ended.exit_code) == (State.ERROR, "container-lost", None)
    bill = await anywhere.bill(job)
    assert bill.credited
    assert bill.net == 0


@pytest.mark.parametrize(
    ("code", "info", "reason"),
    [
        (137, "exit-code", "while the engine did not answer"),
        (255, "unknown-outcome", "nobody knows how it did"),
    ],
)
async def test_a_process_that_dies_with_its_engine(
    on_fake: World, monkeypatch: pytest.MonkeyPatch, code: int, info: str, reason: str
) -> None:
    """The engine was gone for a while, and what it ran was killed, or ended nobody knows how: FAILED with the
    code that the engine says, and credited."""
    asked = asyncio.Event()

    async def gone(_container: str) -> None:
        asked.set()
        raise Unavailable("the connection to the Docker Engine failed")

    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        container = await on_fake.container(job)
        with monkeypatch.context() as away:
            away.setattr(on_fake.fake, "find", gone)
            await asked.wait()
            on_fake.fake.begin_anew()  # it is another dockerd that answers next
            await on_fake.fake._end(on_fake.fake._must_find(container.id), code, False)
        ended = await on_fake.end(job)
    assert (ended.state, ended.exit_code, ended.info.code) == (State.FAILED, code, info)
    bill = await on_fake.bill(job)
    assert bill.fault is not None and bill.fault.reason.endswith(reason)
    assert (bill.net, bill.minutes) == (Decimal(0), 1)


async def test_a_process_may_end_with_any_code(on_fake: World) -> None:
    """Also with the one that an engine says of what ended without it, though it was away for a while."""
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        for _ in range(3):
            on_fake.fake.fail_next("find")
        await on_fake.fake.exit(await on_fake.name(job), 255)
        ended = await on_fake.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "exit-code")
    assert not (await on_fake.bill(job)).credited


async def test_a_container_that_somebody_stopped_is_not_done(anywhere: World) -> None:
    """By no order to us: its process ended well, half way, and its user does not pay."""
    async with anywhere.supervised():
        job = await anywhere.submit(ENDS_WELL_ON_TERM)
        await anywhere.reach(job, State.RUNNING)
        await anywhere.printed(job)
        await anywhere.engine.stop((await anywhere.container(job)).id, 20)
        ended = await anywhere.end(job)
    assert (ended.state, ended.exit_code, ended.info.code) == (State.FAILED, 0, "stopped-outside")
    assert (await anywhere.bill(job)).net == 0


async def test_a_container_that_vanishes_while_it_is_stopped(on_fake: World) -> None:
    """It was interrupted, and yet how its process ended is not known: not INTERRUPTED, and credited."""
    stop = on_fake.fake.gates.hold("stop")
    async with on_fake.supervised():
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        await on_fake.kill(job)
        await stop.reached.wait()
        await on_fake.engine.remove((await on_fake.container(job)).id, force=True)
        stop.open.set()
        ended = await on_fake.end(job)
    assert (ended.state, ended.info.code) == (State.ERROR, "container-lost")
    assert (await on_fake.bill(job)).credited


async def test_a_job_is_deleted_by_force(anywhere: World) -> None:
    async with anywhere.supervised():
        job = await anywhere.submit(RUNS_ON)
        await anywhere.reach(job, State.RUNNING)
        await anywhere.printed(job)
        await anywhere.delete(job, force=True)
        gone = await anywhere.when(job, lambda known, _: known.deleted, "deleted")
        assert gone.state is State.INTERRUPTED
        assert await anywhere.log(job) == "ready\n"
        assert await anywhere.containers(job) == []
    assert (await anywhere.bill(job)).minutes == 1
    assert (await anywhere.ledger.quota(PROJECT)).cpu_used == 0


async def test_one_that_waits_is_killed_and_its_log_ends(anywhere: World) -> None:
    """Nothing was ever made for it; who follows its log must not wait for ever."""
    async with anywhere.supervised():
        job = await anywhere.submit(cpu=9)
        await anywhere.told(job, "no-node-offers")
        await anywhere.kill(job)
        ended = await anywhere.end(job)
        assert await anywhere.log(job) == ""
    assert (ended.state, await states(anywhere, job)) == (State.INTERRUPTED, ["QUEUED", "INTERRUPTED"])


async def test_one_that_is_killed_at_once_has_a_log_that_ends(on_fake: World) -> None:
    """Both orders are in one commit: the supervisor learns of the job only when it is over already."""
    async with on_fake.supervised():
        other = await on_fake.submit(RUNS_ON)
        spec = (await on_fake.reach(other, State.RUNNING)).spec
        job = uuid4()
        await asyncio.gather(
            on_fake.order(cmd.SubmitJob(project=PROJECT, job=job, spec=spec, user="ada")),
            on_fake.order(cmd.KillJob(project=PROJECT, job=job)),
        )
        assert await on_fake.log(job) == ""


async def test_why_a_job_waits(anywhere: World) -> None:
    async with anywhere.supervised(node_cpus=2):
        first = await anywhere.submit(RUNS_ON, cpu=2)
        await anywhere.reach(first, State.RUNNING)
        large, behind = await anywhere.submit(DONE, cpu=2), await anywhere.submit(DONE, cpu=1)
        never = await anywhere.submit(resources=None)
        assert (await anywhere.told(large, "waiting-for-cpu")).info.arguments["needed"] == 2
        await anywhere.told(behind, "waiting-in-line")
        no_gpu = await anywhere.told(never, "no-node-offers")
        assert no_gpu.info.arguments == {"resource": "gpus", "needed": 1, "offered": 0, "node": "node-1"}
        await anywhere.kill(first)
        for job in (large, behind):
            assert (await anywhere.end(job)).state is State.DONE
        notes = [event for event in await anywhere.events(never) if event.type == "RunNoted"]
        assert len(notes) == 1, "the same reason was told twice"


async def test_quota_is_given_back_when_finalizing_begins(on_fake: World) -> None:
    push = on_fake.fake.gates.hold("remove")
    async with on_fake.supervised():
        job = await on_fake.submit(DONE, cpu=3)
        await push.reached.wait()
        assert (await on_fake.ledger.job(job)).state is State.FINALIZING
        assert (await on_fake.ledger.quota(PROJECT)).cpu_used == 0
        push.open.set()
        await on_fake.end(job)
    assert (await on_fake.ledger.quota(PROJECT)).cpu_used == 0


def _everything(of: Any) -> Iterator[str]:
    """As Python shows it, and as it is written down: a secret hides its repr, but not its text."""
    yield repr(of)
    yield str(msgspec.to_builtins(of, enc_hook=str))


async def test_secrets_reach_the_container_and_nothing_else(anywhere: World) -> None:
    secret = "s3cr3t-0f-4da"
    said = f"{hashlib.sha256(secret.encode()).hexdigest()}  -\n"
    behaviour = Behaviour(
        shell('printf %s "$TOKEN" | sha256sum'), Script(ticks=0, output=((1, said.encode()),))
    )
    with capture_logs() as lines:
        async with anywhere.supervised():
            job = await anywhere.submit(behaviour, env_vars=env(TOKEN=secret))
            ended = await anywhere.end(job)
            assert await anywhere.log(job) == said
    if not anywhere.is_real:
        assert dict(anywhere.fake.specs[0].env) == {"TOKEN": secret}
    assert (ended.state, len(ended.spec.env)) == (State.DONE, 1)
    events = await anywhere.events()
    assert lines
    assert events
    shown = [text for each in (*lines, *events) for text in _everything(each)]
    assert not [text for text in [*shown, *_everything(ended)] if secret in text]


async def test_a_secret_is_in_no_line_when_the_engine_refuses(on_fake: World) -> None:
    secret = "s3cr3t-0f-b0b"
    on_fake.fake.fail_next("create", error=CommandUnusable("refused"))
    with capture_logs() as lines:
        async with on_fake.supervised():
            job = await on_fake.submit(DONE, env_vars=env(TOKEN=secret))
            ended = await on_fake.end(job)
    assert ended.state is State.FAILED
    shown = [text for each in (*lines, *await on_fake.events(), ended) for text in _everything(each)]
    assert not [text for text in shown if secret in text]


async def test_every_effect_has_one_line(on_fake: World) -> None:
    with capture_logs() as lines:
        async with on_fake.supervised():
            job = await on_fake.submit(DONE)
            await on_fake.end(job)
    effects = [line for line in lines if line["event"] == "effect"]
    assert [line["effect"] for line in effects] == ["create-container", "start-container", "remove-container"]
    assert {(line["job"], line["run"], line["outcome"]) for line in effects} == {(str(job), 1, "ok")}


async def test_what_the_engine_calls_its_container(on_fake: World) -> None:
    async with on_fake.supervised():
        job = await on_fake.submit(DONE)
        await on_fake.end(job)
    assert on_fake.created(job) == [await on_fake.name(job)]
