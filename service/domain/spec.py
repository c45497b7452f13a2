"""A job's specification as the ledger keeps it: checked, complete, and with its secrets sealed."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

import msgspec

from service.domain.flavors import Kind

#: The default of the seed: a week.
DEFAULT_TIMEOUT_S = 604_800
MAX_TIMEOUT_S = 31_536_000
MIN_RESTART_TIMEOUT_S = 60
DEFAULT_HTTP_PORT = 8080


class Sealed(msgspec.Struct, frozen=True, rename="camel"):
    """A secret under a key that is kept outside the ledger. All three are text; `box` is base64.

    Destroying the key `key_id` erases the secret; the ciphertext stays, and so does every proof over it.
    """

    key_id: str
    nonce: str
    box: str


def sealed_by(key_id: str) -> str:
    """The id of the project's key over a key: a job's key is named `<project's key>.<its own>`."""
    return key_id.partition(".")[0]


class EnvVar(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    value: Sealed


class Permission(StrEnum):
    """How a volume may be used. RO is never pushed back; RWD also deletes in the store."""

    RO = "RO"
    RW = "RW"
    RWD = "RWD"


class Place(msgspec.Struct, frozen=True, rename="camel"):
    """A place in a data store: the objects of `container` whose keys begin with `prefix`.

    With `archive`, the one object of that key stands for all files, packed. Of a `store` of type git,
    `container` is a repository (`gitstores.read_repository`), which is only pulled from. The ledger says so
    of each place, as the data store of that name may be another one later.
    """

    alias: str
    container: str
    prefix: str = ""
    archive: str | msgspec.UnsetType = msgspec.UNSET
    store: Literal["git"] | msgspec.UnsetType = msgspec.UNSET


class Web(NamedTuple):
    """A public source: a git repository (`https://host/path[#ref]`) or an archive (`https://host/path`)."""

    kind: Literal["git", "archive"]
    url: str


class Volume(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A directory of the job, with at most one of `source`, `git` and `url` (of an archive).

    Without any it is standalone: empty at first. `target` names another place to push to; None pushes back
    to `source`. What came from a URL or a git store is never pushed there. `user_volume` is the id of the
    project's volume that the source was taken from; one that is standalone as well is shared by all the jobs
    that name it.
    """

    mount_path: str
    permission: Permission
    source: Place | None = None
    target: Place | None = None
    cache: bool = False
    git: str | None = None
    url: str | None = None
    user_volume: str | None = None

    @property
    def shared(self) -> bool:
        """True when the directory is not the run's own and outlives it."""
        return self.user_volume is not None and self.pull_from is None

    @property
    def stores(self) -> frozenset[str]:
        """The data stores that it is pulled from or pushed to, by alias."""
        return frozenset(place.alias for place in (self.source, self.target) if place is not None)

    @property
    def pull_from(self) -> Place | Web | None:
        """Where INITIALIZING pulls the volume from, or None when it begins empty."""
        if self.git is not None:
            return Web("git", self.git)
        return self.source if self.url is None else Web("archive", self.url)

    @property
    def push_to(self) -> Place | None:
        """Where FINALIZING pushes the volume, or None when nothing is pushed."""
        if self.permission is Permission.RO:
            return None
        own = None if self.source is not None and self.source.store == "git" else self.source
        return self.target or own


class Resources(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What a job holds while it is placed. Totals for all its units; sizes in bytes, networks in bytes/s."""

    kind: Kind
    units: int
    flavor: str
    cpus: int
    memory: int
    ephemeral_storage: int
    public_network: int = 0
    private_network: int = 0
    gpu_brand: str | None = None
    gpu_model: str | None = None
    gpu_memory: int | None = None

    @property
    def gpus(self) -> int:
        return self.units if self.kind == "gpu" else 0


class JobSpec(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """Everything the supervisor needs to run a job, and everything a read of it answers."""

    image: str
    name: str
    command: tuple[str, ...] = ()
    env: tuple[EnvVar, ...] = ()
    volumes: tuple[Volume, ...] = ()
    resources: Resources
    labels: dict[str, str] = {}
    timeout: int = DEFAULT_TIMEOUT_S
    timeout_auto_restart: bool = False
    default_http_port: int = DEFAULT_HTTP_PORT
    unsecure_http: bool = False
    grpc_port: int | None = None
    read_user: str | None = None
    shutdown: str | None = None
    #: Those who may come in by SSH, one plain line a key (see `ssh_keys`). Unset: nobody.
    ssh_public_keys: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
