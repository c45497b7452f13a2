"""How much one token may ask: the rate in any stretch of time, what is open at once, and the time to wait."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

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


def test_nothing_is_kept_of_who_has_nothing_open() -> None:
    bounded = Limits(Bounds(0, 1, 1), Clock())
    with bounded.admitted("open", stream=True):
        for number in range(8):
            assert refused(bounded, str(number)) is None
        assert refused(bounded, "open", stream=True) is not None
        assert set(bounded._uses) == {"open"}
    assert not bounded._uses
