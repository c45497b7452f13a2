"""What happens to a project: its quota, tokens, data stores, registries and volumes."""

from __future__ import annotations

from typing import Literal

import msgspec

from service.domain.events.base import Body
from service.domain.gitstores import GitKeys
from service.domain.spec import Place, Sealed


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
