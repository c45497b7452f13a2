"""Jobs and what belongs to them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import UNSET, Raw, UnsetType

from service.api.wire.base import Metadata, Wire
from service.domain.asked import Asked
from service.domain.events import Direction, Value
from service.domain.states import State


class EnvVar(Wire, frozen=True):
    """`value` is empty for tokens of the role `ai_training_read`, and when it is `erased` with its key."""

    name: str
    value: str
    erased: bool | UnsetType = UNSET


class Place(Wire, frozen=True):
    alias: str
    container: str
    prefix: str | UnsetType = UNSET
    archive: str | UnsetType = UNSET


class Standalone(Wire, frozen=True):
    """An empty volume of the job's own."""


class Url(Wire, frozen=True):
    """A public source, by its https URL."""

    url: str


class Volume(Wire, frozen=True):
    mount_path: str
    permission: str
    cache: bool
    data_store: Place | UnsetType = UNSET
    public_git: Url | UnsetType = UNSET
    public_swift: Url | UnsetType = UNSET
    standalone: Standalone | UnsetType = UNSET
    user_volume_id: str | UnsetType = UNSET
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
    ssh_public_keys: tuple[str, ...] | UnsetType = UNSET


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
    job_volume: Volume
    volume_status: VolumeStatus
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
    """Times are of the current run. `duration` is its whole seconds of RUNNING, so far while it runs.

    `history` has the newest 200 states of all runs; what came before is in the job's events.
    `imageDigest` is of the image that it runs, as its registry names it; null before it runs, and for one
    that came from no registry. A tag that was moved between two runs shows here.
    `erasedAt` is there when the job's key was destroyed, and says when.
    `sshUrl` is null for a job without `sshPublicKeys`; it answers while the job runs.
    """

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
    image_digest: str | None
    info: Info
    ip: str | None
    external_ip: str | None
    url: str
    ssh_url: str | None
    info_url: str
    grpc_address: str
    data_sync: list[DataSync]
    volumes: list[VolumeStatus]
    run: int
    erased_at: datetime | UnsetType = UNSET


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


class JobListAsSent(Wire, frozen=True):
    """A `JobList` of jobs that are encoded already."""

    items: list[Raw]
    metadata: Metadata


class CliCommand(Wire, frozen=True):
    command: str


class DataSyncAsked(Asked, frozen=True):
    """`volume` is the id or the mount path of one; without it, all that can be moved are.

    The others are of the answer; they are known here as clients send a specification back as it stands.
    """

    direction: Literal["pull", "push"]
    volume: str | None = None
    job_id: str | None = None
    app_id: str | None = None
    manual: bool | None = None


class JobEdit(Asked, frozen=True):
    """What is left out stays as it is. `timeout` is seconds, counted from the start of the run."""

    timeout: int | None = None
    timeout_auto_restart: bool | None = None


class LabelEdit(Asked, frozen=True):
    """Without a value the label is taken away."""

    name: str
    value: str | None = None
