"""Registries with images, and the credentials for them."""

from __future__ import annotations

from datetime import datetime

from service.api.wire.base import Metadata, Wire
from service.domain.asked import Asked


class RegistryAsked(Asked, frozen=True):
    """What is attached. `url` is `[https://]host[:port]`, as images name it; the password is never answered.

    `id`, `user` and the times are ours to say; they are here because a registry that was read is sent again.
    """

    url: str
    username: str
    password: str
    id: str | None = None
    user: str | None = None
    created_at: str | None = None
    updated_at: str | None = None

    def __repr__(self) -> str:
        return f"RegistryAsked(url=..., username={self.username!r})"


class RegistryChanged(Asked, frozen=True):
    """What is left out stays. For another host the password is needed again: it follows to no other place."""

    url: str | None = None
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"RegistryChanged(url=..., username={self.username!r})"


class Registry(Wire, frozen=True):
    """`user` is the name of the token that attached it."""

    id: str
    url: str
    username: str
    user: str
    created_at: datetime
    updated_at: datetime


class RegistryList(Wire, frozen=True):
    items: list[Registry]
    metadata: Metadata
