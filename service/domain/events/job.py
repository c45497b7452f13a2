"""What happens to a job, or to one of its runs, without moving it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from service.domain.events.base import Body, Direction, Info, Session, SyncState
from service.domain.spec import Sealed


class RunNoted(Body, frozen=True):
    """Nothing moved, but there is a new reason why the job is where it is."""

    info: Info


class RunAdopted(Body, frozen=True):
    """A supervisor found this run after nobody had looked after it since `absent_since`.

    It happened when care was taken up again. Users do not pay for the gap: see `pricing`.
    """

    engine: str
    epoch: int
    absent_since: datetime


class VolumeProgress(msgspec.Struct, frozen=True, rename="camel"):
    """Objects and bytes moved so far for one volume, by its index in the specification.

    `left_out` of them were not moved, for reasons of which `notes` begins with the first few; what else is
    noted is about none of these. Older events do not have it: all their notes are reasons.
    """

    volume: int
    state: SyncState = "RUNNING"
    total: int = 0
    processed: int = 0
    completed: int = 0
    skipped: int = 0
    failed: int = 0
    deleted: int = 0
    transferred_bytes: int = 0
    total_bytes: int = 0
    notes: tuple[str, ...] = ()
    left_out: int | msgspec.UnsetType = msgspec.UNSET

    @property
    def count_left_out(self) -> int:
        return len(self.notes) if isinstance(self.left_out, msgspec.UnsetType) else self.left_out

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why some were left out: of the first few of them."""
        return self.notes[: self.count_left_out]


class DataSyncMoved(Body, frozen=True):
    """A data synchronisation of the run began, went on, or ended; the last one of an id stands."""

    sync_id: str
    direction: Direction
    state: SyncState
    volumes: tuple[VolumeProgress, ...]
    manual: bool = False
    message: str = ""


class PushOrdered(Body, frozen=True):
    """The volumes kept after a failed push are to be pushed once more."""

    sync_id: str


class SyncOrdered(Body, frozen=True):
    """The volumes of a run that is RUNNING are to be pulled or pushed: one, by its index, or all (None)."""

    sync_id: str
    direction: Direction
    volume: int | None = None


class ExecOpened(Body, frozen=True):
    """Somebody went into the container of a run. `command` is the sealed JSON list of the words.

    By SSH the words are of what was asked for: nothing for a login `shell`, the one line of a `command`,
    `sftp`, or the port that a `forward` leads to.
    """

    exec_id: str
    command: Sealed
    tty: bool = False
    session: Session = "exec"


class JobEdited(Body, frozen=True):
    """`timeout` in seconds and whether the job restarts at it, from now on. `timeout_at`: of this run."""

    timeout: int
    timeout_auto_restart: bool
    timeout_at: datetime | None = None


class LabelSet(Body, frozen=True):
    """A label was given a value, or taken away (None)."""

    name: str
    value: str | None = None


class JobDeleted(Body, frozen=True):
    """The job is no longer listed or answered. Its events, its bill and its audit trail stay."""
