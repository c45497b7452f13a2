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
    """Answers with one job."""

    def __init__(self, job: Any) -> None:
        super().__init__(Where("http://127.0.0.1:9", "x"))
        self.job = job

    async def get(self, path: str, **params: object) -> Any:
        return self.job


async def test_a_stop_that_was_missed_is_not_said_to_have_been_ordered() -> None:
    path = (State.QUEUED, State.RUNNING, State.INTERRUPTING, State.FINALIZING, State.FAILED)
    history = [{"state": str(state), "date": "2026-01-31T12:00:00Z"} for state in path]
    info = {"message": "It wrote more than its storage."}
    job = {"status": {"state": "FAILED", "history": history, "dataSync": [], "info": info}}
    told = io.StringIO()
    async with _Known(job) as client:
        await watch.follow(client, "j", watch.Screen(Console(file=told, width=200)), with_log=False)
    lines = [line.split("  ", 1)[1] for line in told.getvalue().splitlines()]
    assert [line.split(maxsplit=1)[1].strip() for line in lines] == [
        "The job is about to be processed.",
        "The job is running.",
        "The job is being stopped.",
        "The job's log is being kept and its data pushed.",
        "It wrote more than its storage.",
    ]
