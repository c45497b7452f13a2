"""The events: what happened, in the past tense, never changed once written.

An event's body is one of the types below; its envelope says where it stands in the ledger, when it
happened and who caused it. Bodies of moves carry what the folds need (the states on both sides, the
units), so that each fold can read an event without looking anything up.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

import msgspec

from service.domain.flavors import Kind
from service.domain.gitstores import GitKeys
from service.domain.spec import JobSpec, Place, Sealed
from service.domain.states import State

Value = str | int | bool | None
Direction = Literal["pull", "push"]
SyncState = Literal["RUNNING", "DONE", "FAILED"]


class Body(msgspec.Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True):
    """Base of every event body. Unknown fields are ignored, so that older readers read newer events."""


class Info(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Why a job is as it is: a stable code for programs, a sentence for people."""

    code: str
    message: str
    arguments: dict[str, Value] = {}


# -- projects ---------------------------------------------------------------------------------------


class ProjectCreated(Body, frozen=True):
    name: str
    cpu: int
    gpu: int


class QuotaSet(Body, frozen=True):
    """The most units of each kind that the project's counted jobs may hold together."""

    cpu: int
    gpu: int


class TokenCreated(Body, frozen=True):
    """`sha256` is the hex digest of the token's value, which is shown once and kept nowhere."""

    token_id: str
    name: str
    role: str
    sha256: str
    label_selector: str | None = None


class TokenRenewed(Body, frozen=True):
    """The token has another value from here on; `sha256` is of the new one."""

    token_id: str
    sha256: str


class TokenRevoked(Body, frozen=True):
    token_id: str


class DataStoreSet(Body, frozen=True):
    """A data store was added or replaced. `DataStore` says what the fields mean and which are set."""

    alias: str
    kind: Literal["s3", "git"]
    endpoint: str
    region: str | msgspec.UnsetType = msgspec.UNSET
    access_key: Sealed | msgspec.UnsetType = msgspec.UNSET
    secret_key: Sealed | msgspec.UnsetType = msgspec.UNSET
    owner: str = "customer"
    git: GitKeys | msgspec.UnsetType = msgspec.UNSET


class DataStoreRemoved(Body, frozen=True):
    alias: str


class RegistrySet(Body, frozen=True):
    """A registry was attached, or what is known of it changed; all of it, as it is from now on."""

    registry_id: str
    url: str
    scheme: str
    host: str
    username: str
    password: Sealed
    user: str


class RegistryRemoved(Body, frozen=True):
    registry_id: str


class VolumeCreated(Body, frozen=True):
    """The project has a volume that its jobs may name; `UserVolume` says what the fields mean."""

    volume_id: str
    cache: bool = False
    source: Place | None = None
    git: str | None = None
    url: str | None = None


class VolumeDeleted(Body, frozen=True):
    volume_id: str


# -- the whole yard ---------------------------------------------------------------------------------


class PricesSet(Body, frozen=True):
    """Hourly prices per unit, by flavor, for runs that start at `valid_from` or later."""

    prices: dict[str, Decimal]
    valid_from: datetime
    currency: str = "EUR"


class SupervisorStarted(Body, frozen=True):
    """A supervisor took the lease of an engine. `absent_since` is when the one before was last seen.

    `cpus`, `memory` (bytes) and `gpus` are what jobs can have of the node in all.
    """

    engine: str
    node: str
    epoch: int
    absent_since: datetime | None = None
    cpus: int = 0
    memory: int = 0
    gpus: int = 0


# -- jobs -------------------------------------------------------------------------------------------


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
    """FINALIZING: the process ended. Happened at the engine's own finish time of the container."""

    exit_code: int
    oom_killed: bool
    outcome: State
    info: Info


class RunAborted(Move, frozen=True):
    """FINALIZING without a process having run: data or image could not be had, or it was interrupted."""

    outcome: State
    info: Info


class RunFinalized(Move, frozen=True):
    """DONE, FAILED or INTERRUPTED: everything is put away."""

    info: Info
    volumes_kept: bool = False


class RunErrored(Move, frozen=True):
    """ERROR: our fault, said so, and credited."""

    info: Info


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
    """Objects and bytes moved so far for one volume, by its index in the specification."""

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
    """Somebody ran a command in the container of a run. `command` is the sealed JSON list of its words."""

    exec_id: str
    command: Sealed
    tty: bool = False


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


# -- envelope ---------------------------------------------------------------------------------------

JOB_BODIES: tuple[type[Body], ...] = (
    JobSubmitted,
    RunQueued,
    RunPlaced,
    RunPrepared,
    RunStarted,
    InterruptOrdered,
    TimeoutReached,
    StorageExceeded,
    RunExited,
    RunAborted,
    RunFinalized,
    RunErrored,
    RunNoted,
    RunAdopted,
    DataSyncMoved,
    PushOrdered,
    SyncOrdered,
    JobEdited,
    LabelSet,
    JobDeleted,
)
OTHER_BODIES: tuple[type[Body], ...] = (
    ExecOpened,
    ProjectCreated,
    QuotaSet,
    TokenCreated,
    TokenRenewed,
    TokenRevoked,
    DataStoreSet,
    DataStoreRemoved,
    RegistrySet,
    RegistryRemoved,
    VolumeCreated,
    VolumeDeleted,
    PricesSet,
    SupervisorStarted,
)
BODIES: dict[str, type[Body]] = {body.__name__: body for body in (*JOB_BODIES, *OTHER_BODIES)}


class Event(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One entry of the ledger. Times are aware and UTC; `recorded_at` is the database's clock."""

    position: int
    project: str | None
    job: UUID | None = None
    run: int | None = None
    body: Any
    occurred_at: datetime
    recorded_at: datetime
    actor: str
    command_id: UUID
    request_id: str | None = None

    @property
    def type(self) -> str:
        return type(self.body).__name__


_encoder = msgspec.json.Encoder(order="sorted")


def encode_body(body: Body) -> bytes:
    """The canonical JSON of a body: sorted keys, no white space (RFC 8785, see tests/properties)."""
    return _encoder.encode(body)


@lru_cache(maxsize=len(BODIES))
def _decoder(name: str) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(BODIES[name])


def decode_body(name: str, data: bytes | str) -> Body:
    """Read a body back. Raises `KeyError` for a type this version does not know."""
    body: Body = _decoder(name).decode(data)
    return body
