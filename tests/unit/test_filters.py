"""Event filters: everything named must hold, and a token's scope goes by the labels of that moment."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from service.domain.events import Body, Event, LabelSet, QuotaSet, RunPrepared, TokenRevoked
from service.domain.filters import EventFilter
from service.domain.selectors import parse_selector
from service.domain.states import State

JOB = UUID(int=1)
AT = datetime(2026, 11, 28, tzinfo=UTC)
MOVE = RunPrepared(source=State.INITIALIZING, target=State.PENDING, kind="cpu", units=1)
LABEL = LabelSet(name="a", value="b")
PROD = parse_selector("labelSelector", "stage=prod")


def an_event(body: Body, *, project: str = "alpha", job: UUID | None = JOB) -> Event:
    return Event(
        position=1,
        project=project,
        job=job,
        body=body,
        occurred_at=AT,
        recorded_at=AT,
        actor="a",
        command_id=UUID(int=9),
    )


@pytest.mark.parametrize(
    ("asked", "event", "wanted"),
    [
        (EventFilter(project="alpha"), an_event(MOVE), True),
        (EventFilter(project="alpha"), an_event(MOVE, project="beta"), False),
        (EventFilter(project="alpha", jobs=frozenset({JOB})), an_event(MOVE), True),
        (EventFilter(project="alpha", jobs=frozenset({UUID(int=2)})), an_event(MOVE), False),
        (
            EventFilter(project="alpha", jobs=frozenset({JOB})),
            an_event(QuotaSet(cpu=1, gpu=1), job=None),
            False,
        ),
        (EventFilter(project="alpha", types=frozenset({"RunPrepared"})), an_event(MOVE), True),
        (EventFilter(project="alpha", types=frozenset({"RunPrepared"})), an_event(LABEL), False),
        (EventFilter(project="alpha", states=frozenset({State.PENDING})), an_event(MOVE), True),
        (EventFilter(project="alpha", states=frozenset({State.RUNNING})), an_event(MOVE), False),
        (EventFilter(project="alpha", states=frozenset({State.PENDING})), an_event(LABEL), False),
        (EventFilter(project="alpha"), an_event(TokenRevoked(token_id="t"), job=None), False),
        (EventFilter(project="alpha", tokens=True), an_event(TokenRevoked(token_id="t"), job=None), True),
        (EventFilter(project="alpha", scope=PROD), an_event(QuotaSet(cpu=1, gpu=1), job=None), False),
    ],
)
def test_all_that_is_named_must_hold(asked: EventFilter, event: Event, wanted: bool) -> None:
    assert asked.wants(event, {}) is (wanted and not asked.needs_labels)
    assert asked.may_want(event) is wanted


@pytest.mark.parametrize(
    "asked", [EventFilter(project="alpha", selector=PROD), EventFilter(project="alpha", scope=PROD)]
)
def test_labels_decide_for_what_was_asked_and_for_the_scope(asked: EventFilter) -> None:
    assert asked.needs_labels
    assert asked.wants(an_event(MOVE), {"stage": "prod"})
    assert not asked.wants(an_event(MOVE), {"stage": "test"})


def test_a_selector_never_widens_a_scope() -> None:
    asked = EventFilter(project="alpha", selector=parse_selector("s", "team=x"), scope=PROD)
    assert not asked.wants(an_event(MOVE), {"team": "x"})
    assert asked.wants(an_event(MOVE), {"team": "x", "stage": "prod"})
