"""How a followed job's states are told."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from rich.console import Console

from service.cli import watch
from service.cli.client import Client
from service.cli.where import Where
from service.domain.states import State


class _Known(Client):
    """Answers with one job, as it is at each look; the last look's is what stays."""

    def __init__(self, *looks: Any) -> None:
        super().__init__(Where("http://127.0.0.1:9", "x"))
        self.looks = list(looks)

    async def get(self, path: str, **params: object) -> Any:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]


def seen(*path: State, info: str) -> Any:
    """A job that went this way, and what is said of it now."""
    history = [{"state": str(state), "date": "2026-01-31T12:00:00Z"} for state in path]
    status = {
        "state": str(path[-1]),
        "run": path.count(State.QUEUED),
        "history": history,
        "dataSync": [],
        "info": {"message": info},
    }
    return {"status": status}


async def told(*looks: Any) -> list[str]:
    """The words for each state."""
    said = io.StringIO()
    async with _Known(*looks) as client:
        await watch.follow(client, "j", watch.Screen(Console(file=said, width=200)), with_log=False)
    lines = [line.split("  ", 1)[1] for line in said.getvalue().splitlines()]
    return [line.split(maxsplit=1)[1].strip() for line in lines]


async def test_a_stop_that_was_missed_is_not_said_to_have_been_ordered() -> None:
    path = (State.QUEUED, State.RUNNING, State.INTERRUPTING, State.FINALIZING, State.FAILED)
    assert await told(seen(*path, info="It wrote more than its storage.")) == [
        "The job is about to be processed.",
        "The job is running.",
        "The job is being stopped.",
        "The job's log is being kept and its data pushed.",
        "It wrote more than its storage.",
    ]


async def test_an_outcome_is_told_when_it_has_come() -> None:
    """While the data is being pushed the job's info is of its exit already."""
    path, info = (State.QUEUED, State.RUNNING, State.FINALIZING), "The job ended normally."
    assert await told(seen(*path, info=info), seen(*path, State.DONE, info=info)) == [
        "The job is about to be processed.",
        "The job is running.",
        "The job's log is being kept and its data pushed.",
        info,
    ]


RUN = (State.QUEUED, State.INITIALIZING, State.PENDING, State.RUNNING, State.FINALIZING, State.DONE)


def sync(direction: str, at_s: int, size: int, *, ended: bool = True) -> Any:
    """Data that had moved at this second; its size says which it was."""
    progress = {
        "id": f"{direction}-{at_s}", "direction": direction, "total": 1, "processed": 1,
        "transferredBytes": size, "failed": 0, "deleted": 0,
    }  # fmt: skip
    status = {
        "state": "DONE" if ended else "RUNNING",
        "endedAt": _at(at_s) if ended else None,
        "progress": [progress],
    }
    return {"id": f"{direction}-{at_s}", "status": status, "spec": {"direction": direction}}


def _at(second: int) -> str:
    """With a fraction only where there is one, as the API has it."""
    return f"2026-01-31T12:00:{second // 10:02}{'' if second % 10 == 0 else f'.{second % 10}'}Z"


def moving(upto: int, *syncs: Any, path: tuple[State, ...] = (*RUN, *RUN)) -> Any:
    """The first states of a job that came into one every second, and the data that had moved."""
    job = seen(*path[:upto], info="now")
    for at, visit in enumerate(job["status"]["history"]):
        visit["date"] = _at(10 * at)
    job["status"]["dataSync"] = list(syncs)
    return job


#: Of two runs: each pulls in INITIALIZING, pulls and pushes by hand in RUNNING, pushes in FINALIZING.
SYNCS = [
    *(sync("pull", 20, 1), sync("pull", 35, 2), sync("push", 36, 3), sync("push", 49, 4)),
    *(sync("pull", 75, 5), sync("push", 95, 6), sync("pull", 96, 7), sync("push", 109, 8)),
]
ORDER = [
    *("QUEUED", "INITIALIZING", "1", "PENDING", "RUNNING", "2", "3", "FINALIZING", "4", "DONE"),
    *("QUEUED", "INITIALIZING", "5", "PENDING", "RUNNING", "6", "7", "FINALIZING", "8", "DONE"),
]


async def order(*looks: Any, seen: Any = None) -> list[str]:
    """The states and, between them, what had moved, by its size."""
    said = io.StringIO()
    async with _Known(*looks) as client:
        screen = watch.Screen(Console(file=said, width=200))
        await watch.follow(client, "j", screen, with_log=False, seen=seen)
    lines = said.getvalue().splitlines()
    return [each.split()[-2] if "object" in each else each.split()[1] for each in lines]


def _last(job: Any) -> Any:
    return job["status"]["history"][-1]


def newest(most: int, job: Any) -> Any:
    """As the API has a job of many runs."""
    status = job["status"]
    return job | {"status": status | {"history": status["history"][-most:]}}


async def test_data_that_moved_stands_at_its_own_moment_and_run() -> None:
    assert await order(moving(12, *SYNCS)) == ORDER, "however late somebody looks"


async def test_data_that_moves_is_told_when_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, as it may be long until the next state."""
    monkeypatch.setattr(watch, "POLL_S", 0)
    looks = [
        *(moving(2), moving(2, sync("pull", 20, 1, ended=False)), moving(2, SYNCS[0]), moving(4, *SYNCS[:2])),
        *(moving(4, *SYNCS[:3]), moving(5, *SYNCS[:4]), moving(8, *SYNCS[:5]), moving(10, *SYNCS[:6])),
    ]
    assert await order(*looks, moving(12, *SYNCS)) == ORDER
    assert await order(*looks[:5], moving(6, *SYNCS[:3])) == [*ORDER[:8], "DONE"]


async def test_of_runs_before_nothing_moved_is_told_again() -> None:
    again = sync("push", 55, 9)  # by hand, after the first run
    assert await order(moving(12, *SYNCS, again), seen=_last(moving(6))) == ORDER[10:]


async def test_a_job_that_shows_its_newest_states_only_is_followed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It shows as many at each look, each time others; and the log is that of the run that began."""
    monkeypatch.setattr(watch, "POLL_S", 0)
    runs: list[int] = []

    async def log(self: watch._Follower, run: int) -> None:
        runs.append(run)

    monkeypatch.setattr(watch._Follower, "_log", log)
    path = (*RUN, *RUN, *RUN)
    looks = [newest(4, moving(upto, path=path)) for upto in range(12, 19)]
    said = io.StringIO()
    async with _Known(*looks[1:]) as client:
        await watch.follow(client, "j", watch.Screen(Console(file=said, width=200)), seen=_last(looks[0]))
    assert [line.split()[1] for line in said.getvalue().splitlines()] == [str(state) for state in RUN]
    assert runs == [3]


async def test_data_pushed_again_after_the_end_stands_after_it() -> None:
    again = sync("push", 55, 9)
    assert await order(moving(6, *SYNCS[:4], again)) == [*ORDER[:10], "9"]
    assert await order(moving(12, *SYNCS, again)) == [*ORDER[:10], "9", *ORDER[10:]]


async def test_a_job_is_not_followed_to_its_end_for_a_reader_that_has_gone() -> None:
    """As of `job run --watch … | head -1`, of a job that says nothing more."""
    reads, writes = os.pipe()
    os.close(reads)
    job = seen(State.QUEUED, info="")
    with os.fdopen(writes, "wb") as log:
        async with _Known(job) as client:
            with pytest.raises(BrokenPipeError):
                await watch.follow(client, "j", watch.Screen(Console(file=io.StringIO()), log))


class _Printing(_Known):
    """Its job has ended when it is first looked at, and its log comes a piece at a time."""

    def __init__(self, pieces: int, *, pause_s: float = 0.0, ends: bool = True) -> None:
        super().__init__(seen(*RUN, info=""))
        self.pieces, self.pause_s, self.ends = pieces, pause_s, ends

    @asynccontextmanager
    async def stream(self, path: str, **params: object) -> AsyncIterator[AsyncIterator[bytes]]:
        assert (path, params["run"]) == ("/job/j/log", 1)
        yield self._printed()

    async def _printed(self) -> AsyncIterator[bytes]:
        for number in range(self.pieces):
            await asyncio.sleep(self.pause_s)
            yield b"%d\n" % number
        if not self.ends:
            await asyncio.Event().wait()


async def shown(client: Client) -> tuple[bytes, str]:
    """The log, and the notes."""
    log, notes = io.BytesIO(), io.StringIO()
    async with client:
        await watch.follow(client, "j", watch.Screen(Console(file=notes, width=200), log))
    return log.getvalue(), notes.getvalue()


async def test_a_log_that_comes_slowly_is_shown_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOG_END_S", 1.0)
    log, notes = await shown(_Printing(6, pause_s=0.3))  # it takes longer than any piece is waited for
    assert log == b"0\n1\n2\n3\n4\n5\n"
    assert "end of the log" not in notes


async def test_a_log_without_an_end_is_said_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOG_END_S", 0.1)
    log, notes = await shown(_Printing(1, ends=False))
    assert log == b"0\n"
    assert "the end of the log was not shown; all of it: jobyard job logs --run 1 j" in notes
    assert notes.splitlines()[-1].split()[1] == "DONE"
