"""What users want done with a job."""

from __future__ import annotations

from uuid import UUID

from service.domain.commands.base import Command
from service.domain.events import Direction, Session
from service.domain.selectors import Selector
from service.domain.spec import JobSpec, Sealed


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
    """`force` stops a live job first and deletes it as soon as it has ended; of one that has ended it gives
    up kept volumes that are being pushed."""

    force: bool = False


class OpenExec(JobCommand, frozen=True):
    """Somebody is about to go into the job's container; see `events.ExecOpened`."""

    exec_id: str
    command: Sealed
    tty: bool = False
    session: Session = "exec"


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
