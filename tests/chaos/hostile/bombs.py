"""Jobs that take all there is: each ends at its own limit and says so."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from msgspec.structs import replace

from service.domain.flavors import Catalogue
from service.domain.job import Job
from service.domain.states import State
from service.supervisor.logs.kept import EARLY, LOST
from service.supervisor.logs.writer import LogLimits
from tests.chaos.hostile.place import Counts, Place
from tests.supervisor.world import MIB, World
from tests.support.waiting import until

STORAGE_BYTES = 48 * MIB
MEMORY_BYTES = 128 * MIB
PIDS = 64

FORKS = """
import os, sys
made = 0
while made < 100:
    try:
        if os.fork() == 0:
            signal = __import__("signal"); signal.pause()
    except OSError:
        break
    made += 1
print("made", made, flush=True)
"""
FORKS_FOR_EVER = """
import os
print("ready", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
SPINS = """
import threading
print("ready", flush=True)
def spin():
    while True:
        pass
for _ in range(8):
    threading.Thread(target=spin).start()
"""
#: Twice what it may have: without a limit it ends well, and the machine does not.
EATS_MEMORY = f"held = [b'x' * 2**20 for _ in range({2 * MEMORY_BYTES // MIB})]"
CHILD_EATS_MEMORY = f"""
import subprocess, sys
ended = subprocess.run([sys.executable, "-c", {EATS_MEMORY!r}]).returncode
print("child", ended, flush=True)
sys.exit(5)
"""
OPENS = """
import os
count = 0
try:
    while True:
        os.open("/dev/null", os.O_RDONLY)
        count += 1
except OSError as error:
    os.write(1, f"opened {count} {error.errno}\\n".encode())
"""
#: Three times what it may have, and then it waits to be found out.
FILLS = f"""
import os, time
with open("/tmp/full", "wb") as file:
    for _ in range({3 * STORAGE_BYTES // MIB}):
        file.write(bytes(2**20))
time.sleep(float(os.environ["PATIENCE_S"]))
"""
#: Binary with every byte, lines of 10 MB, escapes for terminals, then a word to be found at the end.
TALKS = """
import os, sys
def say(data):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view[:2**16]):]
say(bytes(range(256)) * 256)
say(b"\\x1b]0;owned\\x07\\x1b[2J\\x1b[?1049h\\x1bc" * 100 + b"\\n")
for _ in range(2):
    say(b"x" * 10_000_000 + b"\\n")
for _ in range({megabytes} - 20):
    say(os.urandom(2**19).hex().encode() + b"\\n")
say(b"the end of it\\n")
"""


def sized(catalogue: Catalogue, **sizes: int) -> Catalogue:
    """The same flavors with as much as this a unit."""
    flavors = (replace(flavor, **sizes) for flavor in catalogue.flavors)
    return replace(catalogue, flavors=tuple(flavors))


async def forks(place: Place) -> Counts:
    job = await place.submit(FORKS)
    ended = await place.world.end(job)
    assert ended.state is State.DONE, ended.info
    made = int((await place.world.log(job)).split()[1])
    assert 0 < made < PIDS, f"{made} processes"
    return {"processes": made, "allowed": PIDS}


async def descriptors(place: Place) -> Counts:
    job = await place.submit(OPENS)
    ended = await place.world.end(job)
    _, count, code = (await place.world.log(job)).split()
    assert (ended.state, code) == (State.DONE, "24"), ended.info
    return {"opened": count}


async def memory(place: Place) -> Counts:
    """Its first process, and a child of it."""
    world = place.world
    child, main = [await place.submit(text) for text in (CHILD_EATS_MEMORY, EATS_MEMORY)]
    for job, code in ((main, 137), (child, 5)):
        ended = await world.end(job)
        assert (ended.state, ended.exit_code) == (State.FAILED, code), f"memory: {ended.state}"
        # The engine misses some of the kills for memory, and then that is told.
        assert ended.info.code in ("out-of-memory", "exit-code"), ended.info
    assert "child -9" in await world.log(child)
    return {"jobs": 2, "ended at the limit": 2}


async def storage(place: Place) -> Counts:
    job = await place.submit(FILLS, variables={"PATIENCE_S": place.patience_s})
    ended = await place.world.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "ephemeral-storage"), f"storage: {ended.state}"
    return {"written MiB": 3 * STORAGE_BYTES // MIB, "allowed MiB": STORAGE_BYTES // MIB}


async def restless(place: Place) -> Counts:
    """Forks and spins without an end: an order ends it as any other job."""
    jobs = [await place.submit(text) for text in (FORKS_FOR_EVER, SPINS)]
    for job in jobs:
        ended = await stopped(place.world, job)
        assert ended.state is State.INTERRUPTED, ended.info
    return {"jobs": len(jobs), "ended by an order": len(jobs)}


async def stopped(world: World, job: UUID) -> Job:
    """It does what it does until it is killed."""
    await world.reach(job, State.RUNNING)
    await world.printed(job)
    await world.kill(job)
    return await world.end(job)


#: What the supervisor keeps of a log in the short form: its bomb is smaller too.
SMALL_LOGS = LogLimits(cap_bytes=8 * MIB)


async def log(place: Place) -> Counts:
    """Much more than is kept: both ends are there, and no more than may be."""
    megabytes = place.times(short=24, long=1024)
    job = await place.submit(TALKS.replace("{megabytes}", str(megabytes)), cpu=2)
    ended = await place.world.end(job)
    assert (ended.state, ended.exit_code) == (State.DONE, 0), ended.info
    await until(lambda: b"the end of it" in _tail(segments(place, job)), what="the end of the log is kept")
    found = segments(place, job)
    # More than the engine holds can be gone before the first look, and then that is told.
    beginning = found[0].read_bytes()
    assert bytes(range(11, 256)) in beginning or (place.long and told(found)), "the beginning is not kept"
    kept, cap = sum(file.stat().st_size for file in found), place.logs.cap_bytes
    assert cap // 2 < kept <= cap * 5 // 4, f"log: {kept} bytes kept of {cap}"
    return {"MB printed": megabytes, "MB kept": kept // 10**6}


def segments(place: Place, job: UUID) -> list[Path]:
    """What is kept of a job's log, its beginning first."""
    folder = place.world.settings.logs_dir
    return sorted(file for file in folder.rglob("*") if file.is_file() and str(job) in str(file))


def told(files: list[Path]) -> bool:
    """Whether a note says that something is missing."""
    return any(note in file.read_bytes() for file in files for note in (EARLY, LOST))


def _tail(files: list[Path]) -> bytes:
    return b"".join(file.read_bytes()[-4096:] for file in files)
