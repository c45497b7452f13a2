"""How fast volumes move, against `rclone copy` between the same folder and the same store.

Bare: the rclone of this environment as it comes, a process each time. Ours: `pull` and `push` at the
concurrency that is the service's default, the store opened anew each time. Every push is into a container
without objects, every pull into a folder without files; emptying them is not measured. Nobody pays for
writes that the other left behind; but a pull of ours waits until its files are safe on the disk, and rclone
does not.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from service.config import Settings
from service.supervisor.data import Source, Store, StoreAccess, prepare, remove_tree
from service.supervisor.data.layout import manifest_path
from tests.bench.measure import Measure, compare
from tests.data.server import rclone_binary, the_store
from tests.data.sync import pulled, pushed

_MIB = 1024 * 1024
_CONCURRENCY = Settings().data_concurrency


@dataclass(frozen=True)
class Shape:
    """So many files of so many bytes; `amount` of them in `unit`s, which the rates count."""

    name: str
    count: int
    size: int
    unit: str
    amount: int


SHAPES = (
    Shape("2,000 x 16 KiB", 2000, 16 * 1024, "files", 2000),
    Shape("1 x 256 MiB", 1, 256 * _MIB, "MiB", 256),
)


async def bench() -> list[Measure]:
    found = []
    with the_store() as access, TemporaryDirectory(prefix="jobyard-bench-") as folder:
        for shape in SHAPES:
            work = Path(folder) / uuid4().hex
            found += await _Transfer(access, shape, work).measures()
            shutil.rmtree(work)
    return found


class _Transfer:
    """One shape, pushed and pulled by both sides."""

    def __init__(self, access: StoreAccess, shape: Shape, work: Path) -> None:
        self._access = access
        self._shape = shape
        self._volume = work / "volume"
        self._back = work / "back"
        self._container = f"bench-{uuid4().hex[:12]}"

    async def measures(self) -> list[Measure]:
        """The push, then the pull of what was pushed last."""
        await prepare(self._volume)
        for number in range(self._shape.count):
            (self._volume / f"{number:05}").write_bytes(os.urandom(self._shape.size))
        remote, root = f"s:{self._container}/", str(self._volume)
        name, unit = self._shape.name, self._shape.unit
        there = await compare(
            f"push {name}, against rclone copy",
            unit,
            lambda: self._into_empty_container(lambda: self._rclone(root, remote)),
            lambda: self._into_empty_container(self._push),
        )
        back = await compare(
            f"pull {name}, against rclone copy",
            unit,
            lambda: self._into_empty_folder(lambda: self._rclone(remote, str(self._back))),
            lambda: self._into_empty_folder(self._pull),
        )
        return [there, back]

    async def _into_empty_container(self, work: Callable[[], Awaitable[object]]) -> float:
        async with Store.open(self._access) as store:
            await store.ensure_container(self._container)
            for info in [info async for info in store.list(self._container)]:
                await store.delete_object(self._container, info.key)
        manifest_path(self._volume).unlink(missing_ok=True)  # or there would be nothing new to push
        return await self._rate(work)

    async def _into_empty_folder(self, work: Callable[[], Awaitable[object]]) -> float:
        await remove_tree(self._back)
        await prepare(self._back)
        return await self._rate(work)

    async def _rate(self, work: Callable[[], Awaitable[object]]) -> float:
        await asyncio.to_thread(os.sync)
        began = time.perf_counter()
        await work()
        return self._shape.amount / (time.perf_counter() - began)

    async def _push(self) -> None:
        async with Store.open(self._access) as store:
            await pushed(store, Source(self._container), self._volume, concurrency=_CONCURRENCY)

    async def _pull(self) -> None:
        async with Store.open(self._access) as store:
            await pulled(store, Source(self._container), self._back, concurrency=_CONCURRENCY)

    async def _rclone(self, source: str, target: str) -> None:
        settings = {
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_S_TYPE": "s3",
            "RCLONE_CONFIG_S_PROVIDER": "Rclone",
            "RCLONE_CONFIG_S_ENDPOINT": self._access.endpoint,
            "RCLONE_CONFIG_S_ACCESS_KEY_ID": self._access.access_key,
            "RCLONE_CONFIG_S_SECRET_ACCESS_KEY": self._access.secret_key,
        }
        command = [rclone_binary(), "copy", "-q", source, target]
        process = await asyncio.create_subprocess_exec(*command, env=os.environ | settings)
        if await process.wait():
            raise RuntimeError(f"rclone copy ended with {process.returncode}")
