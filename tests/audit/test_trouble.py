"""Checkpoints that cannot be kept: told when it begins, seldom while it lasts, and when it is over."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from service.audit import signer as signing
from service.audit.bucket import open_place
from service.audit.signer import Signer
from service.audit.trouble import FIRST_PAUSE_S, LONGEST_PAUSE_S, Trouble
from service.config import Settings
from tests.audit.conftest import SIGNING, grown, signer
from tests.audit.test_places import a_bucket
from tests.support.parts import STORE
from tests.support.waiting import until
from tests.support.yard import Yard


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def told(trouble: Trouble, clock: Clock, seconds: int, what: str = "a") -> list[int]:
    """When it is told of a trouble that is seen each second."""
    found = []
    for _ in range(seconds):
        if trouble.seen(what):
            found.append(int(clock.now))
        clock.now += 1
    return found


def test_it_is_told_when_it_begins_and_then_ever_more_seldom() -> None:
    clock = Clock()
    at = told(Trouble(clock), clock, 3 * int(LONGEST_PAUSE_S))
    pauses = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert at[0] == 0 and pauses[0] == FIRST_PAUSE_S
    assert pauses == sorted(pauses) and len(set(pauses)) > 3 and pauses[-1] == LONGEST_PAUSE_S


def test_another_trouble_is_told_at_once_and_one_that_was_over_too() -> None:
    clock = Clock()
    trouble = Trouble(clock)
    assert trouble.over() is None, "there was none"
    assert told(trouble, clock, 5) == [0]
    assert told(trouble, clock, 5, "b") == [5]
    assert trouble.over() == (10.0, 10) and trouble.over() is None
    assert told(trouble, clock, 5, "b") == [10]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One entry for each look of a signer, which come without a pause."""
    seen: list[int] = []
    monkeypatch.setattr(signing, "LOOK_S", 0.001)
    once = Signer.run_once

    async def run_once(self: Signer, **given: Any) -> Any:
        seen.append(len(seen))
        return await once(self, **given)

    monkeypatch.setattr(Signer, "run_once", run_once)
    yield seen


async def _more(looks: list[int], many: int = 5) -> None:
    wanted = len(looks) + many
    await until(lambda: len(looks) >= wanted)


async def test_a_bucket_that_is_not_there_is_told_once_and_that_it_is_there_again(
    yard: Yard, looks: list[int]
) -> None:
    name = f"checkpoints-{uuid4().hex[:12]}"
    place = open_place(f"s3://{name}/p", os.environ[STORE])
    work = Signer(yard.ledger, place, SIGNING, Settings())
    with capture_logs() as logs:
        task = asyncio.create_task(work.run())
        await _more(looks)
        said = [each for each in logs if each["event"].startswith("checkpoint")]
        assert [each["event"] for each in said] == ["checkpoint interrupted"], said
        assert said[0]["log_level"] == "warning" and f"the bucket {name} is not there" in said[0]["error"]
        await a_bucket(name)
        await until(lambda: any(each["event"] == "checkpoints are signed again" for each in logs))
        await _more(looks)
        task.cancel()
        await asyncio.wait([task])
    events = [each["event"] for each in logs if each["event"].startswith("checkpoint")]
    assert events == ["checkpoint interrupted", "checkpoint signed", "checkpoints are signed again"]
    await place.close()


async def test_a_look_that_finds_nothing_due_does_not_say_that_it_works(
    yard: Yard, tmp_path: Path, looks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written to can well be read."""
    work = signer(yard.ledger, tmp_path / "first", checkpoint_s=3600.0)
    assert (await work.run_once()) is not None
    await grown(yard, 20)
    work._trouble.seen("interrupted")
    work._forget()
    with capture_logs() as logs:
        task = asyncio.create_task(work.run())
        await _more(looks)
        task.cancel()
        await asyncio.wait([task])
    assert [each["event"] for each in logs] == []
