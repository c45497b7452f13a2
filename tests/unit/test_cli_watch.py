"""How a followed job's states are told."""

from __future__ import annotations

import io
from typing import Any

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
    status = {"state": str(path[-1]), "history": history, "dataSync": [], "info": {"message": info}}
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
