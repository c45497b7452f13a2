"""As of any moment of the past, everything is read exactly as it was read then."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from service.api import past, views
from tests.api.past import ALL, Clock, Seen, Walk, clocked, lived
from tests.api.yard import Answer, Yard, gathered
from tests.properties.test_any_order import PROJECTS
from tests.support.specification import folded

PAIRS = 1000
STEPS = 300
MOMENTS = 60
AT_ONCE = 10


@pytest.fixture
async def timed(
    template_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Yard, Clock]]:
    async with clocked(template_database, tmp_path, monkeypatch) as made:
        yield made


@dataclass(frozen=True)
class Moment:
    """What is asked for, the position and the time that it stands for, and what was read then, if it was."""

    kind: str
    asked: str
    position: int
    at: datetime
    seen: Seen | None


class Moments:
    """Moments of a history, at random."""

    def __init__(self, walk: Walk, seen: list[Seen], chance: Random) -> None:
        self.walk, self.seen, self.chance = walk, seen, chance
        self.times = [each.at for each in seen]
        ends = {each.position for each in seen}
        inside = range(seen[0].position, seen[-1].position)
        self.amid = [position for position in inside if position not in ends]

    def any(self) -> Moment:
        return self.of(self.chance.choice(("position", "recorded", "between", "amid")))

    def of(self, kind: str) -> Moment:
        at = self.chance.randrange(len(self.seen) - 1)
        found = self.seen[at]
        if kind == "position":
            return Moment(kind, str(found.position), found.position, found.at, found)
        if kind == "amid":
            position = self.chance.choice(self.amid)
            return Moment(
                kind, str(position), position, self.walk.ledger.events[position - 1].recorded_at, None
            )
        time = found.at
        if kind == "between":
            after = next((each for each in self.times[at:] if each > time), time + timedelta(hours=1))
            time += (after - time) * self.chance.random()
        found = self.seen[bisect_right(self.times, time) - 1]
        return Moment(kind, quote(time.isoformat()), found.position, time, found)

    def jobs(self, yard: Yard, moment: Moment, project: str) -> dict[str, Any]:
        """The jobs of a project, as they were read, or amid a commit as the events until there make them."""
        if moment.seen is None:
            return {job["id"]: job for job in self.folded(yard, moment, project)}
        jobs = moment.seen.answers[ALL, project]["items"]
        return {job["id"]: _later(job, moment.at) for job in jobs}

    def folded(self, yard: Yard, moment: Moment, project: str) -> list[Any]:
        """From the first event on, newest first."""
        rows = folded(self.walk.ledger.events[: moment.position])
        found = [row for (fold, _), row in rows.items() if fold == "status"]
        there = [job for job in found if job.project == project and not job.deleted]
        there.sort(key=lambda job: -job.created_position)
        settings = yard.settings
        ours = {"public_url": settings.public_url, "ssh_address": settings.ssh_address}
        return [
            msgspec.to_builtins(views.job(job, now=moment.at, secrets=None, job_domain="", **ours))
            for job in there
        ]


def _later(job: Any, at: datetime) -> Any:
    """A job as it reads later on when nothing happened: only the time goes on."""
    status = job["status"]
    if status["startedAt"] is None or status["stoppedAt"] is not None:
        return job
    ran = max(0, int((at - datetime.fromisoformat(status["startedAt"])).total_seconds()))
    return job | {"status": status | {"duration": ran}}


async def test_every_read_as_of_a_moment_is_what_was_read_then(timed: tuple[Yard, Clock]) -> None:
    yard, clock = timed
    walk = Walk(seed=4, steps=STEPS)
    seen = await lived(yard, clock, walk)
    await clock.wait(100_000)
    moments = Moments(walk, seen, Random(1))
    await _pairs(yard, moments)
    for _ in range(MOMENTS):
        await _whole(yard, moments, moments.any())


async def _pairs(yard: Yard, moments: Moments) -> None:
    """A thousand random jobs, each as of a random moment."""
    met: Counter[str] = Counter()
    of = {
        name: [str(id) for id, job in moments.walk.model.jobs.items() if job.project == name]
        for name in PROJECTS
    }

    async def pair(_: int) -> None:
        project = moments.chance.choice(PROJECTS)
        job = moments.chance.choice(of[project])
        moment = moments.any()
        expected = moments.jobs(yard, moment, project).get(job)
        answer = await yard.call("GET", f"/v1/job/{job}?asOf={moment.asked}", token=project)
        _equal(answer, moment, expected)
        met[moment.kind] += 1
        met["there" if expected else "not there"] += 1
        if expected:
            met[expected["status"]["state"]] += 1

    for _ in range(PAIRS // AT_ONCE):
        await gathered(AT_ONCE, pair)
    assert met["there"] > PAIRS // 3
    for kind in ("position", "recorded", "between", "amid", "not there"):
        assert met[kind] > PAIRS // 10, met
    assert len(met) > 12, met


def _equal(answer: Answer, moment: Moment, expected: Any) -> None:
    if expected is None:
        assert answer.status == 404, (moment, answer.raw)
        assert past.HEADER not in answer.headers
        return
    assert (answer.status, answer.json) == (200, _plain(expected)), moment
    assert answer.headers[past.HEADER] == str(moment.position)


async def _whole(yard: Yard, moments: Moments, moment: Moment) -> None:
    """Everything that was read at a moment, and where nobody could read, what the events make of it."""
    if moment.seen is None:
        await _amid(yard, moments, moment)
        return
    for (query, token), then in moment.seen.answers.items():
        joined = "&" if "?" in query else "?"
        answer = await yard.call("GET", f"{query}{joined}asOf={moment.asked}", token=token)
        assert (answer.status, answer.headers[past.HEADER]) == (200, str(moment.position))
        found, before = answer.json, dict(then)
        pages, pages_then = found.pop("metadata", {}), before.pop("metadata", {})
        if query.startswith("/v1/job"):
            before["items"] = [_later(job, moment.at) for job in before["items"]]
        assert found == before, (query, token, moment)
        assert _counts(pages) == _counts(pages_then), (query, token, moment)


def _counts(metadata: Any) -> Any:
    """What a list says of itself, but for where its links lead to."""
    return metadata | {"links": sorted(metadata.get("links", {}))}


async def _amid(yard: Yard, moments: Moments, moment: Moment) -> None:
    rows = folded(moments.walk.ledger.events[: moment.position])
    for project in PROJECTS:
        listed = await yard.call("GET", f"{ALL}&asOf={moment.asked}", token=project)
        assert listed.json["items"] == _plain(moments.folded(yard, moment, project))
        quota = (await yard.call("GET", f"/v1/quota?asOf={moment.asked}", token=project)).json
        made = rows.get("quota", project)
        assert (quota["cpu"], quota["gpu"]) == (made.cpu, made.gpu)
        assert (quota["cpuUsed"], quota["gpuUsed"]) == (made.cpu_used, made.gpu_used)
        bill = (await yard.call("GET", f"/v1/billing?asOf={moment.asked}", token=project)).json
        lines = {(line["job"], line["run"]): line for line in bill["items"]}
        runs = [row for (fold, _), row in rows.items() if fold == "billing" and row.project == project]
        assert set(lines) == {(run.job, run.run) for run in runs}
        for run in runs:
            line = lines[run.job, run.run]
            assert (line["minutes"], line["amount"]) == (run.minutes, str(run.net))
            assert tuple(line["positions"]) == run.positions


def _plain(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))
