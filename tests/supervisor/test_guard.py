"""Two supervisors and one engine: who may act, and what a stopped one can still do when it goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import MutableMapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from service.domain.states import State
from service.errors import EngineError, Misconfigured
from service.ledger.leases import Database
from service.supervisor import guard
from service.supervisor.guard import HostLock
from tests.supervisor.lab import DONE, RUNS_ON
from tests.supervisor.stoppable import Stopped
from tests.supervisor.supervise import supervising
from tests.supervisor.test_holders import another
from tests.supervisor.world import World
from tests.support.waiting import until

ONE = Database("1/1", "/one")


async def epochs(world: World) -> list[int]:
    return [event.body.epoch for event in await world.events() if event.type == "SupervisorStarted"]


class TestHostLock:
    def test_one_at_a_time(self) -> None:
        engine, ledger = uuid4().hex, uuid4()
        first, second = (HostLock(engine, ledger, ONE) for _ in range(2))
        assert first.take()
        assert first.take(), "what is ours stays ours"
        assert not second.take()
        first.release()
        assert second.take()
        second.release()

    def test_engines_and_ledgers_are_told_apart(self) -> None:
        engine, ledger = uuid4().hex, uuid4()
        locks = [HostLock(*of, ONE) for of in ((engine, ledger), (engine, uuid4()), (uuid4().hex, ledger))]
        assert all(lock.take() for lock in locks)
        for lock in locks:
            lock.release()

    def test_it_says_whose_database_had_the_engine(self) -> None:
        engine, ledger = uuid4().hex, uuid4()
        moved, copied = ONE._replace(place="/two"), Database("1/2", "/one")
        first, hidden = HostLock(engine, ledger, ONE), HostLock(engine, ledger, ONE._replace(place=""))
        assert first.take() and first.other() is None, "nobody's yet"
        first.sign()
        waiting = [HostLock(engine, ledger, each) for each in (ONE, moved, copied)]
        assert [each.other() for each in (*waiting, hidden)] == [None, ONE, ONE, None]
        first.release()
        said = []
        for each in waiting:
            assert each.take()
            said.append(each.other())
            each.release()
        assert said == [None, None, ONE], "where nobody has it, files that lie elsewhere were moved"
        assert waiting[2].take()
        waiting[2].sign()
        assert waiting[2].other() is None and first.other() == copied
        waiting[2].release()

    def test_a_directory_that_others_can_write_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guard, "_places", lambda: (tmp_path,))
        (tmp_path / f"jobyard-locks-{os.getuid()}").mkdir(mode=0o777)
        (tmp_path / f"jobyard-locks-{os.getuid()}").chmod(0o777)
        with pytest.raises(Misconfigured, match="0700"):
            HostLock("engine", uuid4(), ONE)

    def test_a_link_to_a_directory_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guard, "_places", lambda: (tmp_path,))
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        (tmp_path / f"jobyard-locks-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(Misconfigured, match="0700"):
            HostLock("engine", uuid4(), ONE)

    def test_the_environment_does_not_move_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger = uuid4()
        before = HostLock("engine", ledger, ONE).path
        for name in ("TMPDIR", "TMP", "TEMP", "HOME", "XDG_RUNTIME_DIR"):
            monkeypatch.setenv(name, str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        assert HostLock("engine", ledger, ONE).path == before

    def test_it_lies_in_the_first_place_that_can_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        bad = (tmp_path / "missing", tmp_path / "file")
        monkeypatch.setattr(guard, "_places", lambda: (*bad, tmp_path))
        assert HostLock("engine", uuid4(), ONE).path.parent.parent == tmp_path
        monkeypatch.setattr(guard, "_places", lambda: bad)
        with pytest.raises(Misconfigured, match=f"{bad[0]}, {bad[1]}"):
            HostLock("engine", uuid4(), ONE)


async def logged(lines: Sequence[MutableMapping[str, Any]], text: str) -> None:
    """The moment a line with this event has been logged."""
    await until(lambda: any(text in line["event"] for line in lines), what=f"{text!r} is logged")


async def test_the_second_waits_for_the_first(on_fake: World) -> None:
    with capture_logs() as lines:
        async with on_fake.supervised(lease_ttl_s=600), on_fake.supervised(ready=False) as second:
            await logged(lines, "waiting")
            job = await on_fake.submit(DONE)
            await on_fake.end(job)
            assert not second.ready.is_set()
    assert await epochs(on_fake) == [1]


async def test_the_second_takes_over_when_the_first_ends(on_fake: World) -> None:
    async with AsyncExitStack() as stack:
        async with on_fake.supervised(lease_ttl_s=600):
            second = await stack.enter_async_context(on_fake.supervised(ready=False))
            job = await on_fake.submit(RUNS_ON)
            await on_fake.reach(job, State.RUNNING)
            assert not second.ready.is_set()
        await second.ready.wait()
        assert await epochs(on_fake) == [1, 2]
        await on_fake.kill(job)
        assert (await on_fake.end(job)).state is State.INTERRUPTED
    assert on_fake.created(job) == [await on_fake.name(job)]


async def test_the_second_waits_for_the_first_with_another_lock_too(
    on_fake: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a service with a private /tmp and /run, or in a container. Each holds "the" lock of the host."""
    with capture_logs() as lines:
        async with on_fake.supervised(lease_ttl_s=600) as first:
            monkeypatch.setattr(guard, "_lock_dir", lambda: tmp_path)
            async with on_fake.supervised(ready=False) as second:
                await logged(lines, "waiting")
                assert len(list(tmp_path.glob("engine-*.lock"))) == 1, "it has that lock"
                job = await on_fake.submit(DONE)
                await on_fake.end(job)
                assert first.ready.is_set() and not second.ready.is_set()
    assert await epochs(on_fake) == [1]


async def test_who_has_the_lock_takes_the_lease_of_a_holder_that_was_killed(on_fake: World) -> None:
    """Before it has the lock it does not: another of this host has it, which goes first."""
    with another() as (process, killed):
        process.kill()
        process.wait()
    info, head = await on_fake.fake.info(), await on_fake.ledger.head()
    database = await on_fake.ledger.which_database()
    hangs = HostLock(f"{info.id} {info.root_dir}", head.ledger_id, database)
    assert hangs.take()
    assert await on_fake.ledger.take_lease(info.id, killed, 600)
    with capture_logs() as lines:
        async with on_fake.supervised(ready=False) as waits:
            await logged(lines, "waiting")
            assert not waits.ready.is_set()
            hangs.release()
            await waits.ready.wait()
    assert await epochs(on_fake) == [2]


@pytest.mark.parametrize("before", ["ensure_network", "create", "start"])
async def test_one_that_was_stopped_starts_nothing_when_it_goes_on(on_fake: World, before: str) -> None:
    """It stood right before it made or started a container. Meanwhile another took over and the whole run
    is history: its name is free again, so that the engine would let it be made once more."""
    stopped = Stopped()
    async with on_fake.supervised(lease_ttl_s=0.5, stopped=stopped) as first:
        stopped.stop_before = before
        job = await on_fake.submit(DONE)
        await stopped.reached.wait()
        async with on_fake.supervised(lease_ttl_s=600):
            assert (await on_fake.end(job)).state is State.DONE
            assert await on_fake.containers(job) == []
            with capture_logs() as lines:
                stopped.go_on()
                await logged(lines, "lease lost")
                await logged(lines, "waiting")
            later = await on_fake.submit(DONE)
            assert (await on_fake.end(later)).state is State.DONE
            assert not first.ready.is_set()
            assert await epochs(on_fake) == [1, 2]
            # One that stood closer than its last question can still make one more; it never starts it. What
            # it could still start was made anew by the other, under another id.
            assert len(on_fake.created(job)) == (1 if before == "ensure_network" else 2)
            assert on_fake.fake.started == [await on_fake.name(each) for each in (job, later)]


async def test_one_that_was_stopped_before_a_start_starts_nothing_that_has_ended(on_fake: World) -> None:
    """An engine starts what has ended once more, when it is asked to. Here the whole run is over but for its
    container, when a start goes on that stood between its last question and the engine."""
    stopped = Stopped()
    async with on_fake.supervised(lease_ttl_s=0.5, stopped=stopped):
        stopped.stop_before = "start"
        job = await on_fake.submit(DONE)
        await stopped.reached.wait()
        async with on_fake.supervised(lease_ttl_s=600):
            removing = on_fake.fake.gates.hold("remove")
            # What was made and never started may be put away at once; the one that ended is held here.
            await removing.reached.wait()
            if not on_fake.fake.started:
                removing.open.set()
                del on_fake.fake.gates.closed["remove", "before"]
                removing = on_fake.fake.gates.hold("remove")
                await removing.reached.wait()
            with capture_logs() as lines:
                stopped.go_on()
                await logged(lines, "lease lost")
            removing.open.set()
            assert (await on_fake.end(job)).state is State.DONE
    assert on_fake.fake.started == [await on_fake.name(job)]


@pytest.mark.parametrize("ends", [False, True], ids=["the second goes on", "the second ends"])
async def test_a_run_that_a_stopped_one_began_in_the_last_moment_is_not_begun_again(
    on_fake: World, ends: bool
) -> None:
    """The second has looked at the container, and is about to put it away, when the start comes that was on
    its way; and the process is over before it is put away. How it ended is gone with it: ERROR, and credited.
    Whoever follows the second just then knows as much: here it is the first again."""
    stopped = Stopped()
    async with on_fake.supervised(lease_ttl_s=0.5, stopped=stopped):
        stopped.stop_before = "start"
        job = await on_fake.submit(DONE)
        await stopped.reached.wait()
        after = on_fake.fake.gates.hold("remove", "after") if ends else None
        removing = on_fake.fake.gates.hold("remove")
        async with on_fake.supervised(lease_ttl_s=600):
            await removing.reached.wait()
            assert on_fake.fake.started == []
            with capture_logs() as lines:
                stopped.go_on()
                await logged(lines, "lease lost")
            removing.open.set()
            if after is None:
                ended = await on_fake.end(job)
            else:
                await after.reached.wait()
        if after is not None:
            after.open.set()
            ended = await on_fake.end(job)
    assert on_fake.fake.started == [await on_fake.name(job)]
    assert (ended.state, ended.info.code) == (State.ERROR, "container-lost")
    assert (await on_fake.bill(job)).net == 0


@pytest.mark.parametrize("begins", [False, True], ids=["too late", "in the last moment"])
async def test_an_interrupted_run_that_a_stopped_one_may_begin_is_over_only_when_it_cannot(
    on_fake: World, begins: bool
) -> None:
    """What was made for it is put away before the ledger says that it never ran; or it ran, and is ended."""
    stopped = Stopped()
    async with on_fake.supervised(lease_ttl_s=0.5, stopped=stopped):
        stopped.stop_before = "start"
        job = await on_fake.submit(RUNS_ON)
        await stopped.reached.wait()
        await on_fake.kill(job)
        removing = on_fake.fake.gates.hold("remove")
        async with on_fake.supervised(lease_ttl_s=600):
            await removing.reached.wait()
            assert (await on_fake.ledger.job(job)).state is State.INTERRUPTING
            with capture_logs() as lines:
                if begins:
                    stopped.go_on()
                    await logged(lines, "lease lost")
                removing.open.set()
                ended = await on_fake.end(job)
                stopped.go_on()
                await logged(lines, "lease lost")
    assert on_fake.fake.started == [await on_fake.name(job)] * begins
    assert (ended.state, ended.exit_code is not None) == (State.INTERRUPTED, begins)


async def test_what_a_stopped_one_reports_is_refused(on_fake: World) -> None:
    """Two see the same exit; only the word of the one that has the engine counts, and it counts once."""
    stopped = Stopped()
    async with on_fake.supervised(lease_ttl_s=0.5, stopped=stopped):
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        stopped.stop_before = "submit"
        await on_fake.fake.exit(await on_fake.name(job))
        await stopped.reached.wait()
        async with on_fake.supervised(lease_ttl_s=600):
            assert (await on_fake.end(job)).state is State.DONE
            with capture_logs() as lines:
                stopped.go_on()
                await logged(lines, "lease lost")
    kinds = [event.type for event in await on_fake.events(job)]
    assert kinds[-3:] == ["RunAdopted", "RunExited", "RunFinalized"]
    assert kinds.count("RunExited") == 1


async def test_a_process_that_is_stopped_past_its_lease(on_docker: World) -> None:
    """SIGSTOP, another takes over although the stopped one has the host's lock, SIGCONT: it waits its turn,
    and gets it."""
    world = on_docker
    async with supervising(world, lease_ttl_s=1.0) as first:
        job = await world.submit(RUNS_ON)
        await world.reach(job, State.RUNNING)
        await world.printed(job)
        os.kill(first.pid, signal.SIGSTOP)
        async with world.supervised(lease_ttl_s=600):
            os.kill(first.pid, signal.SIGCONT)
            await first.logged("lease lost")
            await first.logged("another supervisor holds the engine; waiting")
            later = await world.submit(DONE)
            await world.end(later)
            await world.kill(job)
            assert (await world.end(job)).state is State.INTERRUPTED
            assert await epochs(world) == [1, 2]
        await first.ready()
        last = await world.submit(DONE)
        assert (await world.end(last)).state is State.DONE
    assert await epochs(world) == [1, 2, 3]


@pytest.mark.skipif(os.getuid() != 0, reason="namespaces are root's to make")
async def test_a_service_in_a_container_of_the_same_machine_waits_for_the_first(on_docker: World) -> None:
    """It has a lock and pids of its own, and the machine's id."""
    shell = f'mount -t tmpfs -o mode=0700 tmpfs {guard._lock_dir()} && exec "$@"'
    container = (
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "sh",
        "-c",
        shell,
        "sh",
    )
    async with (
        on_docker.supervised(lease_ttl_s=600) as first,
        supervising(on_docker, ready=False, within=container) as second,
    ):
        await second.logged("another supervisor holds the engine; waiting")
        job = await on_docker.submit(DONE)
        assert (await on_docker.end(job)).state is State.DONE
        assert first.ready.is_set()
    assert await epochs(on_docker) == [1]


async def test_nobody_needs_the_ledger_to_keep_what_it_has(on_fake: World) -> None:
    """While the ledger is silent nobody else can have taken the lease: work goes on when it is back."""
    stopped = Stopped()
    async with on_fake.supervised(lease_ttl_s=0.3, stopped=stopped) as only:
        job = await on_fake.submit(RUNS_ON)
        await on_fake.reach(job, State.RUNNING)
        stopped.stop_before = "renew_lease"
        await stopped.reached.wait()
        await on_fake.fake.exit(await on_fake.name(job))
        stopped.go_on()
        assert (await on_fake.end(job)).state is State.DONE
        assert only.ready.is_set()
    assert await epochs(on_fake) == [1]


async def test_an_error_that_nobody_foresaw_is_not_the_end(on_fake: World) -> None:
    """The supervisor begins again, and the jobs have somebody."""
    on_fake.fake.fail_next("block_metadata", error=EngineError("no such thing"))
    on_fake.fake.fail_next("list", error=EngineError("the sweep meets it"))
    async with on_fake.supervised():
        job = await on_fake.submit(DONE)
        assert (await on_fake.end(job)).state is State.DONE


async def test_one_that_could_not_give_its_lease_back_takes_it_again_at_once(on_fake: World) -> None:
    """It knows of itself that it is over, whoever else must wait."""
    stopped = Stopped()
    stopped.stop_before = "release_lease"
    on_fake.fake.fail_next("block_metadata", error=EngineError("no such thing"))
    with capture_logs() as lines:
        async with on_fake.supervised(lease_ttl_s=600, stopped=stopped, ready=False):
            await stopped.reached.wait()
            await logged(lines, "supervisor failed; it begins again")
            stopped.go_on()
            job = await on_fake.submit(DONE)
            assert (await on_fake.end(job)).state is State.DONE
    assert await epochs(on_fake) == [1, 2]
