"""Data stores and the objects in them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from service.api.wire.base import Metadata, Wire
from service.domain.asked import Asked


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


class StoreAsked(Asked, frozen=True):
    alias: str
    endpoint: str
    credentials: CredentialsAsked
    type: Literal["s3", "git"] = "s3"
    owner: Literal["customer", "ovhcloud"] = "customer"


class StoreReplaced(Asked, frozen=True):
    """As `StoreAsked`; the alias stands in the path."""

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
