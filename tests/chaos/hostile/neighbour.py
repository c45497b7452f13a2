"""Somebody else's job, which must not notice: it counts on, echoes over HTTP, tells its longest silence."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import aiohttp

from service.domain import commands as cmd
from service.domain.states import State
from tests.chaos.hostile.image import NAME
from tests.supervisor.lab import DONE, Behaviour
from tests.supervisor.world import World, volume
from tests.support.waiting import until

OTHERS = "neighbours"
PORT = 8080
#: Bombs and it share a machine that may have two processors; how long it was silent it tells itself.
ANSWER_S = 60.0
#: A silence of so long is no slowness: whoever waits for it takes it for dead.
MOST_SILENT_S = 20.0

_PROGRAM = """
import http.server, json, os, threading, time
beats = gap = 0
def beat():
    global beats, gap
    last = time.monotonic()
    while True:
        time.sleep(0.05)
        now = time.monotonic()
        beats, gap, last = beats + 1, max(gap, now - last), now
        with open("/out/beat.new", "w") as file:
            file.write(str(beats))
        os.rename("/out/beat.new", "/out/beat")
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"beats": beats, "gap": gap, "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
threading.Thread(target=beat, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Echo).serve_forever()
"""


class Neighbour:
    """`address` is where its HTTP answers."""

    def __init__(self, world: World, job: UUID, address: str) -> None:
        self._world = world
        self.job = job
        self.address = address

    @property
    def beats(self) -> int:
        """As its file says, in its own volume."""
        file: Path = self._world.volume(self.job) / "beat"
        return int(file.read_text()) if file.exists() else 0

    async def lives(self) -> float:
        """Wait until it has counted on and echoes; its longest silence so far, in seconds.

        Raises AssertionError when it was silent for as long as what is dead.
        """
        before = self.beats
        await until(lambda: self.beats > before + 2, ANSWER_S, what="the neighbour counts on")
        async with (
            asyncio.timeout(ANSWER_S),
            aiohttp.ClientSession() as http,
            http.get(f"http://{self.address}/echo") as answer,
        ):
            said = json.loads(await answer.read())
        assert said["path"] == "/echo"
        assert (await self._world.ledger.job(self.job)).state is State.RUNNING
        gap_s = float(said["gap"])
        assert gap_s < MOST_SILENT_S, f"the neighbour was silent for {gap_s:.1f} s"
        return gap_s


@asynccontextmanager
async def living(world: World) -> AsyncIterator[Neighbour]:
    """A job of another project that runs; at the end it still does."""
    await world.order(cmd.CreateProject(project=OTHERS, name="Neighbours", cpu=8, gpu=0))
    runs = Behaviour(("python3", "-c", _PROGRAM), DONE.script)
    job = await world.submit(runs, project=OTHERS, image=NAME, cpu=2, volumes=[volume("/out", "RW")])
    started = await world.reach(job, State.RUNNING)
    assert started.ip is not None
    neighbour = Neighbour(world, job, f"{started.ip}:{PORT}")
    await until(lambda: neighbour.beats > 0, ANSWER_S)
    yield neighbour
    await neighbour.lives()


class Memory:
    """What this process, which is the supervisor's, took of the memory since this was made: at its peak."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is from here on
        self._before = _status("VmRSS")

    def peak_bytes(self) -> int:
        return _status("VmHWM") - self._before


def _status(name: str) -> int:
    (kib,) = re.findall(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kib) * 1024
