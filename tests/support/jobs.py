"""Builders of commands and bodies about one job, with plain values where a test does not care."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.flavors import DEFAULT_CATALOGUE, GIB, Kind
from service.domain.spec import JobSpec, Resources, Sealed
from service.domain.states import State

PROJECT = "vision"
ENGINE = "engine-1"
NODE = "node-1"
EPOCH = 7
JOB = UUID("11111111-1111-4111-8111-111111111111")
T0 = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PRICES = {flavor.id: flavor.hourly_price for flavor in DEFAULT_CATALOGUE.flavors}
Fields = dict[str, Any]
SEALED = Sealed("key-1", "bm9uY2U=", "Ym94")


def minutes(count: float) -> datetime:
    """So many minutes after the beginning of the test's time."""
    return T0 + count * MINUTE


def spec(*, kind: Kind = "cpu", units: int = 1, **changed: Any) -> JobSpec:
    """A checked specification, with a timeout of one minute unless another is given."""
    flavor = DEFAULT_CATALOGUE.default(kind)
    assert flavor is not None
    resources = Resources(
        kind=kind,
        units=units,
        flavor=flavor.id,
        cpus=flavor.cpus * units,
        memory=flavor.memory * units,
        ephemeral_storage=flavor.ephemeral_storage * units,
    )
    fields: Fields = {"image": "busybox:latest", "name": "job", "resources": resources, "timeout": 60}
    return JobSpec(**(fields | changed))


def submit(job: UUID = JOB, project: str = PROJECT, **changed: Any) -> cmd.SubmitJob:
    return cmd.SubmitJob(project=project, job=job, spec=spec(**changed), user="ada")


def of_run(job: UUID = JOB, run: int = 1, project: str = PROJECT, epoch: int = EPOCH) -> dict[str, Any]:
    """The fields that every command of a supervisor about a run has."""
    return {"project": project, "engine": ENGINE, "epoch": epoch, "job": job, "run": run}


def place(**changed: Any) -> cmd.PlaceRun:
    return cmd.PlaceRun(**(of_run() | {"node": NODE} | changed))


def prepared(**changed: Any) -> cmd.ReportPrepared:
    return cmd.ReportPrepared(**(of_run() | changed))


def started(at: datetime, **changed: Any) -> cmd.ReportStarted:
    fields = {"started_at": at, "container_id": "c0ffee", "image_id": "sha256:feed"}
    return cmd.ReportStarted(**(of_run() | fields | changed))


def timeout(**changed: Any) -> cmd.ReportTimeout:
    return cmd.ReportTimeout(**(of_run() | changed))


def too_much_storage(used: int = 50 * GIB + 1, **changed: Any) -> cmd.ReportStorageExceeded:
    """A default job has 50 GiB."""
    return cmd.ReportStorageExceeded(**(of_run() | {"used_bytes": used} | changed))


def exited(at: datetime, code: int = 0, *, oom: bool = False, **changed: Any) -> cmd.ReportExited:
    fields = {"finished_at": at, "exit_code": code, "oom_killed": oom}
    return cmd.ReportExited(**(of_run() | fields | changed))


def abort(**changed: Any) -> cmd.AbortRun:
    return cmd.AbortRun(**(of_run() | {"info": ev.Info("no-image", "It cannot be pulled.")} | changed))


def fail(**changed: Any) -> cmd.FailRun:
    return cmd.FailRun(**(of_run() | {"info": ev.Info("lost", "The container is gone.")} | changed))


def finalize(**changed: Any) -> cmd.FinalizeRun:
    return cmd.FinalizeRun(**(of_run() | changed))


def note(**changed: Any) -> cmd.NoteRun:
    return cmd.NoteRun(**(of_run() | {"info": ev.Info("waiting", "There is no room yet.")} | changed))


def adopt(since: datetime, **changed: Any) -> cmd.AdoptRun:
    return cmd.AdoptRun(**(of_run() | {"absent_since": since} | changed))


def sync(state: ev.SyncState = "RUNNING", **changed: Any) -> cmd.ReportDataSync:
    fields: dict[str, Any] = {"sync_id": "s1", "direction": "push", "state": state, "volumes": ()}
    return cmd.ReportDataSync(**(of_run() | fields | changed))


def kill(**changed: Any) -> cmd.KillJob:
    fields: Fields = {"project": PROJECT, "job": JOB}
    return cmd.KillJob(**(fields | changed))


def start(**changed: Any) -> cmd.StartJob:
    fields: Fields = {"project": PROJECT, "job": JOB}
    return cmd.StartJob(**(fields | changed))


def delete(*, force: bool = False, **changed: Any) -> cmd.DeleteJob:
    fields: Fields = {"project": PROJECT, "job": JOB, "force": force}
    return cmd.DeleteJob(**(fields | changed))


def push_again(**changed: Any) -> cmd.SyncData:
    fields: Fields = {"project": PROJECT, "job": JOB, "sync_id": "s2", "direction": "push"}
    return cmd.SyncData(**(fields | changed))


def edit(**changed: Any) -> cmd.EditJob:
    fields: Fields = {"project": PROJECT, "job": JOB}
    return cmd.EditJob(**(fields | changed))


def open_exec(**changed: Any) -> cmd.OpenExec:
    fields: Fields = {"project": PROJECT, "job": JOB, "exec_id": "e1", "command": SEALED}
    return cmd.OpenExec(**(fields | changed))


def label(name: str, value: str | None = None, **changed: Any) -> cmd.SetLabel:
    fields: Fields = {"project": PROJECT, "job": JOB, "name": name, "value": value}
    return cmd.SetLabel(**(fields | changed))


# -- bodies -----------------------------------------------------------------------------------------


def _move(source: State | None, target: State, of: JobSpec) -> dict[str, Any]:
    return {"source": source, "target": target, "kind": of.resources.kind, "units": of.resources.units}


class Bodies:
    """The bodies of one job's events, with the times that a body holds."""

    def __init__(self, of: JobSpec | None = None) -> None:
        self.spec = of or spec()

    def move(self, source: State | None, target: State) -> dict[str, Any]:
        return _move(source, target, self.spec)

    def submitted(self) -> ev.JobSubmitted:
        return ev.JobSubmitted(**self.move(None, State.QUEUED), spec=self.spec, user="ada")

    def queued_again(self, source: State, code: str = "queued", message: str = "") -> ev.RunQueued:
        text = message or "The job was started again and is about to be processed."
        return ev.RunQueued(**self.move(source, State.QUEUED), info=ev.Info(code, text))

    def placed(self) -> ev.RunPlaced:
        flavor = self.spec.resources.flavor
        return ev.RunPlaced(
            **self.move(State.QUEUED, State.INITIALIZING),
            engine=ENGINE,
            node=NODE,
            epoch=EPOCH,
            flavor=flavor,
            hourly_price=PRICES[flavor],
            currency="EUR",
        )

    def prepared(self) -> ev.RunPrepared:
        return ev.RunPrepared(**self.move(State.INITIALIZING, State.PENDING))

    def started(self, at: datetime) -> ev.RunStarted:
        return ev.RunStarted(
            **self.move(State.PENDING, State.RUNNING),
            container_id="c0ffee",
            image_id="sha256:feed",
            timeout_at=at + timedelta(seconds=self.spec.timeout),
        )

    def interrupted(self, source: State, target: State, *, then_delete: bool = False) -> ev.InterruptOrdered:
        info = ev.Info("interrupting", "An interrupt order was received and is about to be processed.")
        if target is State.INTERRUPTED:
            info = ev.Info("interrupted", "The job was interrupted before anything had been made for it.")
        return ev.InterruptOrdered(**self.move(source, target), info=info, then_delete=then_delete)

    def timed_out(self) -> ev.TimeoutReached:
        return ev.TimeoutReached(**self.move(State.RUNNING, State.TIMEOUT))

    def beyond_storage(self, used: int, message: str) -> ev.StorageExceeded:
        limit = self.spec.resources.ephemeral_storage
        return ev.StorageExceeded(
            **self.move(State.RUNNING, State.INTERRUPTING),
            used_bytes=used,
            limit_bytes=limit,
            info=ev.Info("ephemeral-storage", message, {"used": used, "limit": limit}),
        )

    def exited(
        self, source: State, outcome: State, info: ev.Info, code: int = 0, *, oom: bool = False
    ) -> ev.RunExited:
        return ev.RunExited(
            **self.move(source, State.FINALIZING),
            exit_code=code,
            oom_killed=oom,
            outcome=outcome,
            info=info,
        )

    def aborted(self, source: State, outcome: State) -> ev.RunAborted:
        info = ev.Info("no-image", "It cannot be pulled.")
        return ev.RunAborted(**self.move(source, State.FINALIZING), outcome=outcome, info=info)

    def finalized(self, target: State, info: ev.Info, *, kept: bool = False) -> ev.RunFinalized:
        return ev.RunFinalized(**self.move(State.FINALIZING, target), info=info, volumes_kept=kept)

    def errored(self, source: State) -> ev.RunErrored:
        info = ev.Info("lost", "The container is gone.")
        return ev.RunErrored(**self.move(source, State.ERROR), info=info)


DONE = ev.Info("done", "The job ended normally.", {"exitCode": 0})
CODE_1 = ev.Info("exit-code", "The process ended with code 1.", {"exitCode": 1})
TIMED_OUT = ev.Info("timeout", "The job was stopped because its timeout was reached.", {"exitCode": 143})


def project_created(cpu: int = 10, gpu: int = 4) -> ev.ProjectCreated:
    return ev.ProjectCreated(name="Vision", cpu=cpu, gpu=gpu)


def prices_set(prices: dict[str, Decimal] | None = None) -> ev.PricesSet:
    return ev.PricesSet(prices=prices or PRICES, valid_from=T0)
