"""A fold says of which bodies its key answers; for all others nobody asks it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projections.catalogue import FOLDS
from projections.fold import Fold
from projections.rows import Rows
from service.domain.events import BODIES, Event
from tests.properties.bodies import BODY

AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("body", BODY.values(), ids=BODY)
@settings(max_examples=10, deadline=None)
@given(st.data(), st.booleans())
def test_no_fold_is_passed_over(body: st.SearchStrategy[Any], data: st.DataObject, of_a_job: bool) -> None:
    job = UUID(int=1) if of_a_job else None
    event = Event(
        position=1,
        project="p",
        job=job,
        run=1,
        body=data.draw(body),
        occurred_at=AT,
        recorded_at=AT,
        actor="a",
        command_id=UUID(int=2),
    )
    asked = [(name, key) for name, fold in FOLDS.items() if (key := fold.key(event)) is not None]
    assert Rows().keys_of(event) == asked


@pytest.mark.parametrize("fold", FOLDS.values(), ids=FOLDS)
def test_every_fold_says_whom_it_concerns(fold: Fold[Any]) -> None:
    assert 0 < sum(issubclass(body, fold.concerned) for body in BODIES.values()) < len(BODIES)
