"""What if: nothing changed, the model says what happened; otherwise, whose wait changes and at what cost."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from projections.waiting.compare import Compared, model_error
from service.domain import commands as cmd
from service.domain.events import RunPlaced
from service.domain.flavors import GIB
from tests.support.story import Lasts, Story, spec
from tests.waiting.test_why import a_day
from tests.waiting.whatifs import whatif

#: What a supervisor decides a little late, from what it then sees, is no other order: it is the same moment.
REACTIONS = timedelta(seconds=0.1)


def seconds(each: timedelta | None) -> float | None:
    return None if each is None else round(each.total_seconds(), 1)


def fates(each: Compared) -> tuple[str, str, str]:
    return each.actual.fate.outcome, each.baseline.fate.outcome, each.whatif.fate.outcome


@pytest.mark.parametrize("seed", range(8))
def test_with_nothing_changed_it_is_what_happened(seed: int) -> None:
    """The same runs get their places in the same order and after the same waits; the others end the same."""
    story = a_day(seed).tell(4000)
    found = whatif(story)
    happened = [(event.job, event.run) for event in story.events if isinstance(event.body, RunPlaced)]
    placed = {each.piece.key for each in found.values() if each.baseline.fate.placed_at is not None}
    assert placed == set(happened)
    error = model_error(found.values())
    assert (error.otherwise, error.runs) == (0, len(happened))
    assert error.most < REACTIONS
    for each in found.values():
        assert each.actual.cost == each.baseline.cost
        assert not each.changed
        assert each.actual.wait is None or each.baseline.wait is not None
        if each.actual.wait is not None and each.baseline.wait is not None:
            assert abs(each.actual.wait - each.baseline.wait) < REACTIONS


@pytest.mark.parametrize("seed", [1, 4])
def test_a_part_of_a_day_is_as_exact(seed: int) -> None:
    """From the middle of it on: what was placed and queued then is there, and who was first since when."""
    story = a_day(seed).tell(4000)
    found = whatif(story, since_s=1200, end_s=2400, warm_s=300)
    error = model_error(found.values())
    assert error.runs > 3
    assert (error.otherwise, error.most < REACTIONS) == (0, True), error


# -- quota ------------------------------------------------------------------------------------------


def small_quota(retry_s: float | None = 500) -> tuple[Story, Any, Any]:
    """Two GPUs of quota, four on the node: a job is refused at 100 s, and taken when asked for again."""
    story = Story(cpus=64, gpus=("g0", "g1", "g2", "g3"), projects={"a": (10, 2), "b": (10, 2)})
    first = story.submit(0, "a", Lasts(run_s=400), gpus=2)
    refused = story.submit(100, "a", Lasts(run_s=200), name="again", gpus=2)
    again = story.submit(retry_s, "a", Lasts(run_s=200), name="again", gpus=2) if retry_s else None
    return story.tell(900), (first, refused), again


def test_a_larger_quota_takes_what_was_refused_when_it_was_asked_for() -> None:
    story, (_, refused), again = small_quota()
    found = whatif(story, project="a", quota={"gpu": 4})
    assert (refused, 1) not in found, "its retry is the same work, and is not counted twice"
    each = found[again, 1]
    assert (seconds(each.actual.wait), seconds(each.baseline.wait), seconds(each.whatif.wait)) == (
        400,
        400,
        0,
    )
    assert seconds(each.difference) == seconds(each.moved) == -400
    assert each.cost_difference == Decimal(0)


def test_what_was_never_taken_is_estimated_by_its_kin() -> None:
    """As long as the project's other run of as many units; at today's price."""
    story, (first, refused), _ = small_quota(retry_s=None)
    found = whatif(story, project="a", quota={"gpu": 4})
    each = found[refused, 1]
    assert fates(each) == ("refused", "refused", "placed")
    assert (each.actual.wait, each.difference) == (None, None)
    assert each.piece.course is not None and each.piece.course.estimated
    assert each.whatif.cost == found[first, 1].actual.cost == each.cost_difference
    assert each.changed and not found[first, 1].changed


def test_the_same_quota_leaves_it_refused() -> None:
    story, (_, refused), _ = small_quota(retry_s=None)
    found = whatif(story, project="b", quota={"gpu": 4})
    assert fates(found[refused, 1]) == ("refused", "refused", "refused")
    assert not any(each.changed for each in found.values())


def test_a_smaller_quota_refuses_what_was_taken() -> None:
    story, (first, _), again = small_quota()
    found = whatif(story, project="a", quota={"gpu": 1})
    assert fates(found[first, 1]) == fates(found[again, 1]) == ("placed", "placed", "refused")
    assert found[first, 1].cost_difference == -(found[first, 1].actual.cost or 0)


def test_a_quota_that_was_set_meanwhile_counts_unless_another_is_asked_for() -> None:
    story = Story(cpus=64, projects={"a": (1, 0)})
    story.submit(0, "a", Lasts(run_s=500), cpus=1)
    story.set_quota(50, "a", cpu=3)
    second = story.submit(100, "a", cpus=2)
    story.tell(600)
    assert fates(whatif(story)[second, 1]) == ("placed", "placed", "placed")
    assert fates(whatif(story, project="a", quota={"cpu": 2})[second, 1])[2] == "refused"


# -- capacity ---------------------------------------------------------------------------------------


def busy_node() -> tuple[Story, Any, Any]:
    story = Story(cpus=4)
    first = story.submit(0, "a", Lasts(run_s=300), cpus=4)
    second = story.submit(10, "b", Lasts(run_s=100), cpus=2)
    return story.tell(1000), first, second


def test_a_larger_node_ends_a_wait() -> None:
    story, first, second = busy_node()
    found = whatif(story, cpus=8)
    assert seconds(found[second, 1].baseline.wait) == 293
    assert (seconds(found[second, 1].whatif.wait), found[first, 1].changed) == (0, False)


def test_a_job_that_a_smaller_node_could_never_hold() -> None:
    story, first, second = busy_node()
    found = whatif(story, cpus=3)
    assert fates(found[first, 1]) == ("placed", "placed", "never-fits")
    assert fates(found[second, 1]) == ("placed", "placed", "placed")
    assert seconds(found[second, 1].difference) == -293


def test_what_runs_already_keeps_its_place_on_a_smaller_node() -> None:
    """Asked from 100 s on: the first has its place, and the second needs room beside it."""
    story, first, second = busy_node()
    found = whatif(story, since_s=100, warm_s=100, cpus=2)
    assert (first, 1) not in found
    assert seconds(found[second, 1].difference) == 0


def test_gpus_and_memory_are_asked_for_as_well() -> None:
    story = Story(cpus=64, memory=8 * GIB, gpus=("g0",), projects=dict.fromkeys("abc", (9, 9)))
    story.submit(0, "a", Lasts(run_s=300), gpus=1)
    gpu = story.submit(10, "b", Lasts(run_s=10), gpus=1)
    memory = story.submit(20, "c", Lasts(run_s=10), cpus=1, memory=8)
    story.tell(1000)
    assert seconds(whatif(story, gpus=2)[gpu, 1].whatif.wait) == 0
    assert seconds(whatif(story, memory=64 * GIB)[memory, 1].whatif.wait) == 0


# -- what else there is in a day --------------------------------------------------------------------


def test_a_run_is_priced_by_the_book_of_its_new_place() -> None:
    """Prices triple at 200 s: it would have begun before."""
    story = Story(cpus=4)
    story.submit(0, "a", Lasts(run_s=300), cpus=4)
    second = story.submit(10, "b", Lasts(run_s=600), cpus=2)
    story.set_prices(200, 3)
    story.tell(2000)
    each = whatif(story, cpus=8)[second, 1]
    assert each.actual.cost == each.baseline.cost
    assert each.whatif.cost is not None and each.baseline.cost == 3 * each.whatif.cost
    assert each.cost_difference == -2 * each.whatif.cost


def test_an_order_that_came_while_it_was_queued_still_comes() -> None:
    """It was given up at 200 s. With more room it had run since, and would have been stopped then."""
    story = Story(cpus=4)
    story.submit(0, "a", Lasts(run_s=600), cpus=4)
    given_up = story.submit(10, "b", Lasts(run_s=600), cpus=2)
    story.kill(200, given_up)
    story.tell(2000)
    each = whatif(story, cpus=8)[given_up, 1]
    assert fates(each) == ("given-up", "given-up", "placed")
    assert each.whatif.cost is not None and each.whatif.cost > 0
    assert each.whatif.fate.cut_at is not None
    assert seconds(each.whatif.fate.cut_at - each.whatif.fate.asked_at) == 190


def test_a_run_that_was_started_again_follows_the_one_before() -> None:
    """At 700 s by its owner. On a node that could never hold it, neither run comes."""
    story = Story(cpus=4)
    job = story.submit(0, "a", Lasts(run_s=300), cpus=4)
    story.restart(700, job)
    story.tell(2000)
    found = whatif(story, cpus=8)
    assert [seconds(found[job, run].difference) for run in (1, 2)] == [0, 0]
    found = whatif(story, cpus=2)
    assert [fates(found[job, run])[2] for run in (1, 2)] == ["never-fits", "none"]


def test_another_projects_quota_moves_others_on_the_same_node() -> None:
    """All share it: what `a` gets sooner, `b` waits for longer."""
    story = Story(cpus=2, projects={"a": (1, 0), "b": (9, 0)})
    story.submit(0, "a", Lasts(run_s=100), cpus=1)
    refused = story.submit(5, "a", Lasts(run_s=300), cpus=1, name="x")
    theirs = story.submit(20, "b", Lasts(run_s=50), cpus=1)
    story.tell(1000)
    found = whatif(story, project="a", quota={"cpu": 2})
    assert fates(found[refused, 1]) == ("refused", "refused", "placed")
    assert (found[theirs, 1].difference or timedelta()) > timedelta(seconds=60)


def test_a_body_that_was_refused_does_not_replace_another_of_the_same_idempotency_key() -> None:
    """The key makes the job's id: of all that was asked for with it, one at most was taken."""
    story = Story(cpus=64, gpus=("g0", "g1", "g2"), projects={"a": (10, 2)})
    story.submit(0, "a", Lasts(run_s=400), gpus=1)
    job = story.submit(100, "a", Lasts(run_s=200), name="large", gpus=3)
    for at, name, gpus in ((120, "other", 2), (150, "small", 1)):
        command = cmd.SubmitJob(project="a", job=job, spec=spec(name, gpus=gpus), user="ada")
        story.at(at, partial(story.do, command))
    story.tell(900)
    found = whatif(story, project="a", quota={"gpu": 3})
    assert len(found) == 4
    taken = found[job, 1]
    assert (taken.piece.name, taken.actual.fate.outcome) == ("small", "placed")
    assert taken.actual.cost
    refused = {each.piece.name: each.actual.fate.outcome for each in found.values() if not each.piece.taken}
    assert refused == {"large": "refused", "other": "refused"}
