"""How fast volumes move, against `rclone copy` and `aws s3 sync` between the same folder and the same store.

Bare: the rclone of this environment as it comes, a process each time; and the `aws` that is on the PATH or
that JOBYARD_BENCH_AWS names (`pip install awscli` in an environment of its own: nothing else needs it).
Ours: `pull` and `push` at the concurrency that is the service's default, the store opened anew each time.
Every push is into a container without objects, every pull into a folder without files; emptying them is not
measured. Nobody pays for writes that the other left behind; but a pull of ours waits until its files are safe
on the disk, and the others do not. Unchanged: the same again, where everything is there already.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from service.config import Settings
from service.supervisor.data import Source, Store, StoreAccess, prepare, remove_tree
from service.supervisor.data.volume.layout import manifest_path
from tests.bench.measure import ROUNDS, Measure, compare, quick, summed_up
from tests.data.server import rclone_binary, the_store
from tests.data.sync import pulled, pushed

_MIB = 1024 * 1024
_CONCURRENCY = Settings().data_concurrency
_Work = Callable[[], Awaitable[object]]
_Timed = Callable[[_Work], Awaitable[float]]


@dataclass(frozen=True)
class Shape:
    """So many files of so many bytes; `amount` of them in `unit`s, which the rates count.

    `target` is the least that it should be of rclone's rate; `small`: also compared with `aws s3 sync`, and
    unchanged.
    """

    name: str
    count: int
    size: int
    unit: str
    amount: int
    target: float
    small: bool


def _many(count: int) -> Shape:
    return Shape(f"{count:,} x 16 KiB", count, 16 * 1024, "files", count, 0.6, small=True)


def _large(mib: int) -> Shape:
    return Shape(f"1 x {mib:,} MiB", 1, mib * _MIB, "MiB", mib, 1.0, small=False)


async def bench() -> AsyncGenerator[Measure, None]:
    shapes = (_many(100), _large(64)) if quick() else (_many(2000), _large(1024))
    aws = os.environ.get("JOBYARD_BENCH_AWS") or shutil.which("aws")
    if aws is None:
        print("push and pull, against aws s3 sync: the AWS CLI is not installed", file=sys.stderr, flush=True)
    with the_store() as access, TemporaryDirectory(prefix="jobyard-bench-") as folder:
        for shape in shapes:
            work = Path(folder) / uuid4().hex
            async for measure in _Transfer(access, shape, work, aws).measures():
                yield measure
            shutil.rmtree(work)


class _Transfer:
    """One shape, pushed and pulled by both sides."""

    def __init__(self, access: StoreAccess, shape: Shape, work: Path, aws: str | None) -> None:
        self._access = access
        self._shape = shape
        self._aws_program = aws if shape.small else None
        self._home = work
        self._volume = work / "volume"
        self._back = work / "back"
        self._container = f"bench-{uuid4().hex[:12]}"

    async def measures(self) -> AsyncIterator[Measure]:
        """The push, then the pull of what was pushed last, then both again."""
        await prepare(self._volume)
        for number in range(self._shape.count):
            (self._volume / f"{number:05}").write_bytes(os.urandom(self._shape.size))
        for measure in await self._compared("push", self._into_empty_container, self._volume, self._push):
            yield measure
        for measure in await self._compared("pull", self._into_empty_folder, self._back, self._pull):
            yield measure
        if self._shape.small:
            remote, volume, back = f"s:{self._container}/", str(self._volume), str(self._back)
            for name, bare, ours in (
                ("push", lambda: self._rclone(volume, remote), self._push),
                ("pull", lambda: self._rclone(remote, back), self._pull),
            ):
                yield await compare(
                    f"{name} unchanged {self._shape.name}, against rclone copy",
                    self._shape.unit,
                    partial(self._rate, bare),
                    partial(self._rate, ours),
                    target=1.0,
                )

    async def _compared(self, name: str, emptied: _Timed, folder: Path, ours: _Work) -> list[Measure]:
        """All sides in turn, once unmeasured, then five times."""
        there, here = self._container + "/", str(folder)
        at_rclone, at_aws = (f"s:{there}", here), (f"s3://{there}", here)
        if name == "push":
            at_rclone, at_aws = at_rclone[::-1], at_aws[::-1]
        others: dict[str, tuple[_Work, float]] = {
            "rclone copy": (lambda: self._rclone(*at_rclone), self._shape.target)
        }
        if self._aws_program is not None:
            others["aws s3 sync"] = (lambda: self._aws(*at_aws), 2.0)
        rounds = []
        for _ in range(1 + ROUNDS):
            bare = {other: await emptied(work) for other, (work, _) in others.items()}
            rounds.append((bare, await emptied(ours)))
        return [
            summed_up(
                f"{name} {self._shape.name}, against {other}",
                self._shape.unit,
                [(bare[other], mine) for bare, mine in rounds[1:]],
                target=target,
            )
            for other, (_, target) in others.items()
        ]

    async def _into_empty_container(self, work: _Work) -> float:
        async with Store.open(self._access) as store:
            await store.ensure_container(self._container)
            for info in [info async for info in store.list(self._container)]:
                await store.delete_object(self._container, info.key)
        manifest_path(self._volume).unlink(missing_ok=True)  # or there would be nothing new to push
        return await self._rate(work)

    async def _into_empty_folder(self, work: _Work) -> float:
        await remove_tree(self._back)
        await prepare(self._back)
        return await self._rate(work)

    async def _rate(self, work: _Work) -> float:
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
        await _run([rclone_binary(), "copy", "-q", source, target], settings)

    async def _aws(self, source: str, target: str) -> None:
        settings = {
            "AWS_ACCESS_KEY_ID": self._access.access_key,
            "AWS_SECRET_ACCESS_KEY": self._access.secret_key,
            "AWS_DEFAULT_REGION": self._access.region,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
            "HOME": str(self._home),
        }
        program = [str(self._aws_program), "--endpoint-url", self._access.endpoint]
        await _run([*program, "s3", "sync", "--only-show-errors", source, target], settings)


async def _run(command: list[str], settings: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(*command, env=os.environ | settings)
    if await process.wait():
        raise RuntimeError(f"{Path(command[0]).name} ended with {process.returncode}")
