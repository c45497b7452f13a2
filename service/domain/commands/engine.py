"""What a supervisor reports or wants done, about its engine and its runs."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from service.domain.commands.base import Command
from service.domain.events import Direction, Info, SyncState, VolumeProgress
from service.domain.states import State


class EngineCommand(Command, frozen=True):
    """Base of what a supervisor says. Refused when `epoch` is not the engine's current one."""

    engine: str
    epoch: int


class StartSupervisor(EngineCommand, frozen=True):
    """`cpus`, `memory` (bytes) and `gpus` are what jobs can have of the node in all; see `SupervisorStarted`
    for the others."""

    node: str
    absent_since: datetime | None = None
    cpus: int = 0
    memory: int = 0
    gpus: int = 0
    devices: tuple[str, ...] = ()
    gpu_trouble: str = ""
    patience_ms: int = 300_000


class SetAdmission(EngineCommand, frozen=True):
    """No run begins on the node because of `stopped`; None: they do again."""

    node: str
    stopped: Info | None = None


class RunCommand(EngineCommand, frozen=True):
    """About one run; refused when the job is already in another."""

    job: UUID
    run: int


class PlaceRun(RunCommand, frozen=True):
    node: str
    gpus: tuple[str, ...] = ()


class NoteRun(RunCommand, frozen=True):
    info: Info


class AdoptRun(RunCommand, frozen=True):
    absent_since: datetime


class ReportPrepared(RunCommand, frozen=True):
    pass


class ReportStarted(RunCommand, frozen=True):
    started_at: datetime
    container_id: str
    image_id: str
    image_digest: str | None = None
    ip: str | None = None


class ReportTimeout(RunCommand, frozen=True):
    pass


class ReportStorageExceeded(RunCommand, frozen=True):
    """The run takes more of the node's storage than it may: `used_bytes`, as far as it was added up."""

    used_bytes: int


class ReportExited(RunCommand, frozen=True):
    """`engine_away_since`: the process was last seen running then, and before it was seen to have ended the
    engine did not answer. `unknown`: it died in that time and missed the end, so that the code is not the
    process's own; or it died as it started the process, so that the code may be the cut's; or it lost hold of
    the process, and had it killed.
    `stopped_outside`: the engine had told the process to end, and not for us. `by_us`: it was seen running
    until this service stopped it, whatever the engine's clock says."""

    finished_at: datetime
    exit_code: int
    oom_killed: bool
    engine_away_since: datetime | None = None
    unknown: bool = False
    stopped_outside: bool = False
    by_us: bool = False


class AbortRun(RunCommand, frozen=True):
    """The run cannot go on and its user can mend it, or it was interrupted before its process ran."""

    info: Info


class FailRun(RunCommand, frozen=True):
    """The run cannot go on and it is our fault. `volumes_kept`: what it was to push is kept on the node."""

    info: Info
    volumes_kept: bool = False


class FinalizeRun(RunCommand, frozen=True):
    """Everything is put away. `problem` says what could not be: a push that failed makes the job FAILED.

    `remark` is added to what the run's end says: what its user should know of it although it is no failure.
    """

    problem: Info | None = None
    remark: Info | None = None
    volumes_kept: bool = False


class ReportDataSync(RunCommand, frozen=True):
    sync_id: str
    direction: Direction
    state: SyncState
    volumes: tuple[VolumeProgress, ...]
    manual: bool = False
    message: str = ""


#: The states a run may end in, as FINALIZING knows them.
OUTCOMES = frozenset({State.DONE, State.FAILED, State.INTERRUPTED})
