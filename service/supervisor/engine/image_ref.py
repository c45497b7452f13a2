"""Image references by the strict grammar of Docker's distribution, split for the pull request."""

from __future__ import annotations

import re
from dataclasses import dataclass

from service.errors import ImageUnavailable

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?\.)*[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?"
)
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[a-f0-9]{64}))?"
)
_IMAGE_ID = re.compile(r"sha256:[a-f0-9]{64}")


@dataclass(frozen=True, slots=True)
class ImageRef:
    """`name` with its registry, and what to fetch of it: a digest if one is given, else one tag."""

    name: str
    tag: str
    digest: str | None

    @property
    def wanted(self) -> str:
        """The value of the pull's `tag` parameter; never empty, which would mean every tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse(text: str) -> ImageRef:
    """Split a reference; no tag means `latest`. Raises `ImageUnavailable` (not passing)."""
    match = _REFERENCE.fullmatch(text) if len(text) <= 512 else None
    if match is None:
        raise ImageUnavailable(f"{text[:120]!r} is not an image reference (name[:tag][@sha256:...])")
    return ImageRef(match["name"], match["tag"] or "latest", match["digest"])


def local(text: str) -> str:
    """How the engine is asked about an image it may hold: an image id as it is, else the full reference."""
    return text if _IMAGE_ID.fullmatch(text) else str(parse(text))
