"""Many seeds: after every step all is as it must be, and once nothing more breaks everything settles."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from service.supervisor import container
from service.supervisor.effects import FatalForRun
from service.supervisor.names import RunId
from tests.chaos.simulation.planted import PLANTED, begun_in_the_last_moment
from tests.chaos.simulation.scenario import Told, play
from tests.chaos.simulation.untrue import Plant
from tests.support.chaos import Chaos

KEPT = [
    int(line) for line in (Path(__file__).parent / "seeds.txt").read_text().split("\n") if line[:1].isdigit()
]
FIRST_OF_LONG = 1_000_000


def test_many_seeds(chaos: Chaos) -> None:
    count = chaos.times(short=1_000, long=50_000)
    seeds = range(FIRST_OF_LONG, FIRST_OF_LONG + count) if chaos.long else range(count)
    began = time.perf_counter()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        told = list(pool.map(play, seeds, chunksize=50))
    rate = len(told) / (time.perf_counter() - began)
    broken = [each for each in told if each.broken is not None]
    chaos.told(
        "simulation",
        seeds=len(told),
        steps=sum(each.steps for each in told),
        crashes=sum(each.crashes for each in told),
        lost_commits=sum(each.lost_commits for each in told),
        broken=len(broken),
        seeds_per_s=f"{rate:.0f}",
    )
    assert sum(each.crashes for each in told) > count / 2
    assert sum(each.lost_commits for each in told) > count / 4
    assert not broken, [(each.seed, each.broken) for each in broken[:10]]


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_once_found_something(seed: int) -> None:
    assert play(seed).broken is None


def test_a_seed_is_the_same_every_time() -> None:
    """To the byte, in another process too, and another seed is another story."""
    stories: dict[int, Told] = {seed: play(seed) for seed in range(500, 520)}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert dict(zip(stories, pool.map(play, stories, chunksize=20), strict=True)) == stories
    assert len({each.trace for each in stories.values()}) == len(stories)


@pytest.mark.fails_inside  # a bug may well be one for the API
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant) -> None:
    """For what it breaks, and not by something else."""
    seeds, words = PLANTED[plant]
    with plant():
        assert any(words in (play(seed).broken or "") for seed in seeds)


@pytest.mark.parametrize("seed", [0, 12, 34, 144, 145, 192])  # in the last one the engine forgets it
def test_what_is_begun_in_the_last_moment_before_it_is_put_away(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is not known, and that is said."""
    told, lost = [], container.lost

    def counted(run: RunId) -> FatalForRun:
        told.append(run)
        return lost(run)

    monkeypatch.setattr(container, "lost", counted)
    with begun_in_the_last_moment():
        assert play(seed).broken is None
    assert told, "in this seed it happens"
