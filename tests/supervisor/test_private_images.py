"""Private images: a real registry that asks for a password, a real engine, projects that must not share."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from service.domain import commands as cmd
from service.domain.job import Job
from service.domain.states import State
from service.vault import Secret
from tests.images import remove_image
from tests.supervisor.registry import Registry
from tests.supervisor.world import PROJECT, World
from tests.support.registry import PrivateRegistry

OTHER = "other"
#: A password that is nobody's: wherever it turns up, it was leaked.
WRONG = "not-the-pass-word-of-anybody"


@pytest.fixture
async def yard(on_docker: World) -> World:
    """A world with a second project."""
    await on_docker.order(cmd.CreateProject(project=OTHER, name="Other", cpu=8, gpu=0))
    return on_docker


@pytest.fixture
async def name(private: PrivateRegistry) -> AsyncIterator[str]:
    """A repository of this test's own; its image `:1` is taken from the engine afterwards."""
    made = f"team/t{os.getpid()}-{uuid4().hex[:8]}"
    yield made
    for tag in ("1", "arm"):
        try:
            remove_image(f"{private.address}/{made}:{tag}")
        except RuntimeError as error:
            if " 404 " not in str(error):
                raise


async def attach(
    world: World,
    private: PrivateRegistry,
    *,
    password: str | None = None,
    project: str = PROJECT,
    url: str = "",
) -> None:
    key = await world.ledger.keys.of(project)
    await world.order(
        cmd.SetRegistry(
            project=project,
            registry_id=str(uuid4()),
            user="ada",
            url=url or private.url,
            username=private.user,
            password=key.seal(private.password if password is None else password),
        )
    )


async def ran(world: World, image: str, *, project: str = PROJECT, **settings: Any) -> Job:
    """A job of this image, after its end."""
    async with world.supervised(**settings):
        return await world.end(await world.submit(image=image, command=["true"], project=project))


async def test_the_right_credentials_pull_and_the_digest_is_recorded(
    yard: World, private: PrivateRegistry, name: str
) -> None:
    digest = await private.push(name, "1")
    await attach(yard, private)
    with capture_logs() as lines:
        job = await ran(yard, f"{private.address}/{name}:1")
    assert (job.state, job.image_digest) == (State.DONE, digest), job.info
    events = await yard.events()
    assert [event.body.image_digest for event in events if event.type == "RunStarted"] == [digest]
    assert private.password not in f"{lines}{events}{job}"
    (pull,) = [line for line in lines if line.get("effect") == "pull-image"]
    assert (pull["user"], pull["digest"]) == (private.user, digest)


@pytest.mark.parametrize("given", ["wrong", "none"])
async def test_wrong_or_no_credentials_are_denied(
    yard: World, private: PrivateRegistry, name: str, given: str
) -> None:
    await private.push(name, "1")
    if given == "wrong":
        await attach(yard, private, password=WRONG)
    job = await ran(yard, f"{private.address}/{name}:1")
    assert (job.state, job.info.code, job.exit_code) == (State.FAILED, "image-denied", None)
    says = f"denies it to user '{private.user}'" if given == "wrong" else "jobyard registry add"
    assert says in job.info.message
    assert private.address in job.info.message and WRONG not in job.info.message
    assert job.info.arguments["attempts"] == 1
    assert (await yard.bill(job.id)).amount == 0


async def test_an_image_that_is_missing(yard: World, private: PrivateRegistry, name: str) -> None:
    await attach(yard, private)
    job = await ran(yard, f"{private.address}/{name}:1")
    assert (job.state, job.info.code) == (State.FAILED, "image-missing")
    assert f"{private.address} has no such image or tag" in job.info.message


async def test_an_image_of_another_architecture(yard: World, private: PrivateRegistry, name: str) -> None:
    await private.push(name, "arm", architecture="arm64")
    await attach(yard, private)
    for _ in range(2):  # also when the engine holds it by then
        job = await ran(yard, f"{private.address}/{name}:arm")
        assert (job.state, job.info.code) == (State.FAILED, "image-architecture")
        assert "it must be for linux/amd64" in job.info.message


async def test_a_registry_out_of_reach(yard: World) -> None:
    job = await ran(yard, "127.0.0.1:9/team/image:1")
    assert (job.state, job.info.code) == (State.FAILED, "registry-unreachable")
    assert job.info.arguments["attempts"] == yard.settings.pull_attempts


async def test_a_tag_that_was_moved_is_followed_and_seen(
    yard: World, private: PrivateRegistry, name: str
) -> None:
    await attach(yard, private)
    first = await private.push(name, "1", mark="first")
    async with yard.supervised():
        job = await yard.submit(image=f"{private.address}/{name}:1", command=["sh", "-c", "echo $MARK"])
        assert (await yard.end(job)).image_digest == first
        second = await private.push(name, "1", mark="second")
        await yard.start(job)
        assert (await yard.end(job, run=2)).image_digest == second != first
        assert [await yard.log(job, run) for run in (1, 2)] == ["first\n", "second\n"]
    remove_image(f"{private.address}/{name}@{first}")


async def test_an_image_that_one_project_pulled_is_not_handed_to_another(
    yard: World, private: PrivateRegistry, name: str
) -> None:
    await private.push(name, "1")
    image = f"{private.address}/{name}:1"
    await attach(yard, private)
    assert (await ran(yard, image)).state is State.DONE
    held = await yard.engine.image(image)
    assert held is not None
    for given in (image, f"{private.address}/{name}@{held.digest}"):
        job = await ran(yard, given, project=OTHER)
        assert (job.state, job.info.code) == (State.FAILED, "image-denied"), given
        assert job.image_digest is None
        assert await yard.containers(job.id) == []
    await attach(yard, private, password=WRONG, project=OTHER)
    assert (await ran(yard, image, project=OTHER)).info.code == "image-denied"
    assert (await ran(yard, image)).state is State.DONE
    # A node that never asks hands out what it holds: that is what the setting is for.
    assert (await ran(yard, image, project=OTHER, image_pull="missing")).state is State.DONE


async def test_access_that_was_withdrawn_is_withdrawn(
    yard: World, private: PrivateRegistry, name: str
) -> None:
    await private.push(name, "1")
    await attach(yard, private)
    image = f"{private.address}/{name}:1"
    assert (await ran(yard, image)).state is State.DONE
    project = await yard.ledger.project(PROJECT)
    assert project is not None
    (known,) = project.registries
    await yard.order(cmd.RemoveRegistry(project=PROJECT, registry_id=known))
    assert (await ran(yard, image)).info.code == "image-denied"


async def test_credentials_go_to_their_own_host_and_port_only(yard: World, private: PrivateRegistry) -> None:
    """A second registry on the same host asks for them in vain, and so does another name of the same one."""
    async with Registry() as elsewhere:
        elsewhere.add("team/image", "1")
        elsewhere.fault = lambda _: 401
        await attach(yard, private)
        job = await ran(yard, f"{elsewhere.address}/team/image:1")
        assert job.info.code == "image-denied"
        assert elsewhere.requests and set(elsewhere.authorizations) == {None}
        await attach(yard, private, url=f"http://{elsewhere.address}")
        assert (await ran(yard, f"{elsewhere.address}/team/image:1")).info.code == "image-denied"
        word = base64.b64encode(f"{private.user}:{private.password}".encode()).decode()
        assert f"Basic {word}" in elsewhere.authorizations


async def test_the_shared_registry(yard: World, private: PrivateRegistry) -> None:
    """Its part for a project needs nothing attached; the others' parts are refused even past the submit."""
    name = f"{PROJECT}/t{uuid4().hex[:8]}"
    digest = await private.push(name, "1")
    shared = {
        "shared_registry": private.url,
        "shared_registry_username": private.user,
        "shared_registry_password": Secret(private.password),
    }
    image = f"{private.address}/{name}:1"
    try:
        assert (await ran(yard, image)).info.code == "image-denied"
        assert (await ran(yard, image, **shared)).image_digest == digest
        other = await ran(yard, image, project=OTHER, **shared)
        assert (other.state, other.info.code) == (State.FAILED, "image-denied")
        assert f"may use {private.address}/{OTHER}/... only" in other.info.message
        missing = await ran(yard, image, project=OTHER, image_pull="missing", **shared)
        assert missing.info.code == "image-denied"
    finally:
        remove_image(image)


async def test_an_image_that_came_from_no_registry_is_used_as_it_is(on_fake: World) -> None:
    on_fake.fake.add_image("pulled:1")
    for image, pulls in (("jobyard-test/busybox:1", 0), ("pulled:1", 1), ("docker.io/library/pulled:1", 1)):
        on_fake.fake.add_image(image, from_registry=pulls > 0)
        before = len(on_fake.fake.auths)
        await _started(on_fake, image)
        assert len(on_fake.fake.auths) - before == pulls, image


async def test_a_reference_that_the_engine_cannot_read(on_fake: World) -> None:
    job = await ran(on_fake, "[::1]:5000/team/image:1")
    assert (job.state, job.info.code) == (State.FAILED, "image-unavailable")
    assert "[::1]:5000/team/image:1" in job.info.message


async def _started(world: World, image: str) -> UUID:
    async with world.supervised():
        job = await world.submit(image=image)
        await world.reach(job, State.RUNNING)
        await world.kill(job)
        await world.end(job)
    return job
