"""Following one job to its end: its states as they happen, its data as it moves, its log while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, BinaryIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from service.cli.client import Client, segment
from service.cli.output import cell, moment, reader_left, size
from service.domain.states import ENDED, MEANING, State
from service.errors import Unavailable

POLL_S = 0.4
PATIENCE_S = 60.0
"""How long an outage of the service may last before we give up looking; the job does not notice it."""

LOG_END_S = 15.0
"""The end of the log comes with the end of the process; when none of it came for so long, the state is told
without it."""

_PASSED = MEANING | {State.INTERRUPTING: "The job is being stopped."}
"""What states mean that are over: it is not known any more who asked for the stop, or what did."""

_ENDED_SYNCS = frozenset({"DONE", "FAILED"})


def goes_on(job_id: str) -> str:
    """What to say to someone who stops looking."""
    return f"the job goes on; follow it again with: jobyard job logs --follow {job_id}"


class Screen:
    """Where a followed job is shown: `notes` for its states and data, `log` for its own output (stdout)."""

    def __init__(self, notes: Console, log: BinaryIO | None = None) -> None:
        self.notes = notes
        self._log = log or sys.stdout.buffer
        self._progress: Progress | None = None
        self._bars: dict[str, TaskID] = {}

    def state(self, visit: Any, info: str = "") -> None:
        """The job entered a state."""
        at = moment(visit["date"])
        time = at.astimezone().strftime("%H:%M:%S.%f")[:-3] if at else ""
        self.notes.print(Text.assemble((time, "dim"), "  ", cell(visit["state"]), ("  ", ""), cell(info)))

    def log(self, chunk: bytes) -> None:
        self._log.write(chunk)
        self._log.flush()

    def require_log_reader(self) -> None:
        """Raises `BrokenPipeError` if nobody can read the log any more."""
        with contextlib.suppress(io.UnsupportedOperation):  # it is no file of the system
            if reader_left(self._log):
                raise BrokenPipeError

    def note(self, text: str) -> None:
        self.notes.print(Text(text, "dim"))

    def moving(self, syncs: list[Any]) -> None:
        """How far the job's data is, while it moves: bars, on a terminal."""
        moving = [each for each in syncs if each["status"]["state"] not in _ENDED_SYNCS]
        volumes = [each for sync in moving for each in sync["status"]["progress"] if each["total"]]
        if volumes and self.notes.is_terminal:
            self._draw(volumes)
        if not moving:
            self.close()

    def moved(self, sync: Any) -> None:
        """What has moved: a line for each volume that held anything."""
        for progress in sync["status"]["progress"]:
            if progress["total"] or progress["failed"] or progress["deleted"]:
                self.notes.print(Text(f"              {moved(progress)}", "dim"))

    def close(self) -> None:
        """Takes the bars away."""
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._bars = None, {}

    def _draw(self, volumes: list[Any]) -> None:
        if self._progress is None:
            columns = (TextColumn("              {task.description}"), BarColumn())
            self._progress = Progress(*columns, console=self.notes, transient=True)
            self._progress.start()
        for volume in volumes:
            # Objects count, as the sizes of those to come are not told.
            done, total = volume["processed"], volume["total"]
            if volume["id"] not in self._bars:
                self._bars[volume["id"]] = self._progress.add_task(moved(volume), total=total)
            self._progress.update(
                self._bars[volume["id"]], total=total, completed=done, description=moved(volume)
            )


def moved(progress: Any) -> str:
    """One volume's way in words: `pulled 2 of 2 objects, 57.5 kB`."""
    word = "pulled" if str(progress["direction"]).lower() == "pull" else "pushed"
    done, total = progress.get("processed", 0), progress.get("total", 0)
    text = f"{word} {done} of {total} object{'' if total == 1 else 's'}"
    text += f", {size(progress.get('transferredBytes', 0))}"
    for what in ("skipped", "failed", "deleted"):
        if progress.get(what):
            text += f", {progress[what]} {what}"
    return text


async def follow(
    client: Client, job_id: str, screen: Screen, *, with_log: bool = True, seen: Any = None
) -> Any:
    """Shows the job until it has ended; the job as it ended. `seen`: the last visit that need not be told."""
    follower = _Follower(client, job_id, screen, with_log=with_log, seen=seen)
    try:
        return await follower.to_the_end()
    finally:
        await follower.close()


async def follow_log(
    client: Client, path: str, out: BinaryIO, note: Callable[[str], None], params: dict[str, Any]
) -> None:
    """Writes one run's log to its end; `path` is the job's, `params` those of its log.

    After a lost connection, or a service that closed, it goes on from where it was: what it begins with stays
    the same, so what was shown is skipped by its length, to the byte. Not so with `tail`, whose beginning
    moves. Raises `Unavailable` when the service stays away for longer than `PATIENCE_S`.
    """
    loop = asyncio.get_running_loop()
    run = params["run"] or (await client.get(path))["status"]["run"]  # a later one has another log
    shown, opened, told, deadline = 0, False, False, loop.time() + PATIENCE_S
    while True:
        skip, connected = shown, False
        try:
            async with client.stream(f"{path}/log", **params | {"follow": "true", "run": run}) as chunks:
                connected = opened = True
                async for chunk in chunks:
                    fresh, skip = chunk[skip:], max(0, skip - len(chunk))
                    out.write(fresh)
                    out.flush()
                    shown += len(fresh)
            # A token that was revoked, or renewed, has its log cut off, too.
            await client.get("/me")
            return
        except Unavailable as error:
            if params["tail"] is not None or not opened:
                raise
            if connected:
                told, deadline = False, loop.time() + PATIENCE_S
            elif loop.time() > deadline:
                raise
            elif not told:
                note(f"{error.message}; going on where it was")
                told = True
            await asyncio.sleep(POLL_S)


def _after(seen: Any, history: list[Any]) -> list[Any]:
    """The visits after the one that was seen last. It is found by what it says: a job shows its newest visits
    only, so that neither their number nor where one stands tells which is which."""
    at = next((at for at in reversed(range(len(history))) if history[at] == seen), -1)
    return history[at + 1 :]


class _Follower:
    def __init__(self, client: Client, job_id: str, screen: Screen, *, with_log: bool, seen: Any) -> None:
        self.client = client
        self.job_id = job_id
        self.path = f"/job/{segment(job_id)}"
        self.screen = screen
        self.with_log = with_log
        self.seen = seen
        self.reader: asyncio.Task[None] | None = None
        #: When the log last brought anything, and of which run it is.
        self.came_at = 0.0
        self.log_run = 0
        self.run = 0
        self.running = False
        self.moved: set[str] = set()

    async def to_the_end(self) -> Any:
        while True:
            job = await self._job()
            status = job["status"]
            news = _after(self.seen, status["history"])
            if self.seen is not None and not self.run:
                self._moved(status, until=(news or [self.seen])[0], silently=True)
            self.run = status["run"] - sum(visit["state"] == "QUEUED" for visit in news)
            self.seen = status["history"][-1]
            for visit in news:
                await self._tell(visit, status, last=visit is news[-1])
            self._moved(status)
            self.screen.moving(status["dataSync"])
            if status["state"] in ENDED:
                await self._log_ends()
                return job
            if self.with_log:
                self.screen.require_log_reader()  # nothing may be written for long, which would find it out
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        self.screen.close()
        if self.reader is not None:
            self.reader.cancel()
            await asyncio.gather(self.reader, return_exceptions=True)

    async def _tell(self, visit: Any, status: Any, *, last: bool) -> None:
        state = State(visit["state"])
        self.run += state is State.QUEUED
        self.running = state is State.RUNNING
        if state is State.FINALIZING:
            await self._log_ends()
        self._moved(status, until=visit)
        # In FINALIZING the info tells of the outcome already, which is told when it has come.
        now = last and state is not State.FINALIZING
        message = status.get("info", {}).get("message", "") if now else ""
        self.screen.state(visit, message or (MEANING if last else _PASSED)[state])
        if state is State.RUNNING and self.with_log:
            self.log_run = self.run
            self.reader = asyncio.create_task(self._log(self.run))

    def _moved(self, status: Any, *, until: Any = None, silently: bool = False) -> None:
        """Tells what has moved, once; with `until` only what had when the job came there.

        All that ever moved is there at every look, and a look may find several states that passed, of several
        runs: so it is the time at which each ended that says between which of them it stands.
        """
        for sync in status["dataSync"]:
            ended = moment(sync["status"]["endedAt"])
            if ended is None or sync["id"] in self.moved:
                continue
            if until is None or ended <= datetime.fromisoformat(until["date"]):
                self.moved.add(sync["id"])
                if not silently:
                    self.screen.moved(sync)

    async def _log(self, run: int) -> None:
        """The log of a run to its end; after a lost connection, or a service that closed, from where it was.

        It only grows, so what was shown is skipped by its length, to the byte.
        """
        shown, in_vain, loop = 0, False, asyncio.get_running_loop()
        while True:
            skip = before = shown
            try:
                async with self.client.stream(f"{self.path}/log", follow="true", run=run) as chunks:
                    async for chunk in chunks:
                        fresh, skip = chunk[skip:], max(0, skip - len(chunk))
                        if fresh or not in_vain:  # one that always breaks off at the same place ends, too
                            self.came_at = loop.time()
                        if fresh:
                            self.screen.log(fresh)
                            shown += len(fresh)
                if not self.running:
                    return
            except Unavailable:
                pass  # the outage is told by who asks for the job's state
            in_vain = shown == before
            await asyncio.sleep(POLL_S)

    async def _log_ends(self) -> None:
        """Returns when the log was shown to its end, or nothing of it has come for `LOG_END_S`."""
        reader, loop = self.reader, asyncio.get_running_loop()
        if reader is None:
            return
        self.came_at = loop.time()
        while not reader.done():
            left_s = self.came_at + LOG_END_S - loop.time()
            if left_s <= 0:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)
                self.screen.note(
                    "the end of the log was not shown; all of it: "
                    f"jobyard job logs --run {self.log_run} {self.job_id}"
                )
                break
            await asyncio.wait({reader}, timeout=left_s)
        else:
            await reader  # raises what ended it
        self.reader = None

    async def _job(self) -> Any:
        """The job now; waits through a short outage of the service."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        told = False
        while True:
            try:
                return await self.client.get(self.path)
            except Unavailable as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                if not told:
                    self.screen.note(f"{error.message}; the job goes on, trying again")
                told = True
                await asyncio.sleep(POLL_S)
