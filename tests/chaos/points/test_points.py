"""A crash at every point of two stories: same end, same bill, one container a run, nothing left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.acceptance.crashing import Witness
from tests.chaos.points.ground import Nursery
from tests.chaos.points.plants import PLANTS
from tests.chaos.points.story import STORIES, Story
from tests.chaos.points.telling import Outcome, Stage, crashes
from tests.chaos.points.verdict import Seen
from tests.data.server import the_store
from tests.images import import_busybox
from tests.support.chaos import Chaos

#: A part of the points of a long run, for one that is done in several.
PART = "JOBYARD_CHAOS_POINTS"
AT_ONCE = 4
FINISHES, INTERRUPTED = STORIES

#: The short form: one point of each kind, in both stories.
SAMPLE = {
    FINISHES.name: (
        "append JobSubmitted, committed and not answered #1",
        "file rename cache/default/*/1 #1",
        "engine create, after #1",
        "store put, after #1",
    ),
    INTERRUPTED.name: ("engine start, after #1", "engine stop, after #1"),
}

#: Where each bug shows, and a word of what is said of it.
SHOWS = {
    "adopts_nothing": ("engine create, after #1", "2 containers were made"),
    "removes_before_it_reports": ("append RunExited, before #1", "ended as ERROR"),
    "answers_before_it_commits": (
        "append JobSubmitted, before its commit #1",
        "answered for and is not there",
    ),
    "forgets_what_it_carried_out": (
        "append JobSubmitted, committed and not answered #1",
        "POST /v1/job was answered with ",  # 409, or 500 where the database refuses its second row
    ),
    "tells_no_absence": ("engine create, after #1", "its run was not told"),
}

#: Of each story: what comes of it without a crash. The same for every test.
_REFERENCES: dict[str, Seen] = {}


@pytest.fixture
async def stage(template_database: str, tmp_path: Path) -> AsyncIterator[Stage]:
    import_busybox()
    with the_store() as access:
        async with Nursery.open() as nursery, Witness().watching() as witness:
            yield Stage(nursery, template_database, access, tmp_path, witness)


async def of_reference(stage: Stage, story: Story) -> Seen:
    if story.name not in _REFERENCES:
        _REFERENCES[story.name], _ = await stage.reference(story)
    return _REFERENCES[story.name]


async def every_point(stage: Stage, story: Story) -> list[str]:
    _REFERENCES[story.name], points = await stage.reference(story)
    return points


async def test_a_crash_at_every_point(stage: Stage, chaos: Chaos) -> None:
    points: dict[str, Sequence[str]] = dict(SAMPLE)
    if chaos.long:
        points = {story.name: await every_point(stage, story) for story in STORIES}
    references = {story.name: asyncio.create_task(of_reference(stage, story)) for story in STORIES}
    work = [
        (story, point, references[story.name]) for story in STORIES for point in chosen(points[story.name])
    ]
    outcomes = await crashes(stage, work, AT_ONCE)
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    missed = [outcome for outcome in outcomes if not outcome.crashed]
    chaos.told(
        "crash at every point",
        points=len(outcomes),
        crashed=len(outcomes) - len(missed),
        lost=_told_of(wrong, "not there"),
        twice=_told_of(wrong, "containers were made"),
        wrong=len(wrong),
    )
    assert not wrong, "\n".join(map(str, wrong))
    # What is done beside each other may come in another order, or not at all: rarely.
    assert len(missed) <= len(outcomes) // 50, "\n".join(each.point for each in missed)


def chosen(points: Sequence[str]) -> Sequence[str]:
    """All of them, or the part of them that the environment names: `2/3` is the second third."""
    number, _, parts = os.environ.get(PART, "1/1").partition("/")
    return points[int(number) - 1 :: int(parts)]


def _told_of(wrong: list[Outcome], word: str) -> int:
    return sum(any(word in each for each in outcome.wrong) for outcome in wrong)


async def test_each_planted_bug_is_found(stage: Stage) -> None:
    assert SHOWS.keys() == PLANTS.keys()
    reference = asyncio.create_task(of_reference(stage, FINISHES))
    outcomes = await asyncio.gather(
        *(stage.crash(FINISHES, point, reference, plant) for plant, (point, _) in SHOWS.items())
    )
    for outcome, (plant, (_, word)) in zip(outcomes, SHOWS.items(), strict=True):
        assert any(word in each for each in outcome.wrong), f"{plant}: {outcome}"
