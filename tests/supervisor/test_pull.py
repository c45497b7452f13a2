"""Pulls from a real registry on loopback by the real engine."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from service.errors import ImageUnavailable, NodeFull
from service.supervisor.engine import image_ref
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.protocol import PullProgress, RegistryAuth
from service.supervisor.engine.pull import Puller, explained
from tests.images import remove_image
from tests.supervisor.registry import Registry
from tests.support.waiting import until


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry() as registry:
        yield registry


@pytest.fixture
def fresh() -> bytes:
    """Content no engine has seen, so that every layer is fetched."""
    return uuid4().bytes * 4096


async def test_a_pull_takes_one_tag_and_reports(
    docker: DockerEngine, registry: Registry, fresh: bytes
) -> None:
    digest = registry.add("team/image", "latest", content=fresh)
    registry.add("team/image", "other", content=fresh + b"!")
    seen: list[PullProgress] = []
    image = await docker.pull(f"{registry.address}/team/image", on_progress=seen.append, stall_s=30)
    remove_image(f"{registry.address}/team/image:latest")
    assert image.digest == digest
    assert (image.os, image.architecture) == ("linux", "amd64")
    assert (seen[-1].layers, seen[-1].layers_done) == (1, 1)
    assert not any(path.endswith(("tags/list", "manifests/other")) for path in registry.requests)


async def test_a_pull_by_digest(docker: DockerEngine, registry: Registry, fresh: bytes) -> None:
    digest = registry.add("team/image", "v1", content=fresh)
    image = await docker.pull(f"{registry.address}/team/image:v1@{digest}", stall_s=30)
    remove_image(image.id)
    assert image.digest == digest


async def test_callers_of_one_reference_share_a_fetch(
    docker: DockerEngine, registry: Registry, fresh: bytes
) -> None:
    registry.add("team/image", "v1", content=fresh)
    registry.hold = asyncio.Event()
    ref = f"{registry.address}/team/image:v1"
    pulls = [asyncio.create_task(docker.pull(ref, stall_s=30)) for _ in range(5)]
    async with asyncio.timeout(30):
        await registry.asked_for_blob.wait()
        pulls[0].cancel()  # one who goes takes nobody with him
        registry.hold.set()
        images = await asyncio.gather(*pulls[1:])
    remove_image(ref)
    assert len({image.id for image in images}) == 1
    assert sum("/manifests/v1" in path for path in registry.requests) == 1


class SlowToEnd:
    """An engine that takes its time to end a fetch that nobody wants any more, and to answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended, self.answers = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def stream(self, *_: object, **__: object) -> AsyncIterator[Any]:
        self.asked += 1
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            await self.ended.wait()
            raise
        yield SimpleNamespace(status=200, content=SimpleNamespace(iter_any=self._nothing))

    async def _nothing(self) -> AsyncIterator[bytes]:
        lines: list[bytes] = []
        for line in lines:
            yield line


async def test_who_comes_as_the_last_one_goes_has_a_fetch_of_his_own() -> None:
    """The one that was under way is ended, and would end his pull with it."""
    wire: Any = SlowToEnd()
    puller, ref = Puller(wire), image_ref.parse("team/image:v1")

    def pull() -> asyncio.Task[None]:
        return asyncio.create_task(puller.pull(ref, auth=None, on_progress=None, stall_s=30))

    first = pull()
    await until(lambda: wire.asked == 1)
    first.cancel()
    await asyncio.wait([first])
    second = pull()
    await until(lambda: wire.asked == 2)
    wire.ended.set()
    await until(lambda: len(asyncio.all_tasks()) == 3, what="only the second and its fetch are left, and we")
    third = pull()
    await asyncio.sleep(0)
    wire.answers.set()
    await asyncio.gather(second, third)
    assert wire.asked == 2, "the third shares the fetch of the second"


async def test_credentials_reach_the_registry_and_do_not_lend_themselves(
    docker: DockerEngine, registry: Registry, fresh: bytes
) -> None:
    registry.add("team/image", "v1", content=fresh)
    word = base64.b64encode(b"ann:s3cret").decode()
    registry.fault = lambda _: None if f"Basic {word}" in str(registry.authorizations[-1]) else 401
    ref = f"{registry.address}/team/image:v1"
    auth = RegistryAuth(registry.address, "ann", "s3cret")
    assert "s3cret" not in repr(auth)
    allowed, refused = await asyncio.gather(
        docker.pull(ref, auth=auth, stall_s=30), docker.pull(ref, stall_s=30), return_exceptions=True
    )
    remove_image(ref)
    assert not isinstance(allowed, BaseException)
    assert isinstance(refused, ImageUnavailable)
    assert refused.passing is False


@pytest.mark.parametrize(("status", "passing"), [(401, False), (403, False), (429, True), (503, True)])
async def test_refusals_of_a_registry(
    docker: DockerEngine, registry: Registry, status: int, passing: bool
) -> None:
    registry.fault = lambda _: status
    with pytest.raises(ImageUnavailable) as refused:
        await docker.pull(f"{registry.address}/team/image:v1", stall_s=30)
    assert refused.value.passing is passing


async def test_no_such_image(docker: DockerEngine, registry: Registry) -> None:
    with pytest.raises(ImageUnavailable, match="no such image") as refused:
        await docker.pull(f"{registry.address}/team/nothing:v1", stall_s=30)
    assert refused.value.passing is False


async def test_another_architecture_is_refused(
    docker: DockerEngine, registry: Registry, fresh: bytes
) -> None:
    registry.add("team/arm", "v1", architecture="arm64", content=fresh)
    with pytest.raises(ImageUnavailable, match="linux/") as refused:
        await docker.pull(f"{registry.address}/team/arm:v1", stall_s=30)
    assert refused.value.passing is False


async def test_a_pull_that_stands_still_is_given_up(
    docker: DockerEngine, registry: Registry, fresh: bytes
) -> None:
    registry.add("team/image", "v1", content=fresh)
    registry.hold = asyncio.Event()
    with pytest.raises(ImageUnavailable, match="no progress") as refused:
        await docker.pull(f"{registry.address}/team/image:v1", stall_s=0.5)
    assert refused.value.passing is True


async def test_a_registry_out_of_reach(docker: DockerEngine) -> None:
    with pytest.raises(ImageUnavailable, match="cannot be reached") as refused:
        await docker.pull("127.0.0.1:9/team/image:v1", stall_s=30)
    assert refused.value.passing is True


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("busybox", ("busybox", "latest", None)),
        ("a.example:5000/x/y__z:1.0", ("a.example:5000/x/y__z", "1.0", None)),
        ("x@sha256:" + "a" * 64, ("x", "latest", "sha256:" + "a" * 64)),
    ],
)
def test_references(text: str, split: tuple[str, str, str | None]) -> None:
    ref = image_ref.parse(text)
    assert (ref.name, ref.tag, ref.digest) == split
    assert ref.wanted == (split[2] or split[1]) != ""


@pytest.mark.parametrize("text", ["", "A", "x:", "x@sha256:1", "x y", "../x", "x?tag=", "http://x/y", "x:\n"])
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(ImageUnavailable):
        image_ref.parse(text)


def test_a_full_disk_is_not_the_jobs_fault() -> None:
    error = explained(image_ref.parse("x"), "write /var/lib: no space left on device")
    assert type(error) is NodeFull


def test_a_word_without_an_end_is_looked_through_once() -> None:
    """With each of its letters a beginning, this would take minutes."""
    error = explained(image_ref.parse("x"), "a" * 300_000 + " unauthorized")
    assert isinstance(error, ImageUnavailable)
    assert error.passing is False


@pytest.mark.parametrize(
    ("said", "passing"),
    [
        (
            'Head "http://r.example:44293/v2/denied/x/manifests/v1": unauthorized: authentication required',
            False,
        ),
        ('Head "http://r.example:44293/v2/denied/x/manifests/v1": toomanyrequests: slow down', True),
        ("received unexpected HTTP status: 429 Too Many Requests", True),
        ("manifest for r.example:44293/denied/x:v1 not found: manifest unknown", False),
        ('Get "https://denied.example:44290/v2/": EOF', True),
    ],
)
def test_words_and_numbers_in_an_address_are_no_reason(said: str, passing: bool) -> None:
    error = explained(image_ref.parse("r.example:44293/denied/x:v1"), said)
    assert isinstance(error, ImageUnavailable)
    assert error.passing is passing
    assert ("slow down" in error.message) is ("Too Many" in said or "toomany" in said)
    assert "denies access" not in error.message or "unauthorized" in said
