"""How fast volumes move, against `rclone copy`, on the same store in the same run.

    python -m tests.bench.data [concurrency …]

The store is JOBYARD_TEST_S3 or a server of our own. A ratio above 1 means faster than rclone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import uvloop

from service.supervisor.data import DEFAULT_LIMITS, Source, Store, StoreAccess, prepare, pull, push
from tests.data.server import rclone_binary, the_store

SHAPES = {"2000 x 16 KiB": (2000, 16 * 1024), "1 x 256 MiB": (1, 256 * 1024 * 1024)}


def _fill(folder: Path, count: int, size: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05}").write_bytes(os.urandom(size))


def _rclone(access: StoreAccess, source: str, target: str) -> float:
    settings = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_S_TYPE": "s3",
        "RCLONE_CONFIG_S_PROVIDER": "Rclone",
        "RCLONE_CONFIG_S_ENDPOINT": access.endpoint,
        "RCLONE_CONFIG_S_ACCESS_KEY_ID": access.access_key,
        "RCLONE_CONFIG_S_SECRET_ACCESS_KEY": access.secret_key,
    }
    begun = time.perf_counter()
    subprocess.run([rclone_binary(), "copy", "-q", source, target], env=os.environ | settings, check=True)
    return time.perf_counter() - begun


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun


async def _ours(access: StoreAccess, work: Path, files: Path, concurrency: int) -> tuple[float, float]:
    """Seconds of a push and of a pull into an empty directory."""
    source = Source(f"bench-{uuid4().hex[:12]}")
    there, back = work / uuid4().hex, work / uuid4().hex
    await prepare(there)
    shutil.copytree(files, there, dirs_exist_ok=True)
    await prepare(back)

    async def pushed() -> None:
        async with Store.open(access) as store:
            await push(
                store,
                source,
                there,
                permission="RW",
                limits=DEFAULT_LIMITS,
                on_progress=lambda _: None,
                concurrency=concurrency,
            )

    async def pulled() -> None:
        async with Store.open(access) as store:
            await pull(
                store,
                source,
                back,
                limits=DEFAULT_LIMITS,
                on_progress=lambda _: None,
                concurrency=concurrency,
            )

    return await _timed(pushed), await _timed(pulled)


async def _run(access: StoreAccess, levels: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, (count, size) in SHAPES.items():
            files = work / name.replace(" ", "")
            _fill(files, count, size)
            for level in levels:
                remote = f"s:bench-{uuid4().hex[:12]}/"
                theirs_push = await asyncio.to_thread(_rclone, access, str(files), remote)
                push_s, pull_s = await _ours(access, work, files, level)
                theirs_pull = await asyncio.to_thread(_rclone, access, remote, str(work / uuid4().hex))
                print(
                    f"{name}, concurrency {level}: push {push_s:.2f} s (rclone {theirs_push:.2f} s, "
                    f"ratio {theirs_push / push_s:.2f}), pull {pull_s:.2f} s (rclone {theirs_pull:.2f} s, "
                    f"ratio {theirs_pull / pull_s:.2f})",
                    flush=True,
                )


def main() -> None:
    levels = [int(level) for level in sys.argv[1:]] or [16]
    with the_store() as access:
        uvloop.run(_run(access, levels))


if __name__ == "__main__":
    main()
