"""Data from strangers on its way into a job: keys, archives and repositories that reach outside."""

from __future__ import annotations

import asyncio
import gzip
import json
import tarfile
from pathlib import Path
from uuid import UUID

from service.domain import commands as cmd
from service.domain.asked import DataStoreAsked, UrlAsked, VolumeAsked
from service.domain.job import Job
from service.domain.states import State
from service.local import first_run
from service.supervisor.data import StoreAccess
from tests.chaos.hostile.place import MOST_OBJECTS, Counts, Place
from tests.data.canned import Canned, serving
from tests.data.test_unpack import tarred, zipped
from tests.supervisor.world import PROJECT
from tests.support.https import Site, git

#: Prints what is in its volume, and where links in it lead.
LISTS = """
import json, os
print(json.dumps(sorted(
    os.path.relpath(os.path.join(at, name), "/in") for at, _, names in os.walk("/in") for name in names
)))
"""
KEYS = (
    "../../etc/cron.d/x", "/etc/passwd", "a//b", "a/./b", "a/../../b", "a\tb", "x" * 300, "fine/x", "..",
    "a\x7fb", "d/" * 300 + "x",
)  # fmt: skip
_SYM, _HARD, _DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
#: More than a job may have; made of zeros, some hundred bytes of archive.
BOMB_BYTES = 64 * 1024**2
TOO_MANY = "many.tar"


def refused_archives() -> dict[str, bytes]:
    """Of these nothing comes: one bad name, or too much, refuses all of it."""
    return {
        "traversal.tar": tarred(("good", b"1"), ("../../evil", b"2")),
        "absolute.tar": tarred(("/tmp/evil", b"2")),
        "bomb.tar.gz": gzip.compress(tarred(("zeros", bytes(BOMB_BYTES)))),
        TOO_MANY: tarred(*((f"{number}", b"") for number in range(MOST_OBJECTS + 200))),
        "collision.tar": tarred(("a", b"1"), ("a/b", b"2")),
        "traversal.zip": zipped(("good", b"1"), ("../evil", b"2")),
        "bomb.zip": zipped(("zeros", bytes(BOMB_BYTES))),
        "cut.tar": tarred(("good", bytes(5000)))[:2000],
    }


def contained_archives() -> dict[str, bytes]:
    """Of these the plain files come, and nothing else."""
    out, through = ("out", (_SYM, "/etc")), ("d", (_SYM, "/tmp"))
    return {
        "links.tar": tarred(("good", b"1"), out, ("hard", (_HARD, "/etc/passwd")), ("dev", (_DEVICE, ""))),
        "written-through.tar": tarred(("good", b"1"), through, ("d/evil", b"2")),
        "twice.tar": tarred(("good", b"1"), ("good", b"2")),
    }


async def run_on(place: Place, asked: VolumeAsked) -> tuple[Job, UUID]:
    """How a job with this volume ends."""
    job = await place.submit(LISTS, volumes=[asked])
    return await place.world.end(job), job


async def listed(place: Place, job: UUID) -> list[str]:
    found: list[str] = json.loads((await place.world.log(job)).splitlines()[-1])
    return found


async def data_store(place: Place, alias: str, canned: StoreAccess) -> None:
    """One more data store of the project."""
    key = await place.world.ledger.keys.of(PROJECT)
    await place.world.order(
        cmd.SetDataStore(
            project=PROJECT,
            alias=alias,
            endpoint=canned.endpoint,
            region=canned.region,
            access_key=key.seal(canned.access_key),
            secret_key=key.seal(canned.secret_key),
        )
    )


async def object_keys(place: Place) -> Counts:
    """Each fails the job that would have had it, before a byte was read."""
    await asyncio.gather(*(_refused_key(place, f"bad-{number}", key) for number, key in enumerate(KEYS)))
    return {"keys": len(KEYS), "refused before a byte": len(KEYS)}


async def _refused_key(place: Place, alias: str, key: str) -> None:
    canned = Canned(["fine", key])
    async with serving(canned) as access:
        await data_store(place, alias, access)
        source = DataStoreAsked(alias=alias, container="box", prefix="")
        ended, job = await run_on(place, VolumeAsked(mount_path="/in", permission="RW", data_store=source))
        read = [line for line in canned.asked if line.startswith("GET /box/")]
        found = (ended.state, ended.info.code, read, ended.started_at)
        assert found == (State.FAILED, "data-pull-refused", [], None), f"key {key[:40]!r}: {found}"
        assert not (place.world.volume(job).parent / "evil").exists()


async def archives(place: Place) -> Counts:
    return await of_archives(place, refused_archives(), contained_archives())


async def too_many(place: Place) -> Counts:
    return await of_archives(place, {TOO_MANY: refused_archives()[TOO_MANY]}, {})


async def of_archives(place: Place, refused: dict[str, bytes], contained: dict[str, bytes]) -> Counts:
    bucket = await place.bucket()
    await bucket.put(refused | contained)

    async def one(key: str) -> None:
        source = DataStoreAsked(alias=first_run.ALIAS, container=bucket.name, archive=key)
        asked = VolumeAsked(mount_path="/in", permission="RO", data_store=source)
        ended, job = await run_on(place, asked)
        if key in contained:
            assert ended.state is State.DONE, (key, ended.info)
            assert set(await listed(place, job)) <= {"good", "d/evil"}
        else:
            found = (ended.state, ended.info.code, ended.started_at)
            assert found == (State.FAILED, "data-pull-refused", None), f"{key}: {found}"

    await asyncio.gather(*map(one, refused | contained))
    assert not Path("/tmp/evil").exists()
    return {"refused": len(refused), "contained": len(contained)}


def hostile_repository(site: Site, marker: Path) -> str:
    """Its links lead out, its attributes name a filter, its submodule a command, its hook makes `marker`."""
    files = {
        "good": b"1",
        ".gitattributes": b"* filter=evil diff=evil\n",
        ".gitmodules": f'[submodule "s"]\n\tpath = s\n\turl = ext::sh -c touch% {marker}\n'.encode(),
        ".gitconfig": f'[filter "evil"]\n\tsmudge = touch {marker}\n'.encode(),
    }
    bare = site.repository("evil.git", files, {"passwd": "/etc/passwd", "up": "../../.."})
    tree = git(bare, "rev-parse", "HEAD^{tree}")
    git(bare, "read-tree", tree)
    git(bare, "update-index", "--add", "--cacheinfo", f"160000,{git(bare, 'rev-parse', 'HEAD')},s")
    commit = git(bare, "commit-tree", git(bare, "write-tree"), "-m", "two")
    git(bare, "update-ref", "refs/heads/main", commit)
    for hook in ("post-checkout", "post-merge", "reference-transaction"):
        (bare / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {marker}\n")
    return site.url("/git/evil.git", "127.0.0.1")


async def repository(place: Place) -> Counts:
    """Links, filters, submodules and hooks: the plain files come, and no command of it runs."""
    marker = place.host / "marker"
    source = UrlAsked(url=hostile_repository(place.site, marker))
    ended, job = await run_on(place, VolumeAsked(mount_path="/in", permission="RO", public_git=source))
    assert ended.state is State.DONE, ended.info
    found = await listed(place, job)
    assert "good" in found
    assert not {"passwd", "up"} & set(found), f"repository: {found}"
    assert not marker.exists()
    return {"commands run": int(marker.exists())}
