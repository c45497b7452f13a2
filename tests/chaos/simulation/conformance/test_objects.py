"""The object store of the simulation against a real one, in what pulls and pushes of small files use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest

from service.errors import StoreMissing
from service.supervisor.data import Store, StoreAccess
from service.supervisor.data.s3.bodies import hashed
from service.supervisor.data.s3.reading import Changed
from tests.chaos.simulation.conformance.grounds import Prompt
from tests.chaos.simulation.stores import PROCESS, Objects, SimStore
from tests.data.server import the_store


@pytest.fixture(scope="session")
def access() -> Iterator[StoreAccess]:
    with the_store() as found:
        yield found


@asynccontextmanager
async def opened(which: str, access: StoreAccess) -> AsyncIterator[Any]:
    if which == "rclone":
        async with Store.open(access) as store:
            yield store
        return
    PROCESS.set(Prompt("fake", Random(1), lambda _: None))
    async with Objects(lambda: datetime.now(UTC), Random(1)).open(access) as store:
        yield store


async def a_story(store: Any) -> list[Any]:
    """What is answered, call by call; times are left out."""
    told: list[Any] = []
    bucket = f"bucket-{uuid4().hex[:12]}"

    async def tell(work: Any) -> None:
        try:
            told.append(await work)
        except (StoreMissing, Changed) as error:
            told.append(type(error))

    async def put(key: str, data: bytes) -> None:
        await tell(store.put(bucket, key, hashed(data, signed=store.signs_bodies)))

    async def look(prefix: str = "") -> list[tuple[str, int, str]]:
        found = [each async for each in store.list(bucket, prefix)]
        return [(each.key, each.size, each.etag) for each in found]

    async def content(key: str, **how: Any) -> bytes:
        return b"".join(await store.get(bucket, await store.head(bucket, key), **how))

    await tell(look())
    await put("early", b"before there is a container")
    for _ in range(2):
        await tell(store.ensure_container(bucket))
    await tell(look())
    for key, data in (("b", b"two"), ("a/x", b"one"), ("a/y", b""), ("a.z", b"dot"), ("B", b"large")):
        await put(key, data)
    for prefix in ("", "a", "a/", "nothing"):
        await tell(look(prefix))
    await tell(content("b"))
    await tell(content("b", offset=1))
    await tell(content("b", offset=1, length=1))
    before = await store.head(bucket, "b")
    await put("b", b"2.0")
    await tell(store.get(bucket, before))
    await tell(content("b"))
    await tell(store.head(bucket, "none"))
    await tell(store.get(bucket, replace(before, key="none")))
    for _ in range(2):
        await tell(store.delete_object(bucket, "b"))
    await tell(store.get(bucket, before))
    await tell(look())
    return told


async def test_the_same_calls_have_the_same_answers(access: StoreAccess) -> None:
    async with opened("rclone", access) as real, opened("memory", access) as fake:
        assert await a_story(fake) == await a_story(real)


@contextmanager
def whatever_is_there_is_read() -> Iterator[None]:
    """An object that is not the expected one is read all the same."""
    get = SimStore.get

    async def blind(self: SimStore, container: str, expected: Any, **how: Any) -> Any:
        return await get(self, container, await self.head(container, expected.key), **how)

    with patch.object(SimStore, "get", blind):
        yield


@contextmanager
def containers_are_made_when_needed() -> Iterator[None]:
    """A container comes to be with its first object."""
    put = SimStore.put

    async def making(self: SimStore, container: str, key: str, body: Any) -> str:
        await self.ensure_container(container)
        return await put(self, container, key, body)

    with patch.object(SimStore, "put", making):
        yield


@pytest.mark.parametrize(
    "plant",
    [whatever_is_there_is_read, containers_are_made_when_needed],
    ids=lambda plant: plant.__name__,
)
async def test_a_planted_difference_is_found(
    access: StoreAccess, plant: Callable[[], AbstractContextManager[None]]
) -> None:
    async with opened("rclone", access) as real, opened("memory", access) as fake:
        with plant():
            assert await a_story(fake) != await a_story(real)
