"""The test of the test: each planted bug is what the harness says it is."""

from __future__ import annotations

import asyncio
from functools import partial
from uuid import uuid4

import pytest

from service.ledger import database, follow
from service.supervisor.data import StoreAccess
from service.supervisor.data.model import Timing
from service.supervisor.data.s3 import faults, store
from service.supervisor.engine import docker, events, wire
from tests.chaos.links import cases, sorts
from tests.chaos.links.cases import CASES, tried
from tests.chaos.links.house import House, Log, house
from tests.chaos.links.line import Fault

pytestmark = pytest.mark.usefixtures("quick", "busybox")

FOREVER_S = 3600.0
#: Links over which the service asks, and by itself finds out that it is not answered.
ASKED = (sorts.POOL, sorts.CONTROL, sorts.STORE)


async def _reported(
    sort: str, fault: Fault, log: Log, template: str, access: StoreAccess, *, planted: str
) -> str:
    """What the harness has against a house with a planted bug."""
    (case,) = (each for each in CASES if each.sort == sort)
    name = f"{sort} {planted}"
    async with house(name, log, template, access, supervised=case.supervised, poll_s=20.0) as made:
        try:
            await tried(case, made, fault)
        except AssertionError as error:
            return str(error)
    return ""


async def test_planted_bugs_are_found(
    log: Log, template_database: str, access: StoreAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases, "NOTICED_S", 3.0)
    monkeypatch.setattr(follow, "PING_S", FOREVER_S)  # a listener that is not pinged
    monkeypatch.setattr(events, "SILENCE_S", FOREVER_S)  # a stream that is believed for ever
    monkeypatch.setattr(House, "submitted", _without_a_key)  # a client whose repeat is a new submit
    monkeypatch.setattr(database, "ANSWER_TIMEOUT_S", FOREVER_S)  # a ledger that is waited for for ever
    monkeypatch.setattr(wire, "ANSWER_TIMEOUT_S", FOREVER_S)  # and an engine
    monkeypatch.setattr(docker, "LOOK_TIMEOUT_S", FOREVER_S)
    monkeypatch.setattr(docker, "CALL_TIMEOUT_S", FOREVER_S)
    monkeypatch.setattr(faults, "NOTICE_S", FOREVER_S)  # and a store
    monkeypatch.setattr(store, "Timing", partial(Timing, call_s=FOREVER_S, progress_s=FOREVER_S))
    common = (log, template_database, access)
    listen, heard, doubled, *silent = await asyncio.gather(
        _reported(sorts.LISTEN, Fault.HALF_OPEN, *common, planted="no ping"),
        _reported(sorts.EVENTS, Fault.HALF_OPEN, *common, planted="no renewal"),
        _reported(sorts.CLIENT, Fault.STALL_DOWN, *common, planted="no key"),
        *(_reported(sort, Fault.STALL, *common, planted="no end") for sort in ASKED),
    )
    assert listen.endswith("listen was half-open, and nobody noticed")
    assert heard.endswith("events was half-open, and nobody noticed")
    assert "one submit, one job" in doubled
    for sort, told in zip(ASKED, silent, strict=True):
        # Others, whose connections are cut as they are given back, may notice; who waits for an answer not.
        ends = (f"{sort} was stall, and nobody noticed", f"the supervisor says that {sort} is stall")
        assert told.endswith(ends), told


_submitted = House.submitted


async def _without_a_key(self: House, *arguments: object, key: str = "", **named: object) -> object:
    return await _submitted(self, *arguments, key=uuid4().hex if key else "", **named)  # type: ignore[arg-type]
