"""How much one token may ask: the rate in any stretch of time, what is open at once, and the time to wait."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import limits
from service.api.limits import Bounds, Limits
from service.errors import TooMany


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def refused(limits: Limits, token: str = "t", *, stream: bool = False) -> TooMany | None:
    """The refusal, if there is one; what was let in has ended again."""
    try:
        with limits.admitted(token, stream=stream):
            return None
    except TooMany as error:
        return error


@given(
    rate=st.sampled_from([0.2, 0.5, 1.0, 3.0, 10.0, 500.0]),
    steps=st.lists(st.floats(min_value=0, max_value=3), min_size=1, max_size=200),
)
def test_no_stretch_of_time_has_more_than_its_rate_and_the_burst(rate: float, steps: list[float]) -> None:
    clock = Clock()
    bounded = Limits(Bounds(rate, 1, 1), clock)
    let_in = []
    for step in steps:
        clock.now += step / rate
        error = refused(bounded)
        if error is None:
            let_in.append(clock.now)
        else:
            after = Limits(Bounds(rate, 1, 1), clock)
            after._uses = bounded._uses
            before = clock.now, bounded._uses["t"].owed_at
            clock.now += error.retry_after_s
            assert refused(after) is None, "it was told to come now"
            clock.now, bounded._uses["t"].owed_at = before
    burst = max(2 * rate, 1)
    for first, start in enumerate(let_in):
        for count, end in enumerate(let_in[first:], start=1):
            assert count <= burst + (end - start) * rate + 1e-3
    assert all(earlier <= later for earlier, later in pairwise(let_in))


def test_as_many_as_the_burst_are_let_in_at_once_and_nobody_else_is_charged() -> None:
    bounded = Limits(Bounds(10, 1, 1), Clock())
    assert [refused(bounded) for _ in range(20)] == [None] * 20
    error = refused(bounded)
    assert error is not None
    assert (error.code, error.retry_after_s) == ("too-many-requests", 1)
    assert "more than 10 times a second" in error.message
    assert refused(bounded, "another") is None


def test_what_was_refused_does_not_count() -> None:
    clock = Clock()
    bounded = Limits(Bounds(1, 1, 1), clock)
    for _ in range(2):
        assert refused(bounded) is None
    for _ in range(1000):
        assert refused(bounded) is not None
    clock.now += 1
    assert refused(bounded) is None


@pytest.mark.parametrize("stream", [False, True])
def test_requests_and_streams_are_counted_apart(stream: bool) -> None:
    bounded = Limits(Bounds(0, 2, 2), Clock())
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(bounded.admitted("t", stream=stream))
        error = refused(bounded, stream=stream)
        assert error is not None
        assert f"has 2 {'streams open' if stream else 'requests at once'}, and may have 2" in error.message
        assert refused(bounded, stream=not stream) is None
        assert refused(bounded, "another", stream=stream) is None
    assert refused(bounded, stream=stream) is None


def test_a_failure_gives_the_place_back() -> None:
    bounded = Limits(Bounds(0, 1, 1), Clock())
    with pytest.raises(LookupError), bounded.admitted("t", stream=False):
        raise LookupError
    assert refused(bounded) is None


def test_what_is_kept_is_bounded_and_nobody_is_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_KEPT", 10)
    clock = Clock()
    bounded = Limits(Bounds(1, 1, 1), clock)
    with bounded.admitted("open", stream=True):
        for number in range(8):
            assert refused(bounded, str(number)) is None
        clock.now += 10
        while refused(bounded, "owes") is None:
            pass
        assert refused(bounded, "one more") is None
        assert set(bounded._uses) == {"open", "owes", "one more"}
        assert refused(bounded, "open", stream=True) is not None
        assert refused(bounded, "owes") is not None
