"""An oracle: what should become of each command, written from design.md without a look at decide.

It keeps the least it can: per job a word for its state and the few orders that bear on its end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from service.domain import commands as cmd

USES_QUOTA = ("QUEUED", "INITIALIZING", "PENDING", "RUNNING")
OVER = ("DONE", "FAILED", "INTERRUPTED", "ERROR")
REFUSED = "refused"
#: Bytes a unit has, of the default flavors.
MODEL_STORAGE = {"cpu": 50 * 2**30, "gpu": 750 * 2**30}


@dataclass
class ModelJob:
    project: str
    kind: str
    units: int
    timeout_s: int
    restarts: bool
    state: str = "QUEUED"
    run: int = 1
    stopped: bool = False
    too_large: bool = False
    overtime: bool = False
    delete: bool = False
    deleted: bool = False
    erased: bool = False
    kept: bool = False
    pushing: str | None = None
    end: str = ""
    due: datetime | None = None
    since: datetime | None = None
    begun: datetime | None = None
    left: datetime | None = None
    """When an order, or its timeout, ended its RUNNING."""


@dataclass
class Model:
    """`expect(command, now)` answers the state the job should be in, or `refused`."""

    epoch: int
    limits: dict[str, dict[str, int]] = field(default_factory=dict)
    jobs: dict[UUID, ModelJob] = field(default_factory=dict)

    def used(self, project: str, kind: str) -> int:
        counted = (j for j in self.jobs.values() if (j.project, j.kind) == (project, kind))
        return sum(job.units for job in counted if job.state in USES_QUOTA)

    def fits(self, project: str, kind: str, units: int) -> bool:
        return self.used(project, kind) + units <= self.limits[project][kind]

    def expect(self, command: Any, now: datetime) -> str:
        if isinstance(command, cmd.SetQuota):
            asked = {"cpu": command.cpu, "gpu": command.gpu}
            self.limits[str(command.project)] |= {kind: n for kind, n in asked.items() if n is not None}
            return "set"
        if isinstance(command, cmd.SubmitJob):
            return self._submit(command, now)
        job = self.jobs.get(command.job)
        if isinstance(command, cmd.RunCommand) and command.epoch != self.epoch:
            return REFUSED
        if job is None or command.project != job.project:
            return REFUSED
        if job.deleted and not isinstance(command, cmd.EraseJob):
            return REFUSED
        if isinstance(command, cmd.RunCommand) and command.run != job.run:
            return REFUSED
        before = job.state
        allowed = getattr(self, "_" + type(command).__name__)(job, command, now)
        if not allowed:
            return REFUSED
        if job.state != before:
            since = max(job.since or now, min(self._at(command, job, before), now))
            if isinstance(command, cmd.ReportExited) and before == "RUNNING" and since == job.since:
                since = min(since + timedelta(microseconds=1), now)
            job.since = since
            if before == "RUNNING" and job.state in ("INTERRUPTING", "TIMEOUT"):
                job.left = since
        return job.state

    def _at(self, command: Any, job: ModelJob, before: str) -> datetime:
        """When a move happened, as far as anybody said so."""
        far = datetime.max.replace(tzinfo=job.since.tzinfo if job.since else None)
        late = cmd.KillJob | cmd.DeleteJob | cmd.EditJob | cmd.ReportStorageExceeded
        if isinstance(command, late) and job.state == "TIMEOUT":
            return job.due or far
        if isinstance(command, cmd.ReportTimeout):
            return job.due or far
        said: datetime = getattr(command, "started_at", None) or getattr(command, "finished_at", None) or far
        return said

    def _submit(self, command: cmd.SubmitJob, now: datetime) -> str:
        wants, project = command.spec.resources, str(command.project)
        if command.job in self.jobs or project not in self.limits:
            return REFUSED
        if not self.fits(project, wants.kind, wants.units):
            return REFUSED
        spec = command.spec
        self.jobs[command.job] = ModelJob(
            project, wants.kind, wants.units, spec.timeout, spec.timeout_auto_restart, since=now
        )
        return "QUEUED"

    # -- users --------------------------------------------------------------------------------------

    def _KillJob(self, job: ModelJob, _command: Any, now: datetime) -> bool:
        if job.state in OVER:
            return False
        job.stopped = True
        if job.state == "QUEUED":
            job.state = "INTERRUPTED"
        elif job.state == "RUNNING" and job.due is not None and now > job.due:
            job.state, job.overtime = "TIMEOUT", True
        elif job.state in ("INITIALIZING", "PENDING", "RUNNING"):
            job.state = "INTERRUPTING"
        return True

    def _DeleteJob(self, job: ModelJob, command: cmd.DeleteJob, now: datetime) -> bool:
        if job.state in OVER:
            if job.pushing is not None and not command.force:
                return False
            job.deleted, job.pushing = True, None
            return True
        if not command.force:
            return False
        self._KillJob(job, command, now)
        job.delete = True
        job.deleted = job.state in OVER
        return True

    def _StartJob(self, job: ModelJob, command: cmd.StartJob, _now: datetime) -> bool:
        if job.erased or job.pushing is not None or (job.kept and not command.discard_volumes):
            return False
        if job.state not in ("DONE", "FAILED", "INTERRUPTED"):
            return False
        if not self.fits(job.project, job.kind, job.units):
            return False
        self._again(job)
        return True

    def _again(self, job: ModelJob) -> None:
        job.state, job.run, job.end, job.due = "QUEUED", job.run + 1, "", None
        job.left = None
        job.stopped = job.overtime = job.kept = job.too_large = False
        job.pushing = None

    def _EditJob(self, job: ModelJob, command: cmd.EditJob, now: datetime) -> bool:
        timeout = job.timeout_s if command.timeout is None else command.timeout
        wanted = command.timeout_auto_restart
        restarts = job.restarts if wanted is None else wanted
        overdue = job.state == "RUNNING" and job.due is not None and now > job.due
        running = job.state == "RUNNING" and not overdue
        due = job.begun + timedelta(seconds=timeout) if running and job.begun else job.due
        if running and due is not None and due <= now and due != job.due:
            return False
        if restarts and timeout < 60:
            return False
        if overdue:
            job.state, job.overtime = "TIMEOUT", True
        job.timeout_s, job.restarts, job.due = timeout, restarts, due
        return True

    def _OpenExec(self, job: ModelJob, _command: Any, _now: datetime) -> bool:
        return job.state == "RUNNING"

    def _EraseJob(self, job: ModelJob, _command: Any, _now: datetime) -> bool:
        """A job that runs needs its secrets."""
        job.erased = job.erased or job.state in OVER
        return job.erased

    def _SetLabel(self, _job: ModelJob, _command: Any, _now: datetime) -> bool:
        return True

    def _SyncData(self, job: ModelJob, command: cmd.SyncData, _now: datetime) -> bool:
        """None of these jobs has a volume: only what was kept can be pushed."""
        if job.state not in OVER or not job.kept or job.pushing is not None:
            return False
        job.pushing = command.sync_id
        return True

    # -- the supervisor -----------------------------------------------------------------------------

    def _PlaceRun(self, job: ModelJob, _command: Any, _now: datetime) -> bool:
        return self._step(job, "INITIALIZING", "QUEUED")

    def _ReportPrepared(self, job: ModelJob, _command: Any, _now: datetime) -> bool:
        return self._step(job, "PENDING", "INITIALIZING")

    def _ReportStarted(self, job: ModelJob, command: cmd.ReportStarted, now: datetime) -> bool:
        begun = max(job.since or now, min(command.started_at, now))
        if not self._step(job, "RUNNING", "PENDING"):
            return False
        job.begun = begun
        job.due = begun + timedelta(seconds=job.timeout_s)
        return True

    def _ReportTimeout(self, job: ModelJob, _command: Any, now: datetime) -> bool:
        if job.state != "RUNNING" or job.due is None or now < job.due:
            return False
        job.overtime = True
        return self._step(job, "TIMEOUT", "RUNNING")

    def _ReportStorageExceeded(self, job: ModelJob, command: Any, now: datetime) -> bool:
        if job.state == "INTERRUPTING":
            return job.too_large  # told twice
        if job.state == "RUNNING" and job.due is not None and now > job.due:
            job.overtime = True
            return self._step(job, "TIMEOUT", "RUNNING")
        if command.used_bytes <= MODEL_STORAGE[job.kind] * job.units or job.state != "RUNNING":
            return False
        job.too_large = True
        return self._step(job, "INTERRUPTING", "RUNNING")

    def _ReportExited(self, job: ModelJob, command: cmd.ReportExited, now: datetime) -> bool:
        if job.state == "RUNNING" and job.due is not None and min(command.finished_at, now) > job.due:
            job.overtime = True
        if not self._step(job, "FINALIZING", "RUNNING", "INTERRUPTING", "TIMEOUT"):
            return False
        begun, clearly = job.begun or now, timedelta(seconds=1)
        set_back = begun - command.finished_at > clearly
        ended = max(command.finished_at, begun + timedelta(microseconds=1))
        if job.left is not None and not set_back and job.left - ended > clearly:
            # It was over by itself before anybody wanted it to be, and so does not start again.
            job.overtime = False
            job.end = "DONE" if command.exit_code == 0 else "FAILED"
            return True
        stopped_by_us = job.stopped or job.overtime
        job.end = "INTERRUPTED" if stopped_by_us else ("DONE" if command.exit_code == 0 else "FAILED")
        if job.too_large:
            job.end = "FAILED"
        return True

    def _AbortRun(self, job: ModelJob, _command: Any, _now: datetime) -> bool:
        if not self._step(job, "FINALIZING", "INITIALIZING", "PENDING", "INTERRUPTING"):
            return False
        job.end = "INTERRUPTED" if job.stopped and not job.too_large else "FAILED"
        return True

    def _FailRun(self, job: ModelJob, command: cmd.FailRun, _now: datetime) -> bool:
        if job.state in OVER:
            return False
        job.state = "ERROR"
        job.kept = command.volumes_kept
        job.deleted = job.delete
        return True

    def _FinalizeRun(self, job: ModelJob, command: cmd.FinalizeRun, _now: datetime) -> bool:
        if job.state != "FINALIZING":
            return False
        again = job.overtime and job.restarts and not job.stopped and command.problem is None
        if again and self.fits(job.project, job.kind, job.units):
            self._again(job)
            return True
        job.state = "FAILED" if command.problem is not None else job.end
        job.kept = command.volumes_kept
        job.deleted = job.delete
        return True

    def _NoteRun(self, job: ModelJob, _command: Any, _now: datetime) -> bool:
        return job.state not in OVER

    def _AdoptRun(self, job: ModelJob, _command: Any, _now: datetime) -> bool:
        return job.state not in (*OVER, "QUEUED")

    def _ReportDataSync(self, job: ModelJob, command: cmd.ReportDataSync, _now: datetime) -> bool:
        if command.sync_id == job.pushing and command.state != "RUNNING":
            job.pushing = None
            job.kept = job.kept and command.state != "DONE"
        return True

    @staticmethod
    def _step(job: ModelJob, target: str, *sources: str) -> bool:
        if job.state not in sources:
            return False
        job.state = target
        return True
