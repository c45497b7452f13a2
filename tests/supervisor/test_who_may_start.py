"""Which containers may be started that were made and never started: not those that others may start."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from service.supervisor import container
from service.supervisor.names import EPOCH


@pytest.mark.parametrize(
    ("made_in", "unfenced", "may"),
    [
        ("7", False, False),
        ("7", True, False),
        ("6", False, False),
        ("6", True, True),
        ("5", False, True),  # its holder may be stopped, whatever is known of the one between
        ("5", True, True),
        (None, False, True),
    ],
)
def test_what_an_epoch_made_is_its_own_and_that_of_who_follows_its_end(
    made_in: str | None, unfenced: bool, may: bool
) -> None:
    yard: Any = SimpleNamespace(epoch=7, lease=SimpleNamespace(unfenced=unfenced), asked_to_start=set())
    found: Any = SimpleNamespace(id="c0ffee", labels={EPOCH: made_in} if made_in else {})
    assert container._may_be_started_by_others(yard, found) is may
    yard.asked_to_start.add("c0ffee")
    assert container._may_be_started_by_others(yard, found), "a start without an answer may come still"
