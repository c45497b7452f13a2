"""What erasing leaves on the node, and what becomes of a job that needs what was erased."""

from __future__ import annotations

from uuid import UUID

import pytest

from service import app
from service.domain import commands as cmd
from service.domain.states import State
from service.ledger.ledger import Ledger
from service.supervisor.data.s3.shelf import Shelf
from service.supervisor.store_keys import access_of
from tests.images import BUSYBOX
from tests.supervisor.bucket import Bucket
from tests.supervisor.lab import TALKS, Behaviour, shell
from tests.supervisor.world import PROJECT, World, env, volume

CLEAR = "correct-horse-battery-staple"


async def erased(ledger: Ledger, job: UUID | None = None) -> None:
    """The job's key, or the project's."""
    command: cmd.Command
    if job is None:
        command = cmd.EraseProject(project=PROJECT, key_ids=await ledger.keys.ids_of_project(PROJECT))
    else:
        command = cmd.EraseJob(project=PROJECT, job=job, key_ids=await ledger.keys.ids_of_job(job))
    await ledger.submit(command, actor="ada")
    await ledger.keys.destroy_told()


async def test_nothing_of_the_secret_is_left_on_the_node(stored_on_docker: World, bucket: Bucket) -> None:
    """Not in a container, nor beside a volume, nor in what is kept of a run."""
    world = stored_on_docker
    await bucket.put({"in/a": b"4"})
    async with world.supervised():
        does = Behaviour(shell(f"test $SECRET = {CLEAR} && echo known > /out/x && echo known"), TALKS.script)
        job = await world.submit(
            does,
            env_vars=env(SECRET=CLEAR),
            volumes=[volume("/in", "RO", bucket.name, "in/"), volume("/out", "RW")],
        )
        ended = await world.end(job)
        assert (ended.state, await world.log(job)) == (State.DONE, "known\n")
        await erased(world.ledger, job)
        assert await world.containers(job) == []
    files = [path for path in world.settings.state_dir.rglob("*") if path.is_file()]
    assert files, "the log is kept, for one"
    assert [path for path in files if CLEAR.encode() in path.read_bytes()] == []


async def test_a_job_whose_environment_is_gone_fails_and_says_so(on_fake: World) -> None:
    """No order of this service leads there; a row that somebody deleted by hand does."""
    world = on_fake
    job = await world.submit(TALKS, env_vars=env(SECRET=CLEAR))
    await world.ledger.pool.execute("DELETE FROM job_keys WHERE job = $1", job)
    async with world.supervised():
        ended = await world.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "secrets-erased")
    assert (await world.bill(job)).minutes == 0


async def test_a_data_store_whose_keys_are_gone_fails_the_job(stored_on_fake: World, bucket: Bucket) -> None:
    world = stored_on_fake
    await erased(world.ledger)
    async with world.supervised():
        job = await world.submit(TALKS, volumes=[volume("/in", "RO", bucket.name)])
        ended = await world.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "data-pull-refused")
    assert "the keys of data store local were erased; set them again" in ended.info.message


async def test_a_registry_whose_password_is_gone_fails_the_job(on_fake: World) -> None:
    world = on_fake
    sealed = (await world.ledger.keys.of(PROJECT)).seal(CLEAR)
    await world.order(
        cmd.SetRegistry(
            project=PROJECT,
            registry_id="11111111-1111-4111-8111-111111111111",
            user="ada",
            url="https://private.example",
            username="ada",
            password=sealed,
        )
    )
    await erased(world.ledger)
    async with world.supervised():
        ended = await world.end(await world.submit(TALKS, image=f"private.example/{BUSYBOX}"))
    assert (ended.state, ended.info.code) == (State.FAILED, "image-denied")
    assert "The password of registry private.example was erased" in ended.info.message


async def test_no_process_keeps_the_keys_of_a_store_that_was_open(
    stored_on_fake: World, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the supervisor nor the API: an open store holds its keys in the clear."""
    shelves: list[Shelf] = []

    class Seen(Shelf):
        def __init__(self, **how: object) -> None:
            super().__init__(**how)  # type: ignore[arg-type]
            shelves.append(self)

    monkeypatch.setattr(app, "Shelf", Seen)
    world, duty = stored_on_fake, app.Duty()
    listening = app.listening_socket("127.0.0.1", 0, shared=False)
    async with (
        app.supervision(world.settings, world.ledger, "unix:///nowhere", duty),
        app.api(world.settings, world.ledger, listening, "unix:///nowhere", duty),
    ):
        project = await world.ledger.project(PROJECT)
        assert project is not None
        access = await access_of(world.ledger, project.data_stores["local"])
        for shelf in shelves:
            async with shelf.open(access):
                pass
        assert [len(shelf) for shelf in shelves] == [1, 1]
        await erased(world.ledger)
        assert [len(shelf) for shelf in shelves] == [0, 0]
