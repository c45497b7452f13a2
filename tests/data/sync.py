"""Short words for the tests: pull, push, and what is where."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from service.supervisor.data import DEFAULT_LIMITS, Limits, Permission, Progress, Source, Store, pull, push
from service.supervisor.data.s3 import bodies


async def pulled(
    store: Store, source: Source, root: Path, limits: Limits = DEFAULT_LIMITS, *, concurrency: int = 8
) -> Progress:
    return await pull(store, source, root, limits=limits, on_progress=lambda _: None, concurrency=concurrency)


async def pushed(
    store: Store,
    source: Source,
    root: Path,
    permission: Permission = "RW",
    *,
    limits: Limits = DEFAULT_LIMITS,
    concurrency: int = 8,
) -> Progress:
    return await push(
        store,
        source,
        root,
        permission=permission,
        limits=limits,
        on_progress=lambda _: None,
        concurrency=concurrency,
    )


async def fill(store: Store, source: Source, objects: dict[str, bytes]) -> None:
    for key, data in objects.items():
        await store.put(source.container, key, bodies.hashed(data, signed=True))


async def held(store: Store, source: Source) -> dict[str, bytes]:
    """Everything in the container."""
    found = {}
    async for info in store.list(dataclasses.replace(source, prefix="").container):
        async with store.download(source.container, info.key) as download:
            found[info.key] = b"".join([chunk async for chunk in download.stream])
    return found


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def write(root: Path, contents: dict[str, bytes]) -> None:
    for path, data in contents.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
