"""The shapes that the API answers, and those it takes beside a job's specification.

Names are OVHcloud's, in camelCase. Times are RFC 3339 UTC, ids UUIDs, sizes bytes; money is exact decimal
text. A field that is left out stands for "none".
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from service.domain.asked import Asked
from service.domain.directory import Role
from service.domain.events import Direction, Value
from service.domain.flavors import Kind
from service.domain.pricing import PolicyName
from service.domain.states import State


class Wire(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of the shapes that are answered."""


# -- lists ------------------------------------------------------------------------------------------


class Links(Wire, frozen=True):
    next: str | UnsetType = UNSET


class Metadata(Wire, frozen=True):
    """Pages count from 1. `total` is of all pages."""

    current_page: int
    page_count: int
    total: int
    links: Links = Links()


# -- jobs -------------------------------------------------------------------------------------------


class EnvVar(Wire, frozen=True):
    """`value` is empty for tokens of the role `ai_training_read`, and when the key that sealed it is gone."""

    name: str
    value: str


class Place(Wire, frozen=True):
    alias: str
    container: str
    prefix: str | UnsetType = UNSET


class Standalone(Wire, frozen=True):
    """An empty volume of the job's own."""


class Volume(Wire, frozen=True):
    mount_path: str
    permission: str
    cache: bool
    data_store: Place | UnsetType = UNSET
    standalone: Standalone | UnsetType = UNSET
    target_data_store: Place | UnsetType = UNSET


class Resources(Wire, frozen=True):
    """Totals of the job. Everything but cpu, gpu and flavor follows from these."""

    cpu: int
    gpu: int
    flavor: str
    memory: int
    ephemeral_storage: int
    public_network: int
    private_network: int
    gpu_brand: str | UnsetType = UNSET
    gpu_model: str | UnsetType = UNSET
    gpu_memory: int | UnsetType = UNSET


class JobSpec(Wire, frozen=True):
    """Complete, with the defaults. It can be POSTed again as it stands."""

    image: str
    name: str
    command: tuple[str, ...]
    env_vars: list[EnvVar]
    volumes: list[Volume]
    resources: Resources
    labels: dict[str, str]
    timeout: int
    timeout_auto_restart: bool
    default_http_port: int
    unsecure_http: bool
    grpc_port: int | UnsetType = UNSET
    read_user: str | UnsetType = UNSET
    shutdown: str | UnsetType = UNSET


class Info(Wire, frozen=True):
    """Why something is as it is: a stable code for programs, a sentence for people."""

    code: str
    message: str
    arguments: dict[str, Value]


class Visit(Wire, frozen=True):
    state: State
    date: datetime


class VolumeStatus(Wire, frozen=True):
    id: str
    mount_path: str
    user_volume_id: str = ""
    last_pulled_created_at: datetime | None = None
    last_pushed_created_at: datetime | None = None


class DataSyncSpec(Wire, frozen=True):
    direction: Direction
    job_id: str
    manual: bool
    volume: str | None = None


class Progress(Wire, frozen=True):
    """Objects and bytes moved so far for one volume; `info` names what was left out and why."""

    id: str
    data_sync_id: str
    direction: Direction
    state: str
    total: int
    processed: int
    completed: int
    skipped: int
    failed: int
    deleted: int
    transferred_bytes: int
    info: str
    created_at: datetime
    updated_at: datetime


class DataSyncStatus(Wire, frozen=True):
    state: Literal["QUEUED", "RUNNING", "DONE", "FAILED"]
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    info: Info
    progress: list[Progress]


class DataSync(Wire, frozen=True):
    id: str
    created_at: datetime
    updated_at: datetime
    spec: DataSyncSpec
    status: DataSyncStatus


class JobStatus(Wire, frozen=True):
    """Times are of the current run. `duration` is its whole seconds of RUNNING, so far while it runs."""

    state: State
    history: list[Visit]
    queued_at: datetime
    initializing_at: datetime | None
    started_at: datetime | None
    stopped_at: datetime | None
    finalized_at: datetime | None
    timeout_at: datetime | None
    last_transition_date: datetime
    duration: int
    exit_code: int | None
    info: Info
    ip: str | None
    external_ip: str | None
    url: str
    info_url: str
    grpc_address: str
    data_sync: list[DataSync]
    volumes: list[VolumeStatus]
    run: int


class Job(Wire, frozen=True):
    id: str
    created_at: datetime
    updated_at: datetime
    user: str
    spec: JobSpec
    status: JobStatus


class JobList(Wire, frozen=True):
    items: list[Job]
    metadata: Metadata


class CliCommand(Wire, frozen=True):
    command: str


class DataSyncAsked(Asked, frozen=True):
    """`volume` is not offered yet: all volumes that were kept are pushed."""

    direction: Literal["pull", "push"]
    volume: str | None = None


# -- the caller and its project ---------------------------------------------------------------------


class MeQuotas(Wire, frozen=True):
    """The most units of each kind that the project's jobs may hold together."""

    resources: dict[str, int]
    storage: int = 0


class Me(Wire, frozen=True):
    name: str
    role: Role
    tenant: str
    quotas: MeQuotas
    token_kind: Literal["app"] = "app"  # noqa: S105 (a kind, not a value)
    label_selector: str | UnsetType = UNSET


class Quota(Wire, frozen=True):
    """Units at most, and in use by jobs that are QUEUED, INITIALIZING, PENDING or RUNNING."""

    project: str
    cpu: int
    gpu: int
    cpu_used: int
    gpu_used: int


class BillLine(Wire, frozen=True):
    """One run. `credited` runs failed through our fault and cost nothing; `positions` are the events that
    prove the line; `windowStart` and `windowEnd` are what the policy bills, once it is over."""

    job: str
    run: int
    flavor: str
    kind: Kind
    units: int
    hourly_price: Decimal
    currency: str
    policy: PolicyName
    minutes: int
    amount: Decimal
    credited: bool
    window_start: datetime | None
    window_end: datetime | None
    positions: tuple[int, ...]


class Bill(Wire, frozen=True):
    """`total` is the sum of the amounts; null when the lines are in several currencies."""

    items: list[BillLine]
    total: Decimal | None
    currency: str


class TokenSpec(Wire, frozen=True):
    name: str
    role: Role
    label_selector: str | UnsetType = UNSET


class TokenStatus(Wire, frozen=True):
    """`value` is there once: in the answer that made the token. A repeat of that request has none."""

    value: str | UnsetType = UNSET
    version: int = 1


class Token(Wire, frozen=True):
    id: str
    created_at: datetime
    updated_at: datetime
    spec: TokenSpec
    status: TokenStatus


class TokenList(Wire, frozen=True):
    items: list[Token]
    metadata: Metadata


class TokenAsked(Asked, frozen=True):
    """`labelSelector` is `name=value`: the token sees only such jobs, and its jobs get that label."""

    name: str
    role: Role
    label_selector: str | None = None


class Project(Wire, frozen=True):
    id: str
    name: str
    created_at: datetime
    cpu: int
    gpu: int


class ProjectList(Wire, frozen=True):
    items: list[Project]
    metadata: Metadata


class ProjectMade(Wire, frozen=True):
    """A new project and its first administrator's token."""

    project: Project
    token: Token


class ProjectAsked(Asked, frozen=True):
    id: str
    name: str | None = None
    cpu: int | None = None
    gpu: int | None = None


class QuotaAsked(Asked, frozen=True):
    """What is left out stays as it is."""

    cpu: int | None = None
    gpu: int | None = None


# -- data -------------------------------------------------------------------------------------------


class S3KeysAsked(Asked, frozen=True):
    """The key pair of an S3 store. Never answered, never shown."""

    access_key: str
    secret_key: str
    region: str | None = None

    def __repr__(self) -> str:
        return "S3KeysAsked(...)"


class CredentialsAsked(Asked, frozen=True):
    s3: S3KeysAsked | None = None
    git: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return "CredentialsAsked(...)"


class DataStoreAsked(Asked, frozen=True):
    alias: str
    endpoint: str
    credentials: CredentialsAsked
    type: Literal["s3", "git"] = "s3"
    owner: Literal["customer", "ovhcloud"] = "customer"


class DataStoreReplaced(Asked, frozen=True):
    """As `DataStoreAsked`; the alias stands in the path."""

    endpoint: str
    credentials: CredentialsAsked
    alias: str | None = None
    type: Literal["s3", "git"] = "s3"
    owner: Literal["customer", "ovhcloud"] = "customer"


class S3Region(Wire, frozen=True):
    region: str


class Credentials(Wire, frozen=True):
    """What may be told of them: the region."""

    s3: S3Region


class DataStore(Wire, frozen=True):
    alias: str
    type: Literal["s3"]
    endpoint: str
    owner: str
    credentials: Credentials
    created_at: datetime
    updated_at: datetime


class DataStoreList(Wire, frozen=True):
    items: list[DataStore]
    metadata: Metadata


class StoredObject(Wire, frozen=True):
    key: str
    size: int
    modified: datetime


class ObjectList(Wire, frozen=True):
    """`metadata.links.next` is set when there are more than were asked for."""

    items: list[StoredObject]
    metadata: Metadata


# -- the service ------------------------------------------------------------------------------------


class Alive(Wire, frozen=True):
    status: Literal["alive"] = "alive"


class Ready(Wire, frozen=True):
    """The ledger answered within `seconds`; `position` is its last event."""

    position: int
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    status: Literal["ready"] = "ready"


def whole(items: list[Any]) -> Metadata:
    """The metadata of a list that is answered in one page."""
    return Metadata(current_page=1, page_count=1, total=len(items))
