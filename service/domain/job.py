"""The state of one job: what `decide` looks at, what `evolve` makes of the events, what a read answers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec

from service.domain.events import Direction, Info, SyncState, VolumeProgress
from service.domain.spec import JobSpec
from service.domain.states import ENDED, MEANING, State

#: What a job says of itself once its timeout is reached, whoever is the first to say so.
TIMED_OUT = Info("timeout", MEANING[State.TIMEOUT])

#: Why a run is ERROR of whose process nobody knows how it ended, and maybe not whether it began.
CONTAINER_LOST, ENGINE_GONE = "container-lost", "engine-gone"


class Visit(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """One line of the history: the job entered `state` at `date`, in `run`, by the event at `position`."""

    state: State
    date: datetime
    run: int
    position: int


class DataSync(msgspec.Struct, frozen=True, rename="camel"):
    """`volumes` is how far each is; `volume` the one it was ordered for, None for all that can be moved."""

    id: str
    direction: Direction
    manual: bool
    run: int
    state: SyncState
    created_at: datetime
    updated_at: datetime
    volumes: tuple[VolumeProgress, ...]
    message: str = ""
    volume: int | None = None


class VolumeMoved(msgspec.Struct, frozen=True, rename="camel"):
    """A volume's data moved in this direction, by a synchronisation that was made at `created_at`."""

    volume: int
    direction: Direction
    created_at: datetime


def last_moved(
    before: Iterable[VolumeMoved], syncs: Iterable[DataSync]
) -> dict[tuple[int, Direction], datetime]:
    """When each volume last moved in each direction: by these synchronisations or, if by none, before."""
    found = {(each.volume, each.direction): each.created_at for each in before}
    for sync in syncs:
        if sync.state == "DONE":
            moved = (each.volume for each in sync.volumes if each.state != "FAILED")
            found |= {(volume, sync.direction): sync.created_at for volume in moved}
    return found


class SyncOrder(msgspec.Struct, frozen=True, rename="camel"):
    """A data synchronisation that was asked for and has not ended. `volume` None: all that can be."""

    id: str
    direction: Direction
    volume: int | None
    ordered_at: datetime


class Job(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """A job with its current run. Times of steps not reached in this run are None.

    `history` and `data_syncs` are the newest; `moved_before` says when volumes moved where no synchronisation
    that is still among them does.
    `verdict` is the reason of its end once that is known: `info` may tell meanwhile what its data waits for.
    `position` is its latest event; `queued_position` orders the queue; `outcome` is what FINALIZING will
    end as; `started_at` and `stopped_at` bound RUNNING; `storage_used` is the bytes that were more than the
    run might take of the node's storage, for which it was stopped; `erased_at` is when its key was destroyed.
    """

    id: UUID
    project: str
    run: int
    state: State
    spec: JobSpec
    user: str
    token_label: str | None = None
    created_at: datetime
    updated_at: datetime
    position: int
    created_position: int
    queued_position: int
    queued_at: datetime
    initializing_at: datetime | None = None
    pending_at: datetime | None = None
    started_at: datetime | None = None
    stopped_at: datetime | None = None
    finalized_at: datetime | None = None
    timeout_at: datetime | None = None
    last_transition_at: datetime
    exit_code: int | None = None
    oom_killed: bool = False
    outcome: State | None = None
    timed_out: bool = False
    interrupt_ordered: bool = False
    storage_used: int | None = None
    info: Info
    verdict: Info | None = None
    engine: str | None = None
    node: str | None = None
    gpus: tuple[str, ...] = ()
    container_id: str | None = None
    image_digest: str | None = None
    ip: str | None = None
    volumes_kept: bool = False
    push_ordered: str | None = None
    sync_orders: tuple[SyncOrder, ...] = ()
    delete_when_ended: bool = False
    deleted: bool = False
    erased_at: datetime | None = None
    history: tuple[Visit, ...] = ()
    data_syncs: tuple[DataSync, ...] = ()
    moved_before: tuple[VolumeMoved, ...] = ()

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def may_have_run(self) -> bool:
        """Whether the current run's process began, or may have where nobody heard of it: it was about to be
        started when its engine, or its container, was last seen."""
        if self.started_at is not None or self.exit_code is not None:
            return True
        unknown = self.state is State.ERROR and self.info.code in (CONTAINER_LOST, ENGINE_GONE)
        last = self.history[-2].state if unknown and len(self.history) > 1 else self.state
        return self.pending_at is not None and last in (State.PENDING, State.INTERRUPTING)
