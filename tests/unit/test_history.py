"""The states that a job's row tells of: the newest, however often it was started again."""

from __future__ import annotations

import msgspec

from service.api import views
from service.domain import events as ev
from service.domain.evolve import VISITS_KEPT, evolve
from service.domain.job import Job
from service.domain.states import State
from tests.support.jobs import minutes
from tests.support.specification import happened
from tests.unit.histories import B

S = State
STARTED = ev.RunQueued(source=S.INTERRUPTED, target=S.QUEUED, kind="cpu", units=1, info=ev.Info("queued", ""))


def started_again(times: int) -> tuple[Job, int]:
    """A job that was killed in the queue and started again so often; and its visits in all."""
    bodies: list[ev.Body] = [B.submitted()]
    for _ in range(times):
        bodies += [B.interrupted(S.QUEUED, S.INTERRUPTED), STARTED]
    job: Job | None = None
    run = 1
    for position, body in enumerate(bodies, start=1):
        run += isinstance(body, ev.RunQueued)
        job = evolve(job, happened(position, body, minutes(position), run, minutes(position)))
    assert job is not None
    return job, len(bodies)


def test_a_row_keeps_the_newest_visits() -> None:
    """It is written anew for each event of the job, while all others wait."""
    few, visits = started_again(VISITS_KEPT // 2 - 1)
    assert [each.position for each in few.history] == list(range(1, visits + 1))
    many, visits = started_again(VISITS_KEPT)
    assert [each.position for each in many.history] == list(range(visits + 1 - VISITS_KEPT, visits + 1))
    assert [each.state for each in many.history[-3:]] == [S.QUEUED, S.INTERRUPTED, S.QUEUED]
    assert (many.run, many.history[-1].run) == (VISITS_KEPT + 1, VISITS_KEPT + 1)
    assert len(msgspec.json.encode(many)) < 100 * VISITS_KEPT + 2000


def test_of_a_longer_row_as_much_is_shown() -> None:
    """An earlier program left out nothing: its rows say what those of now do."""
    job, _ = started_again(VISITS_KEPT)
    older = msgspec.structs.replace(job, history=(*[job.history[0]] * 7, *job.history))
    shown, wanted = (
        views.job(each, now=minutes(9), secrets=None, public_url="http://h", job_domain="h")
        for each in (older, job)
    )
    assert shown == wanted
    assert len(shown.status.history) == VISITS_KEPT
