"""Jobs that take more of the node's storage than they may, and jobs that only seem to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.domain import commands as cmd
from service.domain.asked import VolumeAsked
from service.domain.states import State
from service.errors import Unavailable
from service.supervisor.data import StoreAccess
from service.supervisor.storage.usage import Usage
from tests.images import BUSYBOX, KEEPS_TMP, import_keeps_tmp
from tests.supervisor.bucket import Bucket
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.looking import (
    LIMIT,
    SMALL,
    LookingDocker,
    LookingFake,
    fills,
    looked,
    looking_fake,
    writes,
    written,
)
from tests.supervisor.stoppable import Stopped
from tests.supervisor.world import MIB, PROJECT, World, volume, world
from tests.support.waiting import DEADLINE_S

STOPPED = ["RUNNING", "INTERRUPTING", "FINALIZING", "FAILED"]
TOO_MUCH = writes(fills("/out/big", 12), 12 * MIB)
OUT = [volume("/out", "RW")]


@pytest.fixture(params=["fake", "docker"])
async def small(
    request: pytest.FixtureRequest, template_database: str, tmp_path: Path, busybox: str
) -> AsyncIterator[World]:
    """Jobs have 8 MiB of storage: on the fake and, in a second round, on a real Docker Engine."""
    engine = LookingDocker() if request.param == "docker" else looking_fake()
    async with world(template_database, tmp_path / "state", engine, catalogue=SMALL) as made:
        yield made
    await engine.close()


@pytest.fixture
async def small_docker(template_database: str, tmp_path: Path, busybox: str) -> AsyncIterator[World]:
    engine = LookingDocker()
    async with world(template_database, tmp_path / "state", engine, catalogue=SMALL) as made:
        yield made
    await engine.close()


@pytest.fixture
async def small_fake(template_database: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(template_database, tmp_path / "state", looking_fake(), catalogue=SMALL) as made:
        yield made


@asynccontextmanager
async def with_store(template: str, state: Path, access: StoreAccess, engine: Any) -> AsyncIterator[World]:
    async with world(template, state, engine, access, catalogue=SMALL) as made:
        yield made
    await engine.close()


async def within(moment: asyncio.Event) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await moment.wait()


async def test_a_job_that_writes_too_much_is_ended_and_told_why(small: World) -> None:
    engine: Any = small.engine
    engine.may_look.clear()
    async with small.supervised():
        other = await small.submit(RUNS_ON)
        job = await small.submit(TOO_MUCH, volumes=OUT)
        await written(small, job)
        ended = await small.end(job)
        assert (ended.state, ended.info.code) == (State.FAILED, "ephemeral-storage")
        assert [visit.state for visit in ended.history][-4:] == STOPPED
        used = ended.info.arguments["used"]
        assert isinstance(used, int)
        assert 12 * MIB <= used < 13 * MIB
        assert ended.info.arguments["limit"] == LIMIT
        assert "took 12" in ended.info.message
        assert "more than the 8 MiB that it has" in ended.info.message
        assert ended.exit_code is not None
        assert await small.log(job) == "ready\n"
        assert await small.containers(job) == []
        assert (await small.ledger.job(other)).state is State.RUNNING, "its neighbour runs on"
        await small.kill(other)
        await small.end(other)
    bill = await small.bill(job)
    assert (bill.minutes, bill.amount, bill.credited) == (1, Decimal("0.000500"), False)


WAYS = {
    "a volume that is pushed nowhere": (fills("/out/big", 12), BUSYBOX, OUT),
    "two volumes and the container": (
        f"{fills('/one/x', 3)}; {fills('/two/x', 3)}; {fills('/tmp/x', 3)}",
        BUSYBOX,
        [volume("/one", "RW"), volume("/two", "RWD")],
    ),
    "many small files": (
        "i=0; while [ $i -lt 2200 ]; do i=$((i+1)); echo x > /out/$i; done",
        BUSYBOX,
        OUT,
    ),
    "a file without a name": (
        f"exec 3> /tmp/x; rm /tmp/x; {fills('/proc/self/fd/3', 7)}; {fills('/out/x', 3)}",
        BUSYBOX,
        OUT,
    ),
    "one in a volume": (f"exec 3> /out/x; rm /out/x; {fills('/proc/self/fd/3', 12)}", BUSYBOX, OUT),
    "a volume that the image asked for": (fills("/tmp/big", 12), KEEPS_TMP, []),
}


@pytest.mark.parametrize(("text", "image", "volumes"), WAYS.values(), ids=WAYS)
async def test_there_is_no_way_around_it(
    small_docker: World, text: str, image: str, volumes: list[VolumeAsked]
) -> None:
    import_keeps_tmp()
    async with small_docker.supervised():
        job = await small_docker.submit(writes(text), image=image, volumes=volumes)
        ended = await small_docker.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "ephemeral-storage"), ended.info.message
    used = ended.info.arguments["used"]
    assert isinstance(used, int)
    assert LIMIT < used < 14 * MIB


async def test_a_job_that_fills_its_container(small_docker: World) -> None:
    """It is ended; or it cannot, where the engine's storage driver bounds it."""
    engine: Any = small_docker.engine
    async with small_docker.supervised():
        job = await small_docker.submit(writes(f"{fills('/tmp/big', 12)} || echo bounded"))
        await small_docker.reach(job, State.RUNNING)
        ended = asyncio.create_task(small_docker.end(job))
        bounded = asyncio.create_task(small_docker.printed(job, "bounded"))
        await asyncio.wait({ended, bounded}, return_when=asyncio.FIRST_COMPLETED)
        if not bounded.done() or bounded.exception() is not None:  # its log has ended with it
            assert (await ended).info.code == "ephemeral-storage"
        else:
            await looked(small_docker, 3)
            assert max(engine.looks) <= LIMIT
            assert (await small_docker.ledger.job(job)).state is State.RUNNING
        ended.cancel()
        bounded.cancel()
        await asyncio.gather(ended, bounded, return_exceptions=True)


FITS = {
    "a sparse file": "dd if=/dev/zero of=/out/x bs=1 count=1 seek=1073741824; cp /bin/busybox /tmp/x",
    "hard links": f"{fills('/tmp/x', 5)}; ln /tmp/x /tmp/y; {fills('/out/x', 1)}; ln /out/x /out/y",
    "what it deletes in time": "for i in 1 2 3 4; do " + fills("/out/x", 6) + "; rm /out/x; done",
    "memory": f"{fills('/dev/shm/x', 3)}; exec 3> /dev/shm/y; rm /dev/shm/y; {fills('/proc/self/fd/3', 10)}",
    "links to what is not its own": "ln -s / /out/root; ln -s /bin/busybox /out/x",
}


@pytest.mark.parametrize("text", FITS.values(), ids=FITS)
async def test_what_fits_runs_on(small_docker: World, text: str) -> None:
    async with small_docker.supervised():
        job = await small_docker.submit(writes(text), volumes=OUT)
        await small_docker.reach(job, State.RUNNING)
        await small_docker.printed(job)
        await looked(small_docker, 3)
        assert (await small_docker.ledger.job(job)).state is State.RUNNING
        await small_docker.kill(job)
        assert (await small_docker.end(job)).state is State.INTERRUPTED


async def test_only_what_is_its_own_and_can_be_written_counts(small_fake: World) -> None:
    shared = cmd.CreateVolume(project=PROJECT, volume_id="11111111-1111-4111-8111-111111111111", cache=False)
    await small_fake.order(shared)
    named = VolumeAsked(mount_path="/shared", permission="RW", user_volume_id=shared.volume_id)
    async with small_fake.supervised():
        volumes = [volume("/ro", "RO"), named, volume("/rw", "RW")]
        job = await small_fake.submit(RUNS_ON, volumes=volumes)
        await small_fake.reach(job, State.RUNNING)
        (small_fake.volume(job, 0) / "big").write_bytes(b"x" * 12 * MIB)
        (small_fake.settings.user_volumes_dir / PROJECT / shared.volume_id / "big").write_bytes(
            b"x" * 12 * MIB
        )
        (small_fake.volume(job, 2) / "half").write_bytes(b"x" * 6 * MIB)
        await looked(small_fake, 3)
        assert (await small_fake.ledger.job(job)).state is State.RUNNING
        small_fake.fake.takes(await small_fake.name(job), Usage(3 * MIB))
        ended = await small_fake.end(job)
    assert ended.info.code == "ephemeral-storage"
    assert "took 9" in ended.info.message


async def test_one_look_alone_ends_nobody(small_fake: World) -> None:
    """What moves or is deleted while it is looked at can be counted where it came from and where it went."""

    class Once(LookingFake):
        async def usage(self, container_id: str) -> Usage:
            await super().usage(container_id)
            return Usage(12 * MIB if len(self.looks) % 2 else 1)

    small_fake.fake.__class__ = Once
    async with small_fake.supervised():
        job = await small_fake.submit(RUNS_ON)
        await small_fake.reach(job, State.RUNNING)
        await looked(small_fake, 4)
        assert (await small_fake.ledger.job(job)).state is State.RUNNING


async def test_what_cannot_be_looked_at_is_logged_and_looked_for_again(small_fake: World) -> None:
    with capture_logs() as lines:
        async with small_fake.supervised():
            job = await small_fake.submit(RUNS_ON)
            await small_fake.reach(job, State.RUNNING)
            for error in (Unavailable("no answer"), Unavailable("no answer"), Unavailable("still none")):
                small_fake.fake.fail_next("usage", error=error)
            await looked(small_fake, 2)
            assert (await small_fake.ledger.job(job)).state is State.RUNNING
            small_fake.fake.takes(await small_fake.name(job), Usage(LIMIT + 1, ("a folder",)))
            ended = await small_fake.end(job)
    assert ended.info.arguments["used"] == LIMIT + 1, "what was seen is enough, whatever was not"
    said = [line["missed"] for line in lines if line["event"].startswith("storage ") and "missed" in line]
    assert said == [("no answer",), ("still none",), (), ("a folder",)], "each once"


async def test_a_disk_that_cannot_be_read_is_no_reason_to_end(small_fake: World) -> None:
    async with small_fake.supervised():
        job = await small_fake.submit(RUNS_ON, volumes=[*OUT, volume("/more", "RW")])
        await small_fake.reach(job, State.RUNNING)
        root = small_fake.volume(job)
        (root / "half").write_bytes(b"x" * 6 * MIB)
        root.rename(root.with_name("away"))
        await looked(small_fake, 2)
        assert (await small_fake.ledger.job(job)).state is State.RUNNING
        (small_fake.volume(job, 1) / "half").write_bytes(b"x" * 6 * MIB)
        await looked(small_fake, 2)
        assert (await small_fake.ledger.job(job)).state is State.RUNNING
        root.with_name("away").rename(root)
        assert (await small_fake.end(job)).info.code == "ephemeral-storage"


async def test_what_can_be_read_counts_beside_what_cannot(small_fake: World) -> None:
    async with small_fake.supervised():
        job = await small_fake.submit(RUNS_ON, volumes=[*OUT, volume("/more", "RW")])
        await small_fake.reach(job, State.RUNNING)
        small_fake.volume(job).rename(small_fake.volume(job).with_name("away"))
        (small_fake.volume(job, 1) / "big").write_bytes(b"x" * 12 * MIB)
        assert (await small_fake.end(job)).info.code == "ephemeral-storage"


async def test_a_restart_between_the_report_and_the_stop(small: World) -> None:
    stopped = Stopped()
    stopped.stop_before = "stop"
    async with small.supervised(stopped=stopped):
        job = await small.submit(TOO_MUCH, volumes=OUT)
        await within(stopped.reached)
        assert (await small.ledger.job(job)).state is State.INTERRUPTING
        assert (await small.container(job)).state == "running"
    async with small.supervised():
        ended = await small.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "ephemeral-storage")
    kinds = [event.type for event in await small.events(job)]
    assert kinds.count("StorageExceeded") == 1
    assert kinds[-1] == "RunFinalized"


async def test_a_restart_before_anything_was_noticed(small: World) -> None:
    stopped = Stopped()
    stopped.stop_before = "usage"
    async with small.supervised(stopped=stopped):
        job = await small.submit(TOO_MUCH, volumes=OUT)
        await within(stopped.reached)
    assert (await small.ledger.job(job)).state is State.RUNNING
    async with small.supervised():
        assert (await small.end(job)).info.code == "ephemeral-storage"


async def test_a_process_that_ends_while_it_is_looked_at_has_its_own_end(small_fake: World) -> None:
    look = small_fake.fake.gates.hold("usage")

    class Held(LookingFake):
        async def usage(self, container_id: str) -> Usage:
            await self.gates.passing("usage", "before")
            return await super().usage(container_id)

    small_fake.fake.__class__ = Held
    async with small_fake.supervised():
        job = await small_fake.submit(TOO_MUCH, volumes=OUT)
        await within(look.reached)
        await small_fake.fake.exit(await small_fake.name(job))
        ended = await small_fake.end(job)
        look.open.set()
    assert (ended.state, ended.info.code) == (State.DONE, "done")


@pytest.mark.parametrize("where", ["/own/big", "/out/big"], ids=["beside it", "in the same volume"])
async def test_what_it_made_until_then_is_pushed(
    template_database: str, tmp_path: Path, access: StoreAccess, bucket: Bucket, busybox: str, where: str
) -> None:
    text = f"echo weights > /out/model; {fills(where, 12)}"
    engine = LookingDocker()
    engine.may_look.clear()
    stored = with_store(template_database, tmp_path / "s", access, engine)
    async with stored as made, made.supervised():
        volumes = [volume("/out", "RW", bucket.name), volume("/own", "RW")]
        job = await made.submit(writes(text), volumes=volumes)
        await written(made, job)
        ended = await made.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "ephemeral-storage")
    assert not ended.volumes_kept
    held = await bucket.holds()
    assert held.pop("model") == b"weights\n"
    assert [len(each) for each in held.values()] == [12 * MIB] * (where == "/out/big")


async def test_what_it_made_too_much_of_just_before_it_ended_is_pushed(
    template_database: str, tmp_path: Path, access: StoreAccess, bucket: Bucket
) -> None:
    """Nobody saw it take too much: it is DONE, and no limit that it did not hear of keeps its output back."""
    async with (
        world(template_database, tmp_path / "s", looking_fake(), access, catalogue=SMALL) as made,
        made.supervised(storage_check_s=600),
    ):
        job = await made.submit(RUNS_ON, volumes=[volume("/out", "RW", bucket.name)])
        await made.reach(job, State.RUNNING)
        (made.volume(job) / "model").write_bytes(os.urandom(20 * MIB))
        await made.fake.exit(await made.name(job))
        ended = await made.end(job)
    assert (ended.state, ended.volumes_kept) == (State.DONE, False), ended.info
    assert [len(each) for each in (await bucket.holds()).values()] == [20 * MIB]


async def test_volumes_that_fit_alone_and_not_together(
    template_database: str, tmp_path: Path, access: StoreAccess, bucket: Bucket
) -> None:
    await bucket.put({"a/x": b"x" * 5 * MIB, "b/x": b"x" * 5 * MIB})
    volumes = [volume("/a", "RO", bucket.name, "a/"), volume("/b", "RO", bucket.name, "b/")]
    stored = with_store(template_database, tmp_path / "s", access, looking_fake())
    async with stored as made, made.supervised():
        one = await made.submit(RUNS_ON, volumes=volumes[:1])
        both = await made.submit(RUNS_ON, volumes=volumes)
        ended = await made.end(both)
        await made.reach(one, State.RUNNING)
        assert made.created(both) == []
    assert (ended.state, ended.info.code) == (State.FAILED, "ephemeral-storage")
    assert "volumes take 10" in ended.info.message
    assert "MiB together, more than the 8 MiB" in ended.info.message
    assert [visit.state for visit in ended.history] == ["QUEUED", "INITIALIZING", "FINALIZING", "FAILED"]
