"""What all shapes have in common, and those of the service itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType


class Wire(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of the shapes that are answered."""


class Links(Wire, frozen=True):
    next: str | UnsetType = UNSET


class Metadata(Wire, frozen=True):
    """Pages count from 1. `total` is of all pages."""

    current_page: int
    page_count: int
    total: int
    links: Links = Links()


def whole(items: list[Any]) -> Metadata:
    """The metadata of a list that is answered in one page."""
    return Metadata(current_page=1, page_count=1, total=len(items))


class Alive(Wire, frozen=True):
    status: Literal["alive"] = "alive"


class Ready(Wire, frozen=True):
    """The ledger answered within `seconds`; `position` is its last event."""

    position: int
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    status: Literal["ready"] = "ready"
