"""Any history, decided anew, is the same history; under any other rule, it is told where it is not."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from service.domain import decide_job, decide_run
from service.domain import events as ev
from service.domain.context import Decision
from service.domain.recall import INVERSES
from service.domain.states import State
from service.errors import WrongState
from service.ledger.incident.replay import Difference, Replay
from tests.properties.test_any_order import walked

WALKS = 16


@pytest.fixture(scope="module")
def histories() -> list[list[ev.Event]]:
    """Of all that can happen to jobs, in an order that nobody thought of."""
    return [walked(Random(seed)).ledger.events for seed in range(WALKS)]


def differences(events: list[ev.Event]) -> list[Difference]:
    return [each for step in Replay().steps(events) for each in step.differences]


def test_any_history_is_decided_as_it_was(histories: list[list[ev.Event]]) -> None:
    seen = {type(event.body) for events in histories for event in events}
    assert {*ev.JOB_BODIES, ev.ExecOpened} - seen == {ev.SyncOrdered}, "which needs a volume"
    assert seen - {ev.ProjectCreated} <= set(INVERSES)
    for events in histories:
        assert differences(events) == []


def _other_outcome(decide: Callable[..., Any]) -> Callable[..., Any]:
    def planted(*given: Any) -> list[Decision]:
        decided: list[Decision] = decide(*given)
        return [
            replace(each, body=replace(each.body, outcome=State.DONE))
            if isinstance(each.body, ev.RunExited) and each.body.outcome is State.FAILED
            else each
            for each in decided
        ]

    return planted


def test_another_rule_is_found_and_named(
    histories: list[list[ev.Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide_run, "decide", _other_outcome(decide_run.decide))
    for events in histories:
        failed = [
            e.position for e in events if isinstance(e.body, ev.RunExited) and e.body.outcome == "FAILED"
        ]
        found = differences(events)
        assert failed
        assert [(each.position, each.field) for each in found] == [(at, "data.outcome") for at in failed]
        assert {(each.recorded, each.decided) for each in found} == {('"FAILED"', '"DONE"')}


def test_a_rule_that_refuses_more_is_found(
    histories: list[list[ev.Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing may be interrupted any more while it is QUEUED, say."""

    def planted(job: Any, context: Any, *, then_delete: bool = False) -> list[Decision]:
        if job.state is State.QUEUED:
            raise WrongState("not while it is QUEUED")
        return interrupt(job, context, then_delete=then_delete)

    interrupt = decide_job.interrupt
    monkeypatch.setattr(decide_job, "interrupt", planted)
    found = differences(histories[0])
    assert found
    assert {(each.type, each.field) for each in found} == {("InterruptOrdered", "event")}
    assert {each.decided for each in found} == {'"refused: not while it is QUEUED"'}


@pytest.mark.parametrize("seed", range(40))
def test_an_event_that_was_changed_is_found(histories: list[list[ev.Event]], seed: int) -> None:
    """What was decided, changed by hand: the state, the outcome, the price, the time, the words."""
    chance = Random(seed)
    events = list(histories[seed % WALKS])
    at = chance.choice([index for index, event in enumerate(events) if isinstance(event.body, ev.Move)])
    event = events[at]
    changed, field = _tampered(event)
    events[at] = replace(event, body=changed)
    found = next(iter(differences(events)))
    assert (found.position, found.field) == (event.position, field)


def _tampered(event: ev.Event) -> tuple[ev.Body, str]:
    body = event.body
    if isinstance(body, ev.RunPlaced):
        return replace(body, hourly_price=body.hourly_price + 1), "data.hourlyPrice"
    if isinstance(body, ev.RunExited):
        other = State.INTERRUPTED if body.outcome is not State.INTERRUPTED else State.DONE
        return replace(body, outcome=other), "data.outcome"
    if isinstance(body, ev.RunStarted):
        return replace(body, timeout_at=body.timeout_at.replace(year=2030)), "data.timeoutAt"
    return replace(body, units=body.units + 1), "data.units"
