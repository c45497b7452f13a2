"""What a job's row tells of its past: the newest states, and when its volumes moved, however many."""

from __future__ import annotations

from datetime import datetime

import msgspec

from service.api import views
from service.domain import events as ev
from service.domain.evolve import SYNCS_SHOWN, VISITS_KEPT, evolve
from service.domain.job import Job
from service.domain.spec import Permission, Place, Volume
from service.domain.states import State
from tests.support import jobs
from tests.support.jobs import Bodies, minutes
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


def _synced(number: int, direction: ev.Direction, state: ev.SyncState, *volumes: int) -> ev.DataSyncMoved:
    moved = tuple(ev.VolumeProgress(volume, state) for volume in volumes)
    return ev.DataSyncMoved(f"s{number}", direction, state, moved, manual=True)


def _shown_after(*bodies: ev.Body) -> list[tuple[int | None, int | None]]:
    """Of each of two volumes the minute in which it was last pulled, and pushed."""
    volumes = tuple(Volume(f"/{name}", Permission.RWD, Place("s3", name)) for name in ("a", "b"))
    job: Job | None = None
    for position, body in enumerate((Bodies(jobs.spec(volumes=volumes)).submitted(), *bodies)):
        job = evolve(job, happened(position, body, minutes(position), 1, minutes(position)))
    assert job is not None
    assert len(job.data_syncs) <= SYNCS_SHOWN
    status = views.job(job, now=minutes(0), secrets=None, public_url="http://h", job_domain="h").status
    return [
        (_minute(each.last_pulled_created_at), _minute(each.last_pushed_created_at))
        for each in status.volumes
    ]


def _minute(at: datetime | None) -> int | None:
    return None if at is None else (at - jobs.T0) // jobs.MINUTE


def test_a_volume_says_when_it_was_last_pulled_however_often_it_was_pushed_since() -> None:
    """A job shows its last synchronisations; what those before them did to its volumes stays."""
    pulled = (
        _synced(0, "pull", "RUNNING", 0, 1),
        _synced(0, "pull", "DONE", 0, 1),
        _synced(1, "push", "DONE", 1),
    )
    often = [_synced(number, "push", "DONE", 0) for number in range(2, 2 + 2 * SYNCS_SHOWN)]
    assert _shown_after(*pulled, *often) == [(1, 3 + len(often)), (1, 3)]
    failed = [_synced(number, "push", "FAILED", 0) for number in range(100, 100 + SYNCS_SHOWN)]
    assert _shown_after(*pulled, *often, *failed) == [(1, 3 + len(often)), (1, 3)]
    again = _synced(200, "pull", "DONE", 0)
    assert _shown_after(*pulled, *often, *failed, again) == [
        (4 + len(often) + len(failed), 3 + len(often)),
        (1, 3),
    ]


def test_a_row_has_no_more_than_its_synchronisations_leave_unsaid() -> None:
    """So rows of before are as they would be made today, but of what they forgot."""
    often = [_synced(number, "push", "DONE", 0) for number in range(2 * SYNCS_SHOWN)]
    job: Job | None = None
    for position, body in enumerate((B.submitted(), *often)):
        job = evolve(job, happened(position, body, minutes(position), 1, minutes(position)))
    assert job is not None
    assert "movedBefore" not in msgspec.to_builtins(job)
