"""What moves a job from one state to another."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from service.domain.events.base import Body, Info
from service.domain.flavors import Kind
from service.domain.spec import JobSpec
from service.domain.states import State


class Move(Body, frozen=True):
    """A job went from `source` to `target` (None: it did not exist), holding `units` of `kind`."""

    source: State | None
    target: State
    kind: Kind
    units: int


class JobSubmitted(Move, frozen=True):
    spec: JobSpec
    user: str
    token_label: str | None = None


class RunQueued(Move, frozen=True):
    """A new run of a job that had ended: it was started again, or restarts after its timeout."""

    info: Info


class RunPlaced(Move, frozen=True):
    """INITIALIZING: the run has a place on a node, at the price in force now."""

    engine: str
    node: str
    epoch: int
    flavor: str
    hourly_price: Decimal
    currency: str
    gpus: tuple[str, ...] = ()


class RunPrepared(Move, frozen=True):
    """PENDING: the run's volumes are there."""


class RunStarted(Move, frozen=True):
    """RUNNING: the container runs. Happened at the engine's own start time of it."""

    container_id: str
    image_id: str
    timeout_at: datetime
    image_digest: str | None = None
    ip: str | None = None


class InterruptOrdered(Move, frozen=True):
    """INTERRUPTING, or INTERRUPTED at once when nothing had been made yet."""

    info: Info
    then_delete: bool = False


class TimeoutReached(Move, frozen=True):
    """TIMEOUT. Happened when the time was up, however late it was noticed."""


class StorageExceeded(Move, frozen=True):
    """INTERRUPTING: the run took `used_bytes` of the node's storage, and might take `limit_bytes`."""

    used_bytes: int
    limit_bytes: int
    info: Info


class RunExited(Move, frozen=True):
    """FINALIZING: the process ended. Happened at the engine's own finish time of the container.

    `engine_away_since`: the process was last seen running then, and after that the engine did not answer.
    `unknown`: the engine died and missed the end, so that nobody knows how it was: the code is the engine's.
    Or it died as it started the process, which then failed: by itself, or as nobody took what it printed.
    Or it lost hold of the process, and had it killed.
    `stopped_outside`: before its end the container was told to stop, and by no order to this service.
    `ended_at`: it had ended by itself then, before the order or the timeout by which the run left RUNNING:
    it is judged and billed by that. The event itself happened after the one before it, as all do.
    """

    exit_code: int
    oom_killed: bool
    outcome: State
    info: Info
    engine_away_since: datetime | None = None
    unknown: bool = False
    stopped_outside: bool = False
    ended_at: datetime | None = None


class RunAborted(Move, frozen=True):
    """FINALIZING without a process having run: data or image could not be had, or it was interrupted."""

    outcome: State
    info: Info


class RunFinalized(Move, frozen=True):
    """DONE, FAILED or INTERRUPTED: everything is put away."""

    info: Info
    volumes_kept: bool = False


class RunErrored(Move, frozen=True):
    """ERROR: our fault, said so, and credited. `volumes_kept`: what the run may have made and was to push."""

    info: Info
    volumes_kept: bool = False
