"""Data stores and the objects in them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import UNSET, UnsetType

from service.api.wire.base import Metadata, Wire
from service.domain.asked import Asked


class S3KeysAsked(Asked, frozen=True):
    """The key pair of an S3 store. Never answered, never shown."""

    access_key: str
    secret_key: str
    region: str | None = None

    def __repr__(self) -> str:
        return "S3KeysAsked(...)"


class BasicAuthAsked(Asked, frozen=True):
    """User and password of a git server with https. Never answered: a token may stand in either."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "BasicAuthAsked(...)"


class SshKeypairAsked(Asked, frozen=True):
    """A private key in OpenSSH's or PEM form, without a passphrase. The public one follows from it."""

    private_key: str
    public_key: str | None = None

    def __repr__(self) -> str:
        return "SshKeypairAsked(...)"


class GitKeysAsked(Asked, frozen=True):
    """At most one of the first two. `hostKeys`, each `TYPE BASE64`: those that the server with ssh may have;
    without them, the one that it shows when the data store is added."""

    basic_auth: BasicAuthAsked | None = None
    ssh_keypair: SshKeypairAsked | None = None
    host_keys: list[str] | None = None

    def __repr__(self) -> str:
        return "GitKeysAsked(...)"


class CredentialsAsked(Asked, frozen=True):
    s3: S3KeysAsked | None = None
    git: GitKeysAsked | None = None

    def __repr__(self) -> str:
        return "CredentialsAsked(...)"


class StoreAsked(Asked, frozen=True):
    alias: str
    endpoint: str
    credentials: CredentialsAsked | None = None
    type: Literal["s3", "git"] = "s3"
    owner: Literal["customer", "ovhcloud"] = "customer"


class StoreReplaced(Asked, frozen=True):
    """As `StoreAsked`; the alias stands in the path."""

    endpoint: str
    credentials: CredentialsAsked | None = None
    alias: str | None = None
    type: Literal["s3", "git"] = "s3"
    owner: Literal["customer", "ovhcloud"] = "customer"


class S3Region(Wire, frozen=True):
    region: str


class BasicAuth(Wire, frozen=True):
    """There is one; nothing of it is told."""


class SshKeypair(Wire, frozen=True):
    public_key: str


class GitKeys(Wire, frozen=True):
    """How a git store is entered; neither of the first two when its repositories are public."""

    basic_auth: BasicAuth | UnsetType = UNSET
    ssh_keypair: SshKeypair | UnsetType = UNSET
    host_keys: list[str] | UnsetType = UNSET


class Credentials(Wire, frozen=True):
    """What may be told of them: the region, or what is public of the keys."""

    s3: S3Region | UnsetType = UNSET
    git: GitKeys | UnsetType = UNSET


class DataStore(Wire, frozen=True):
    alias: str
    type: Literal["s3", "git"]
    endpoint: str
    owner: str
    credentials: Credentials
    created_at: datetime
    updated_at: datetime


class DataStoreList(Wire, frozen=True):
    items: list[DataStore]
    metadata: Metadata


class Container(Wire, frozen=True):
    name: str


class ContainerList(Wire, frozen=True):
    items: list[Container]
    metadata: Metadata


class StoredObject(Wire, frozen=True):
    key: str
    size: int
    modified: datetime


class ObjectList(Wire, frozen=True):
    """`metadata.links.next` is set when there are more than were asked for."""

    items: list[StoredObject]
    metadata: Metadata
