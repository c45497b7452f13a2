"""Killed at any moment, repeated, complete: with a real process and os._exit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from service.supervisor.data import Source, Store, StoreAccess
from service.supervisor.data.volume.layout import partial_path
from tests.data.sync import files, fill, held, pulled, pushed, write
from tests.data.watched import Watched

CHILD = """
import asyncio, json, os, sys
from pathlib import Path
from service.supervisor.data import Source, Store, StoreAccess
from tests.data.sync import pulled, pushed

verb, access, container, root, after = json.loads(sys.argv[1])
calls, begun, whole = 0, [], []

class Dying(Store):
    async def get(self, *args, **kwargs):
        die()
        return await super().get(*args, **kwargs)
    async def stretch(self, *args, take, **kwargs):
        async def dying(*piece):
            die()
            await take(*piece)
        return await super().stretch(*args, take=dying, **kwargs)
    async def _put(self, container, key, body, query):
        die()
        begun.append(key)
        etag = await super()._put(container, key, body, query)
        if not query:
            whole.append(key)
        return etag
    async def delete_object(self, *args):
        await super().delete_object(*args)
        os._exit(9)

def die():
    global calls
    calls += 1
    if calls > after:
        print(json.dumps([begun, whole]), flush=True)
        os._exit(9)

async def main():
    async with Dying.open(StoreAccess(**access)) as store:
        if verb == "pull":
            await pulled(store, Source(container), Path(root))
        else:
            await pushed(store, Source(container), Path(root), "RWD", concurrency=2)

asyncio.run(main())
"""


def killed(verb: str, access: StoreAccess, source: Source, root: Path, after: int) -> bytes:
    """Run a pull or push in a process of its own that dies after so many transfers. What it said."""
    told = json.dumps([verb, asdict(access), source.container, str(root), after])
    ended = subprocess.run([sys.executable, "-c", CHILD, told], timeout=60, check=False, capture_output=True)
    assert ended.returncode == 9, ended.stderr.decode()[-2000:]
    return ended.stdout


SMALL = {f"d{n % 3}/{n}": str(n).encode() * 100 for n in range(40)}
LARGE = os.urandom(20 * 1024 * 1024)


@pytest.mark.parametrize("after", [0, 25, 41])
async def test_a_killed_pull_is_completed_by_the_next(
    access: StoreAccess, store: Store, source: Source, volume: Path, after: int
) -> None:
    await fill(store, source, SMALL)
    write(volume, {"large": LARGE})
    await pushed(store, source, volume)
    (volume / "large").unlink()
    killed("pull", access, source, volume, after)
    there = files(volume)
    assert there.items() <= (SMALL | {"large": LARGE}).items(), "a file with its final name is whole"
    done = await pulled(store, source, volume)
    assert files(volume) == SMALL | {"large": LARGE}
    assert (done.skipped, done.completed) == (len(there), 41 - len(there))
    assert not partial_path(volume).exists()


@pytest.mark.parametrize("after", [0, 25, 42])
async def test_a_killed_push_is_completed_by_the_next(
    access: StoreAccess, watched: Watched, source: Source, volume: Path, after: int
) -> None:
    """The store may yet finish what was on its way when the process died: begun, not known to be whole."""
    contents = SMALL | {"large": LARGE}
    write(volume, contents)
    begun, whole = json.loads(killed("push", access, source, volume, after))
    assert len(begun) == after
    there = await held(watched, source)
    assert there.items() <= contents.items(), "an object is whole or not there"
    assert set(whole) <= there.keys() <= set(begun)
    done = await pushed(watched, source, volume)
    assert await held(watched, source) == contents
    assert set(watched.sent).isdisjoint(whole), "what had arrived is not sent again"
    assert (done.completed, done.skipped) == (len(set(watched.sent)), 41 - len(set(watched.sent)))


async def test_a_push_killed_while_deleting_is_completed_by_the_next(
    access: StoreAccess, store: Store, source: Source, volume: Path
) -> None:
    await fill(store, source, {"a": b"1", "b": b"2", "c": b"3", "keep": b"4"})
    await pulled(store, source, volume)
    for name in "abc":
        (volume / name).unlink()
    killed("push", access, source, volume, 99)
    assert 1 <= len(await held(store, source)) < 4
    await pushed(store, source, volume, "RWD")
    assert await held(store, source) == {"keep": b"4"}
