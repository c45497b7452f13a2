"""A store that sends byte by byte holds a run no longer than one that does not answer, and is told of."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from service.domain.states import State
from service.supervisor.data import Timing
from service.supervisor.data.s3 import store
from tests.data.canned import serving
from tests.data.dripping import Dripping
from tests.supervisor.lab import RUNS_ON
from tests.supervisor.world import fake_engine, volume, world


@pytest.mark.parametrize(
    ("lists", "why"),
    [
        (False, "object x in box: the store sent fewer than 65536 bytes in 0.3 s"),
        (True, "container box: the store did not answer in time"),
    ],
    ids=["an object", "the listing"],
)
async def test_a_pull_that_trickles_is_tried_again_and_given_up(
    template_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: bool, why: str
) -> None:
    hasty = partial(Timing, **{"call_s" if lists else "progress_s": 0.3}, attempts=2, backoff_s=0.01)
    monkeypatch.setattr(store, "Timing", hasty)
    canned = Dripping(bytes(2**24), lists=lists)
    async with (
        serving(canned) as access,
        world(template_database, tmp_path / "s", fake_engine(), access) as at,
    ):
        at.settings = replace(at.settings, store_attempts=2, retry_s=0.001)
        async with at.supervised():
            job = await at.submit(RUNS_ON, volumes=[volume("/in", "RO", "box", "")])
            waits = await at.told(job, "data-not-answering")
            said = "Data store box@local does not answer; it is tried again."
            assert (waits.state, waits.info.message) == (State.INITIALIZING, said)
            ended = await at.end(job)
    assert (ended.state, ended.info.code) == (State.FAILED, "data-pull-unavailable")
    assert ended.info.message == f"Data store box@local could not be used, after 2 attempts: {why}"
