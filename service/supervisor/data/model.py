"""The values that the data side passes around. Sizes are bytes, times seconds, unless named otherwise."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

CHUNK_BYTES = 8 * 1024 * 1024
"""The most that one transfer holds in memory; memory in all is this times the concurrency."""

MAX_PARTS = 10_000
"""What S3 allows in one multipart upload."""

COMPLETE_FACTOR = 5
"""So many times as long as any other call may the end of a multipart upload take: a store joins the parts of
a large object before it answers."""

LEAST_BYTES = 64 * 1024
"""What has to arrive of a body in the time of silence that is allowed: who sends byte by byte is as good as
silent."""

JOBS_LIMIT = ", which is the job's storage limit (ephemeralStorage)"
"""What is said behind the most bytes that a pull may bring."""

Permission = Literal["RW", "RWD"]


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """How to reach an S3 store. Neither half of the key pair is ever in a repr."""

    endpoint: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    @property
    def account(self) -> str:
        """What tells accounts of one endpoint apart, and no key: the same for the same access key alone."""
        return hashlib.sha256(self.access_key.encode()).hexdigest()[:16]

    @property
    def signing_region(self) -> str:
        """The region that requests are signed for; stores that have none take S3's first."""
        return self.region or "us-east-1"


@dataclass(frozen=True, slots=True)
class Source:
    """A place in a store: a container and a prefix ("" for all of it). `keys.Mapping` says what it means."""

    container: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as the store describes it. `etag` is without quotes, "" when the store gives none.

    `opaque`: the store said, as it sent the object, that the ETag is no hash of it. Listings do not say.
    """

    key: str
    size: int
    etag: str
    modified: datetime
    opaque: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one volume may hold. `max_objects` bounds everything with a name, folders and links too.

    `beyond_disk`: `max_bytes` of a push come on top of what the files take on the disk. So whatever was
    written can be pushed, and a sparse file, which claims more than it takes, is bounded.
    """

    max_objects: int
    max_bytes: int
    max_depth: int
    beyond_disk: bool = False


DEFAULT_LIMITS = Limits(max_objects=1_000_000, max_bytes=1024**4, max_depth=64)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the store may stay silent.

    `call_s` bounds a whole call without a body, `progress_s` the time between two signs of life while a
    body moves; `LEAST_BYTES` are one, or the rest where it is less. A passing fault is tried `attempts`
    times, with a jittered pause that doubles from `backoff_s` up to `backoff_max_s`.
    """

    call_s: float = 60.0
    progress_s: float = 60.0
    attempts: int = 4
    backoff_s: float = 0.2
    backoff_max_s: float = 5.0


def part_bytes(size: int) -> int:
    """The part size for an object of `size` bytes: one chunk, doubled until 10,000 parts are enough.

    It depends on the size alone, so that a later run can recompute the ETag of what an earlier one sent.
    """
    part = CHUNK_BYTES
    while part * MAX_PARTS < size:
        part *= 2
    return part
