"""Folding one by one, in batches with the rows read back in between, or all at once gives the same rows."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from projections.catalogue import FOLDS
from projections.rows import Rows
from service.domain.events import Event
from tests.properties.test_any_order import JOBS, AnyOrder, a_spec, one_step


@lru_cache
def a_history(seed: int) -> list[Event]:
    chance = Random(seed)
    machine = AnyOrder()
    machine.begin(6, 4, [a_spec(chance) for _ in JOBS])
    for _ in range(80):
        one_step(machine, chance, chance.choice(JOBS))
    machine.flush()
    return machine.ledger.events


Stored = dict[tuple[str, str], tuple[int, str]]


def folded(events: list[Event], cuts: set[int], *, kept: int) -> Stored:
    """The rows as a database would have them, with a commit before each cut and at the end."""
    stored: Stored = {}
    rows = Rows()
    for event in events:
        for key in rows.missing(rows.keys_of(event)):
            rows.put(*key, stored[key][1] if key in stored else None)
        rows.fold(event)
        if event.position in cuts or event is events[-1]:
            made, changed = rows.take_apart()
            assert not any((row.fold, row.key) in stored for row in made), "is inserted, and is there"
            assert all((row.fold, row.key) in stored for row in changed), "is looked for, and is not there"
            stored |= {(row.fold, row.key): (row.position, row.row) for row in (*made, *changed)}
            rows.trim(kept)
    return stored


@settings(max_examples=40)
@given(st.integers(0, 3), st.sets(st.integers(1, 400)), st.sampled_from([0, 1, 5, 10_000]))
def test_any_split_into_batches_gives_the_same_rows(seed: int, cuts: set[int], kept: int) -> None:
    events = a_history(seed)
    at_once = folded(events, set(), kept=10_000)
    assert folded(events, cuts, kept=kept) == at_once
    assert folded(events, {event.position for event in events}, kept=0) == at_once


def test_the_histories_touch_what_they_should() -> None:
    touched = {fold for fold, _ in folded(a_history(0), set(), kept=0)}
    assert touched == {"status", "quota", "billing", "projects", "prices", "spend"} <= set(FOLDS)
