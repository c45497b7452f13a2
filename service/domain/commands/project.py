"""What users want done with a project, its tokens, data stores, registries and volumes, and the yard."""

from __future__ import annotations

from typing import Literal

import msgspec

from service.domain.commands.base import Command
from service.domain.gitstores import GitKeys
from service.domain.spec import Place, Sealed


class FirstToken(msgspec.Struct, frozen=True):
    """The administrator's token that a project is made with. `sha256` is hexadecimal, of its value."""

    token_id: str
    sha256: str


class CreateProject(Command, frozen=True):
    name: str
    cpu: int
    gpu: int
    token: FirstToken | None = None


class SetQuota(Command, frozen=True):
    """Units; None leaves that limit as it is."""

    cpu: int | None = None
    gpu: int | None = None


class CreateToken(Command, frozen=True):
    token_id: str
    name: str
    role: str
    sha256: str
    label_selector: str | None = None


class RenewToken(Command, frozen=True):
    """A new value for a token; the old one stops working. `sha256` is hexadecimal, of the new value."""

    token_id: str
    sha256: str


class RevokeToken(Command, frozen=True):
    token_id: str


class SetDataStore(Command, frozen=True):
    """`replace` False refuses an alias that exists; True refuses one that does not.

    `DataStore` says which of the fields are set for which type.
    """

    alias: str
    endpoint: str
    kind: Literal["s3", "git"] = "s3"
    region: str | msgspec.UnsetType = msgspec.UNSET
    access_key: Sealed | msgspec.UnsetType = msgspec.UNSET
    secret_key: Sealed | msgspec.UnsetType = msgspec.UNSET
    git: GitKeys | msgspec.UnsetType = msgspec.UNSET
    owner: str = "customer"
    replace: bool = False


class RemoveDataStore(Command, frozen=True):
    alias: str


class SetRegistry(Command, frozen=True):
    """`replace` False attaches a registry, and needs every field; True changes those that are not None.

    `user` is who attached it: a change leaves it as it was.
    """

    registry_id: str
    user: str
    url: str | None = None
    username: str | None = None
    password: Sealed | None = None
    replace: bool = False


class RemoveRegistry(Command, frozen=True):
    registry_id: str


class CreateVolume(Command, frozen=True):
    """At most one of `source`, `git` and `url`; none makes a standalone volume.

    `cache_asked`: somebody said so; else it is what is usual, where that can be.
    """

    volume_id: str
    cache: bool = False
    cache_asked: bool = False
    source: Place | None = None
    git: str | None = None
    url: str | None = None


class DeleteVolume(Command, frozen=True):
    volume_id: str
