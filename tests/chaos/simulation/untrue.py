"""Bugs by which the ledger says what did not happen, or a client hears nothing. See `planted`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from projections import billing
from service.domain import commands as cmd
from service.supervisor import container
from service.supervisor.effects import Yard
from service.supervisor.steps import Steps
from tests.chaos.simulation import api
from tests.chaos.simulation.stores import Objects

Plant = Callable[[], AbstractContextManager[None]]


@contextmanager
def no_client_is_answered() -> Iterator[None]:
    """After a minute an API takes requests and never says a word of them."""
    send = api.Api.send

    def silent(self: Any, request: Any) -> Any:
        loop = asyncio.get_running_loop()
        return send(self, request) if loop.time() < 60 else loop.create_task(asyncio.sleep(1e9))

    with patch.object(api.Api, "send", silent):
        yield


@contextmanager
def absences_are_not_told() -> Iterator[None]:
    """Who takes over tells no run that nobody was there."""
    report = Yard.report

    async def quiet(self: Yard, what: Any, job: Any, **how: Any) -> Any:
        return None if what is cmd.AdoptRun else await report(self, what, job, **how)

    with patch.object(Yard, "report", quiet):
        yield


@contextmanager
def every_exit_is_a_good_one() -> Iterator[None]:
    """Every process is recorded as one that ended with 0."""
    report = Yard.report

    async def well(self: Yard, what: Any, job: Any, **how: Any) -> Any:
        changed = {"exit_code": 0} if what is cmd.ReportExited else {}
        return await report(self, what, job, **{**how, **changed})

    with patch.object(Yard, "report", well):
        yield


@contextmanager
def what_runs_is_given_up_by_who_comes() -> Iterator[None]:
    """A driver that did not start the process itself takes it for lost."""
    follow = Steps._follow

    async def strange(self: Steps, job: Any) -> None:
        if self._adopted:
            raise container.lost(self._run)
        await follow(self, job)

    with patch.object(Steps, "_follow", strange):
        yield


@contextmanager
def faults_are_not_credited() -> Iterator[None]:
    """A bill never says that it was our fault."""
    with patch.object(billing, "fault_of", lambda *_: None):
        yield


@contextmanager
def an_unknown_end_is_taken_for_known() -> Iterator[None]:
    """255 is what a process ended with, also where its engine did not see it."""
    report = Yard.report

    async def sure(self: Yard, what: Any, job: Any, **how: Any) -> Any:
        changed = {"unknown": False} if what is cmd.ReportExited else {}
        return await report(self, what, job, **{**how, **changed})

    with patch.object(Yard, "report", sure):
        yield


@contextmanager
def a_store_is_not_to_be_opened() -> Iterator[None]:
    """Whoever asks a store for anything fails by an error of our own."""

    def wrong(*_: Any, **__: Any) -> Any:
        raise TypeError("open() got an unexpected keyword argument")

    with patch.object(Objects, "open", wrong):
        yield


UNTRUE: dict[Plant, tuple[range, str]] = {
    no_client_is_answered: (range(5), "still waits for an answer"),
    absences_are_not_told: (range(60), "was run or looked after for"),
    every_exit_is_a_good_one: (range(5), "has exited with 0"),
    what_runs_is_given_up_by_who_comes: (range(20), "was given up as lost"),
    faults_are_not_credited: (range(40), "the bill of"),
    an_unknown_end_is_taken_for_known: (range(60), "was lost with its engine"),
    a_store_is_not_to_be_opened: (range(5), "no fault explains it"),
}
