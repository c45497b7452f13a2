"""What a project owns beside its jobs, and the price book: small states that commands are checked against."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from service.domain.gitstores import GitKeys
from service.domain.spec import Place, Sealed

Role = Literal["administrator", "ai_training_operator", "ai_training_read"]
ADMINISTRATOR: Role = "administrator"
ROLES: tuple[Role, ...] = (ADMINISTRATOR, "ai_training_operator", "ai_training_read")


class DataStore(msgspec.Struct, frozen=True, rename="camel"):
    """An S3 endpoint, or one of git repositories, under an alias. Its keys are sealed and never answered.

    Of type s3, `region` and both keys are set; of type git, `git` is.
    """

    alias: str
    kind: Literal["s3", "git"]
    endpoint: str
    owner: str
    created_at: datetime
    updated_at: datetime
    region: str | msgspec.UnsetType = msgspec.UNSET
    access_key: Sealed | msgspec.UnsetType = msgspec.UNSET
    secret_key: Sealed | msgspec.UnsetType = msgspec.UNSET
    git: GitKeys | msgspec.UnsetType = msgspec.UNSET

    @property
    def key_pair(self) -> tuple[Sealed, Sealed] | None:
        """Both keys of a store of type s3; None of any other."""
        access, secret = self.access_key, self.secret_key
        if isinstance(access, msgspec.UnsetType) or isinstance(secret, msgspec.UnsetType):
            return None
        return access, secret


class Registry(msgspec.Struct, frozen=True, rename="camel"):
    """Credentials for exactly one registry. `host` is `host[:port]` as it stands in image references.

    `url` is as it was given; `user` is the name of the token that attached it. The password is sealed and
    never answered.
    """

    id: str
    url: str
    scheme: str
    host: str
    username: str
    password: Sealed
    user: str
    created_at: datetime
    updated_at: datetime


class UserVolume(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A volume that the project's jobs name by its id; with at most one of `source`, `git` and `url`.

    Without any it is standalone: its data lives on the node, and the jobs that name it share it.
    """

    id: str
    created_at: datetime
    updated_at: datetime
    cache: bool = False
    source: Place | None = None
    git: str | None = None
    url: str | None = None


class Project(msgspec.Struct, frozen=True, rename="camel"):
    """`data_stores` by alias, `registries` by id, one a host, and `volumes` by id.

    `destroyed_keys` are the ids of the keys that it had before; `erased_position` is where the last of them
    was destroyed: jobs from before that have no secrets any more.
    """

    id: str
    name: str
    created_at: datetime
    data_stores: dict[str, DataStore] = {}
    registries: dict[str, Registry] = {}
    volumes: dict[str, UserVolume] = {}
    destroyed_keys: tuple[str, ...] = ()
    erased_position: int = 0

    def registry_of(self, host: str) -> Registry | None:
        """The registry attached for exactly this canonical host and port."""
        return next((known for known in self.registries.values() if known.host == host), None)


class Token(msgspec.Struct, frozen=True, rename="camel"):
    """What is known of a token; not its value. `sha256` is a hex digest; `version` counts its values."""

    id: str
    project: str
    name: str
    role: str
    sha256: str
    created_at: datetime
    updated_at: datetime
    label_selector: str | None = None
    revoked: bool = False
    version: int = 1


class Node(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One engine's machine: what its jobs can have together. `memory` is bytes."""

    engine: str
    name: str
    cpus: int
    memory: int
    gpus: int
    started_at: datetime
    #: The code of why no run begins on it; empty: they do.
    stopped: str = ""


class PriceEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One price list. `source` says whether the catalogue brought it, or an overseer's order."""

    valid_from: datetime
    prices: dict[str, Decimal]
    currency: str
    position: int
    source: Literal["catalogue", "order"] = "catalogue"
    recorded_at: datetime | None = None


class PriceBook(msgspec.Struct, frozen=True, rename="camel"):
    """Every price list ever set, in the order it was set."""

    entries: tuple[PriceEntry, ...] = ()

    def price(self, flavor: str, at: datetime) -> tuple[Decimal, str] | None:
        """Hourly price per unit and currency in force at a time; the entry set later wins a tie."""
        entry = self.entry(flavor, at)
        return None if entry is None else (entry.prices[flavor], entry.currency)

    def entry(self, flavor: str, at: datetime, *, before: int | None = None) -> PriceEntry | None:
        """The entry in force at a time; with `before`, as the book was before that position."""
        found: PriceEntry | None = None
        for entry in self.entries:
            if entry.valid_from > at or flavor not in entry.prices:
                continue
            if before is not None and entry.position >= before:
                continue
            if found is None or (entry.valid_from, entry.position) > (found.valid_from, found.position):
                found = entry
        return found

    def of_the_catalogue(self, flavor: str) -> tuple[Decimal, str] | None:
        """The price and currency that a catalogue set last, whatever was ordered since."""
        for entry in reversed(self.entries):
            if entry.source == "catalogue" and flavor in entry.prices:
                return entry.prices[flavor], entry.currency
        return None
