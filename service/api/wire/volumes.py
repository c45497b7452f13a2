"""Volumes that a project has, beside those of its jobs."""

from __future__ import annotations

from datetime import datetime

from msgspec import UNSET, UnsetType

from service.api.wire.base import Metadata, Wire
from service.api.wire.jobs import Place, Standalone, Url
from service.domain.asked import SourceAsked


class UserVolumeAsked(SourceAsked, frozen=True):
    """Exactly one source. `cache` is true unless said otherwise, but for git and standalone: they have none.

    `id` and the times are ours to say; they are here because a volume that was read is sent again.
    """

    cache: bool | None = None
    id: str | None = None
    created_at: str | None = None
    updated_at: str | None = None


class UserVolume(Wire, frozen=True):
    """Jobs name it by `userVolumeId` in the place of a source. A standalone one is shared by them."""

    id: str
    cache: bool
    created_at: datetime
    updated_at: datetime
    data_store: Place | UnsetType = UNSET
    public_git: Url | UnsetType = UNSET
    public_swift: Url | UnsetType = UNSET
    standalone: Standalone | UnsetType = UNSET


class UserVolumeList(Wire, frozen=True):
    items: list[UserVolume]
    metadata: Metadata
