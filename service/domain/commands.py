"""The commands: what somebody wants done. Ids, times and secrets already sealed come in with them."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from service.domain.events import Direction, Info, SyncState, VolumeProgress
from service.domain.gitstores import GitKeys
from service.domain.selectors import Selector
from service.domain.spec import JobSpec, Place, Sealed
from service.domain.states import State


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every command. `project` is None for those about the whole yard."""

    project: str | None = None


# -- from users -------------------------------------------------------------------------------------


class FirstToken(msgspec.Struct, frozen=True):
    """The administrator's token that a project is made with. `sha256` is hexadecimal, of its value."""

    token_id: str
    sha256: str


class CreateProject(Command, frozen=True):
    name: str
    cpu: int
    gpu: int
    token: FirstToken | None = None


class SetQuota(Command, frozen=True):
    """Units; None leaves that limit as it is."""

    cpu: int | None = None
    gpu: int | None = None


class CreateToken(Command, frozen=True):
    token_id: str
    name: str
    role: str
    sha256: str
    label_selector: str | None = None


class RenewToken(Command, frozen=True):
    """A new value for a token; the old one stops working. `sha256` is hexadecimal, of the new value."""

    token_id: str
    sha256: str


class RevokeToken(Command, frozen=True):
    token_id: str


class SetDataStore(Command, frozen=True):
    """`replace` False refuses an alias that exists; True refuses one that does not.

    `DataStore` says which of the fields are set for which type.
    """

    alias: str
    endpoint: str
    kind: Literal["s3", "git"] = "s3"
    region: str | msgspec.UnsetType = msgspec.UNSET
    access_key: Sealed | msgspec.UnsetType = msgspec.UNSET
    secret_key: Sealed | msgspec.UnsetType = msgspec.UNSET
    git: GitKeys | msgspec.UnsetType = msgspec.UNSET
    owner: str = "customer"
    replace: bool = False


class RemoveDataStore(Command, frozen=True):
    alias: str


class SetRegistry(Command, frozen=True):
    """`replace` False attaches a registry, and needs every field; True changes those that are not None.

    `user` is who attached it: a change leaves it as it was.
    """

    registry_id: str
    user: str
    url: str | None = None
    username: str | None = None
    password: Sealed | None = None
    replace: bool = False


class RemoveRegistry(Command, frozen=True):
    registry_id: str


class CreateVolume(Command, frozen=True):
    """At most one of `source`, `git` and `url`; none makes a standalone volume.

    `cache_asked`: somebody said so; else it is what is usual, where that can be.
    """

    volume_id: str
    cache: bool = False
    cache_asked: bool = False
    source: Place | None = None
    git: str | None = None
    url: str | None = None


class DeleteVolume(Command, frozen=True):
    volume_id: str


class SetPrices(Command, frozen=True):
    prices: dict[str, Decimal]
    currency: str
    valid_from: datetime | None = None


class JobCommand(Command, frozen=True, kw_only=True):
    """`scope` is that of the sender's token: for it there are no jobs but those."""

    job: UUID
    scope: Selector | None = None


class SubmitJob(JobCommand, frozen=True):
    spec: JobSpec
    user: str
    token_label: str | None = None


class KillJob(JobCommand, frozen=True):
    pass


class StartJob(JobCommand, frozen=True):
    """A new run. `discard_volumes` gives up what the last one could not push and was kept."""

    discard_volumes: bool = False


class DeleteJob(JobCommand, frozen=True):
    """`force` stops a live job first and deletes it as soon as it has ended."""

    force: bool = False


class OpenExec(JobCommand, frozen=True):
    """A command is about to be run in the job's container."""

    exec_id: str
    command: Sealed
    tty: bool = False


class EditJob(JobCommand, frozen=True):
    """None leaves that as it is. `timeout` is seconds of RUNNING, counted from the run's start."""

    timeout: int | None = None
    timeout_auto_restart: bool | None = None


class SetLabel(JobCommand, frozen=True):
    """`value` None takes the label away."""

    name: str
    value: str | None = None


class SyncData(JobCommand, frozen=True):
    """Pull or push while the job runs: one volume, by its index, or all that can be (None).

    Of a job that has ended: push the volumes that were kept because their push had failed.
    """

    sync_id: str
    direction: Direction
    volume: int | None = None


# -- from the supervisor ----------------------------------------------------------------------------


class EngineCommand(Command, frozen=True):
    """Base of what a supervisor says. Refused when `epoch` is not the engine's current one."""

    engine: str
    epoch: int


class StartSupervisor(EngineCommand, frozen=True):
    """`cpus`, `memory` (bytes) and `gpus` are what jobs can have of the node in all."""

    node: str
    absent_since: datetime | None = None
    cpus: int = 0
    memory: int = 0
    gpus: int = 0


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
    finished_at: datetime
    exit_code: int
    oom_killed: bool


class AbortRun(RunCommand, frozen=True):
    """The run cannot go on and its user can mend it, or it was interrupted before its process ran."""

    info: Info


class FailRun(RunCommand, frozen=True):
    """The run cannot go on and it is our fault."""

    info: Info


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


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A command on its way to the ledger, with who sent it and the id by which it is known for ever.

    `digest` tells a repeat of the same request from another one under the same id; None skips the check.
    """

    id: UUID
    command: Any
    actor: str
    request_id: str | None = None
    digest: bytes | None = None


#: The states a run may end in, as FINALIZING knows them.
OUTCOMES = frozenset({State.DONE, State.FAILED, State.INTERRUPTED})
