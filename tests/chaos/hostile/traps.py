"""What a job leaves in its volume, and swaps while it is pushed: nothing of the host comes to the store."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from service.domain import commands as cmd
from service.domain.events import DataSyncMoved
from service.domain.job import Job
from service.domain.states import State
from service.errors import StoreMissing
from tests.chaos.hostile.place import Counts, Place
from tests.supervisor.bucket import Bucket
from tests.supervisor.world import PROJECT, World, volume
from tests.support.waiting import until

SECRET = b"root:the host's secret"
FILES = 40

#: Leaves what it can, says so, and swaps a folder for a link to the host's for as long as it runs.
SWAPS = """
import os, socket, threading, time
os.chdir("/out")
host = os.environ["HOST"]
os.mkdir("d")
for number in range(int(os.environ["FILES"])):
    open(f"d/passwd{number}", "w").write("mine")
open("good", "w").write("good")
for name, target in (
    ("passwd", "/etc/passwd"), ("secret", host + "/passwd0"), ("folder", host), ("up", ".."),
    ("socket", "/var/run/docker.sock"), ("self", "self"), ("root", "/proc/self/root/etc/passwd"),
):
    os.symlink(target, name)
open("linked", "w").write("linked")
os.link("linked", "twin")
os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("listens")
refused = []
for mode in (0o020666, 0o060666):
    try:
        os.mknod("device", mode, os.makedev(1, 3))
    except PermissionError:
        refused.append(mode)
for name in (
    b"n" * 255, b"bad\\xff", b"new\\nline", b"...", b" ", b"-rf", b"\\xe2\\x80\\xae.txt", b"%2e%2e%2fx",
):
    os.close(os.open(name, os.O_CREAT))
print("devices refused", len(refused), flush=True)
def grows():
    with open("/out/grows", "wb") as file:
        for _ in range(4000):
            file.write(bytes(4096))
            file.flush()
threading.Thread(target=grows, daemon=True).start()
print("ready", flush=True)
while True:
    for number in range(int(os.environ["FILES"])):
        os.utime(f"d/passwd{number}")  # or it would be known, and not be read again
    time.sleep(0.005)
    os.rename("d", "real")
    os.symlink(host, "d")
    time.sleep(0.005)
    os.unlink("d")
    os.rename("real", "d")
"""

SPARSE = """
with open("/out/huge", "wb") as file:
    file.truncate(2**40)
"""
DEEP = """
import os
os.chdir("/out")
for _ in range(300):
    os.mkdir("deep")
    os.chdir("deep")
"""
MANY = """
import os
for number in range(int(os.environ["FILES"])):
    os.close(os.open(f"/out/{number}", os.O_CREAT))
"""


def furnish(host: Path) -> None:
    """A folder of the host, with names that the job has too."""
    for number in range(FILES):
        (host / f"passwd{number}").write_bytes(SECRET)


async def submitted(place: Place, text: str, bucket: Bucket, **variables: object) -> UUID:
    volumes = [volume("/out", "RWD", bucket.name, "out/")]
    return await place.submit(text, variables=variables, volumes=volumes)


async def pushed(world: World, job: UUID) -> DataSyncMoved:
    """Order a push while the job runs, and wait until it is over."""
    wanted = str(uuid4())
    await world.order(cmd.SyncData(project=PROJECT, job=job, sync_id=wanted, direction="push"))
    ended: list[DataSyncMoved] = []

    def over(_job: Job, event: Any) -> bool:
        body = event.body
        if isinstance(body, DataSyncMoved) and body.sync_id == wanted and body.state in ("DONE", "FAILED"):
            ended.append(body)
        return bool(ended)

    await world.when(job, over, f"sync {wanted} over")
    return ended[0]


async def leaked(bucket: Bucket) -> set[str]:
    """The objects that hold what is the host's."""
    passwd = Path("/etc/passwd").read_bytes()
    held = await holds(bucket)
    return {key for key, data in held.items() if SECRET in data or data == passwd}


async def holds(bucket: Bucket) -> dict[str, bytes]:
    """All that is there. The store lists for a second what was deleted."""
    found: list[dict[str, bytes]] = []

    async def whole() -> bool:
        with suppress(StoreMissing):
            found.append(await bucket.holds())
        return bool(found)

    await until(whole, what="what is listed is there")
    return found[0]


async def swapped(place: Place) -> Counts:
    """A volume full of traps, in which a folder is swapped for a link while it is pushed."""
    world, bucket, pushes = place.world, await place.bucket(), place.times(short=3, long=60)
    job = await submitted(place, SWAPS, bucket, HOST=place.host, FILES=FILES)
    await world.reach(job, State.RUNNING)
    await world.printed(job)
    for _ in range(place.tries or pushes):
        await pushed(world, job)
        found = await leaked(bucket)
        assert not found, f"leaked: {sorted(found)}"
    await world.kill(job)
    ended = await world.end(job)
    assert "devices refused 2" in await world.log(job)
    held = await holds(bucket)
    assert not await leaked(bucket)
    assert held["out/good"] == b"good"
    assert not {"out/passwd", "out/secret", "out/twin", "out/pipe", "out/listens"} & set(held)
    assert ended.state is State.INTERRUPTED
    assert "symbolic link, not pushed" in ended.info.message
    return {"pushes": pushes + 1, "leaked": 0}


async def sparse(place: Place) -> Counts:
    return await refused(place, SPARSE, "bytes")


async def deep(place: Place) -> Counts:
    return await refused(place, DEEP, "deep")


async def many(place: Place) -> Counts:
    most = place.most_objects
    return {"files": 2 * most} | await refused(place, MANY, f"more than {most} files", FILES=2 * most)


async def refused(place: Place, text: str, why: str, **variables: object) -> Counts:
    """The push is refused before it begins; the job says why, and what it wrote is kept."""
    bucket = await place.bucket()
    ended = await place.world.end(await submitted(place, text, bucket, **variables))
    assert (ended.state, ended.exit_code) == (State.FAILED, 0), f"{why}: {ended.state}"
    assert ended.info.code == "data-push-refused", ended.info
    assert why in ended.info.message, ended.info
    assert ended.volumes_kept
    sent = await bucket.holds()
    assert sent == {}, f"{len(sent)} objects were pushed"
    return {"objects pushed": len(sent)}
