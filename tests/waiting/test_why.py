"""Why a run waited: every stretch of it, exactly, and as the plan of that moment had it."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from projections.waiting.why import Stretch, waited
from service.domain.events import Move
from service.domain.states import State
from tests.support.jobs import T0
from tests.support.story import Lasts, Story
from tests.waiting.told import plans, stretches


def said(found: list[Stretch]) -> list[tuple[str, str, float]]:
    return [(each.constraint, each.info.code, round(each.lasted.total_seconds(), 3)) for each in found]


def test_a_job_that_waits_for_cpus_is_told_who_has_them() -> None:
    story = Story(cpus=4)
    first = story.submit(0, "a", Lasts(run_s=97), cpus=3)
    other = story.submit(1, "b", Lasts(run_s=600), cpus=1)
    job = story.submit(10, "a", cpus=2)
    story.tell(400)
    (waits, *_) = found = stretches(story, job)
    assert (waits.constraint, waits.info.code) == ("cpu", "waiting-for-cpu")
    assert [(each.job, each.amount) for each in waits.holders] == [(first, 3), (other, 1)]
    assert waits.ahead == ()
    assert waits.share == pytest.approx(0.75)
    assert waits.since == T0 + timedelta(seconds=10)
    assert [each.phase for each in found] == ["QUEUED", "QUEUED", "INITIALIZING", "PENDING", "FINALIZING"]
    assert found[1].info.code == "being-placed"


def test_a_job_behind_others_is_bound_by_what_they_lack() -> None:
    story = Story(cpus=64, gpus=("g0", "g1"))
    holder = story.submit(0, "b", Lasts(run_s=100), gpus=2)
    head = story.submit(5, "a", Lasts(run_s=50), gpus=1)
    second = story.submit(6, "a", Lasts(run_s=50), gpus=2)
    job = story.submit(7, "a", cpus=1)
    story.tell(60)
    (waits,) = stretches(story, job)
    assert (waits.constraint, waits.info.code) == ("gpu", "waiting-in-line")
    assert [(each.job, each.why) for each in waits.ahead] == [
        (head, "earlier-in-line"),
        (second, "earlier-in-line"),
    ]
    assert [(each.job, each.amount) for each in waits.holders] == [(holder, 2)]


def test_what_is_held_for_one_that_waited_longest() -> None:
    """The small job would fit; a large one of another project has been first for too long."""
    story = Story(cpus=4, patience_s=60)
    story.submit(0, "a", Lasts(run_s=300), cpus=2)
    big = story.submit(1, "a", cpus=4)
    small = story.submit(100, "b", cpus=1)
    story.tell(150)
    (waits,) = stretches(story, small)
    assert (waits.constraint, waits.info.code) == ("cpu", "waiting-in-line")
    assert [(each.job, each.why) for each in waits.ahead] == [(big, "waited-longer")]


def test_patience_that_runs_out_begins_a_stretch_without_an_event() -> None:
    story = Story(cpus=4, patience_s=60, projects=dict.fromkeys("abc", (9, 9)))
    story.submit(0, "a", Lasts(run_s=300), cpus=2)
    big = story.submit(1, "a", cpus=4)
    story.submit(2, "c", Lasts(run_s=300), cpus=2)
    small = story.submit(3, "b", cpus=1)
    story.tell(200)
    before, behind, after = stretches(story, small)
    assert [each.info.code for each in (before, behind, after)] == [
        *("waiting-for-cpu", "waiting-in-line", "waiting-for-cpu")
    ]
    assert [(each.job, each.why) for each in behind.ahead] == [(big, "waited-longer")]
    assert behind.lasted == timedelta(seconds=2), "then it was first for as long itself, and has less"
    assert (bool(before.positions), behind.positions) == (True, ())


def test_what_the_node_could_never_hold_says_which() -> None:
    story = Story(cpus=4)
    job = story.submit(0, "a", gpus=1)
    story.tell(50)
    (waits,) = stretches(story, job)
    assert (waits.constraint, waits.info.code, waits.holders) == ("gpu", "no-node-offers", ())


def test_time_without_anybody_is_told_as_such_and_cuts_the_wait() -> None:
    story = Story(cpus=2)
    story.submit(0, "a", Lasts(run_s=500), cpus=2)
    job = story.submit(10, "a", cpus=1)
    story.away(100, 160)
    story.tell(200)
    assert said(stretches(story, job)) == [
        ("cpu", "waiting-for-cpu", 90.0),
        ("node-lost", "node-lost", 60.0),
        ("cpu", "waiting-for-cpu", 40.0),
    ]


def test_a_run_whose_supervisor_was_away_says_so_of_its_data_and_its_start() -> None:
    story = Story(cpus=2)
    job = story.submit(0, "a", Lasts(init_s=50, start_s=10))
    story.away(20, 100)
    story.tell(200)
    found = [each for each in stretches(story, job) if each.phase == "INITIALIZING"]
    assert [(each.constraint, round(each.lasted.total_seconds())) for each in found] == [
        *(("node", 20), ("node-lost", 80), ("node", 0))
    ]


def test_another_run_has_a_wait_of_its_own() -> None:
    story = Story(cpus=2)
    job = story.submit(0, "a", Lasts(run_s=10))
    story.submit(50, "b", Lasts(run_s=100), cpus=2)
    story.restart(60, job)
    story.tell(500)
    assert [each.info.code for each in stretches(story, job, 1)][:1] == ["being-placed"]
    assert stretches(story, job, 2)[0].info.code == "waiting-for-cpu"
    assert stretches(story, job, 2)[0].since == T0 + timedelta(seconds=60)


def a_day(seed: int) -> Story:
    """Two hours of three projects on a small node, whatever comes."""
    chance = Random(seed)
    story = Story(
        cpus=chance.randint(2, 6),
        gpus=tuple(f"g{n}" for n in range(chance.randint(0, 3))),
        patience_s=chance.choice([60.0, 300.0]),
        projects={name: (chance.randint(4, 30), 8) for name in "abc"},
    )
    made = []
    for _ in range(40):
        needs: dict[str, Any] = (
            {"gpus": chance.randint(1, 2)} if chance.random() < 0.3 else {"cpus": chance.randint(1, 5)}
        )
        lasts = Lasts(chance.choice([0.5, 3, 20]), chance.choice([0.5, 3]), chance.uniform(1, 600), 2)
        at = round(chance.uniform(0, 3000), 2)
        made.append(
            (at, story.submit(at, chance.choice("abc"), lasts, memory=chance.randint(1, 30), **needs))
        )
    for at, job in made:
        if chance.random() < 0.15:
            story.kill(at + chance.uniform(1, 900), job)
        elif chance.random() < 0.1:
            story.restart(at + chance.uniform(1500, 2500), job)
    story.away(900, 960)
    if chance.random() < 0.5:
        story.away(2000, 2100, cpus=chance.randint(3, 8))
    return story


@pytest.mark.parametrize("seed", range(6))
def test_the_stretches_are_the_wait_exactly_and_what_the_plans_said(seed: int) -> None:
    """Of every run of a day, against plans that are made from the beginning each time, of the whole queue."""
    story = a_day(seed).tell(3600)
    told = list(plans(story))
    checked = 0
    for job in {event.job for event in story.events if isinstance(event.body, Move)}:
        assert job is not None
        for run in range(1, story.job(job).run + 1):
            found = stretches(story, job, run)
            _exact(story, found, job, run)
            queued = [each for each in found if each.phase == "QUEUED"]
            for at, made in told:
                stretch = next((each for each in queued if each.since <= at < each.until), None)
                if stretch is None:
                    continue
                checked += 1
                if made is None:
                    assert stretch.info.code == "node-lost"
                elif job in made.reasons:
                    assert stretch.info == made.reasons[job]
                else:
                    assert stretch.info.code == "being-placed"
                    assert job in [placement.job.id for placement in made.placements]
    assert checked > 1000


def _exact(story: Story, found: list[Stretch], job: object, run: int) -> None:
    """No hole, no overlap, and in all exactly as long as the run was not yet RUNNING."""
    assert all(each.lasted >= timedelta() for each in found)
    visits = [event for event in story.events if event.job == job and event.run == run]
    moves = [event for event in visits if isinstance(event.body, Move)]
    over = [event for event in moves if event.body.target not in (State.QUEUED, "INITIALIZING", "PENDING")]
    end = over[0].occurred_at if over else story.ledger.now
    assert waited(found) == end - moves[0].occurred_at
    before = [each for each in found if each.phase != "FINALIZING"]
    assert all(one.until == other.since for one, other in pairwise(before))
    for each in found:
        assert {event.position for event in story.events} >= set(each.positions)
