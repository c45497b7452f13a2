"""A rate: what is let in over any stretch of time, and when whoever was refused may come back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import rate
from service.errors import TooMany
from service.rate import Rates


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def refused(rates: Rates, asker: str = "a") -> TooMany | None:
    try:
        rates.check(asker, "too often")
    except TooMany as error:
        return error
    return None


@given(
    per_second=st.sampled_from([0.2, 0.5, 1.0, 3.0, 10.0, 500.0]),
    burst=st.sampled_from([1, 2, 7.5, 50]),
    steps=st.lists(st.floats(min_value=0, max_value=3), min_size=1, max_size=200),
)
def test_no_stretch_of_time_has_more_than_its_rate_and_the_burst(
    per_second: float, burst: float, steps: list[float]
) -> None:
    clock = Clock()
    rates = Rates(per_second, burst, clock)
    let_in = []
    for step in steps:
        clock.now += step / per_second
        error = refused(rates)
        if error is None:
            let_in.append(clock.now)
        else:
            before = clock.now, dict(rates._owed_at)
            clock.now += error.retry_after_s
            assert refused(rates) is None, "it was told to come now"
            clock.now, rates._owed_at = before
    for first, start in enumerate(let_in):
        for count, end in enumerate(let_in[first:], start=1):
            assert count <= burst + (end - start) * per_second + 1e-3
    assert all(earlier <= later for earlier, later in pairwise(let_in))


def test_as_many_as_the_burst_are_let_in_at_once_and_nobody_else_is_charged() -> None:
    rates = Rates(5, 50, Clock())
    assert [refused(rates) for _ in range(50)] == [None] * 50
    error = refused(rates)
    assert error is not None
    assert (error.retry_after_s, error.message) == (1, "too often; try again after 1 s")
    assert refused(rates, "another") is None


def test_what_is_kept_is_bounded_and_nobody_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "MOST_KEPT", 10)
    clock = Clock()
    rates = Rates(1, 2, clock)
    for number in range(9):
        assert refused(rates, str(number)) is None
    clock.now += 10
    while refused(rates, "owes") is None:
        pass
    assert refused(rates, "one more") is None
    assert set(rates._owed_at) == {"owes", "one more"}
    assert refused(rates, "owes") is not None
