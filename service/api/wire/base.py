"""What all shapes have in common, and those of the service itself."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType


class Wire(msgspec.Struct, frozen=True, rename="camel", kw_only=True, gc=False):
    """Base of the shapes that are answered. They are made by the thousand, and none can hold itself: the
    garbage collector need not look at them."""


class Links(Wire, frozen=True):
    next: str | UnsetType = UNSET


class Metadata(Wire, frozen=True):
    """Pages count from 1. `total` is of all pages. A list that is read by a cursor has `links` alone."""

    current_page: int | UnsetType = UNSET
    page_count: int | UnsetType = UNSET
    total: int | UnsetType = UNSET
    links: Links = Links()


def whole(items: list[Any]) -> Metadata:
    """The metadata of a list that is answered in one page."""
    return Metadata(current_page=1, page_count=1, total=len(items))


class Alive(Wire, frozen=True):
    status: Literal["alive"] = "alive"


class Part(Wire, frozen=True):
    """One part of the service. `down`: `why` says what is wrong; `not-asked`: `why` says why not."""

    status: Literal["ok", "down", "not-asked"]
    why: str | UnsetType = UNSET


class Parts(Wire, frozen=True):
    """What the service is made of. Each is needed, where it was asked. `clock` is the database's."""

    database: Part
    clock: Part
    supervisor: Part
    engine: Part
    store: Part


class Ready(Wire, frozen=True):
    """`not-ready` comes with status 503, and is then an error's body as well."""

    status: Literal["ready", "not-ready"]
    parts: Parts
    message: str | UnsetType = UNSET
    code: Literal["unavailable"] | UnsetType = UNSET
    request_id: str | UnsetType = UNSET


class Home(Wire, frozen=True):
    """Where to go on from here."""

    docs: str = "/docs"
    openapi: str = "/v1/openapi.json"
    health: str = "/healthz"
    readiness: str = "/readyz"
    api: str = "/v1"
