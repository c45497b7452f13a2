"""How a job's own HTTP service is named: `<job id>` for its default port, `<job id>-<port>` for another.

As a host below `job.<domain>`, or as the first part of a path below `/job/`. Pure.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

#: Below it, names lead to jobs without any configuration: systems resolve it to themselves (RFC 6761).
DEFAULT_DOMAIN = "localhost"

_NAME = re.compile(
    r"(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?:-(?P<port>[1-9][0-9]{0,4}))?"
)
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?(:[1-9][0-9]{0,4})?")


class Name(NamedTuple):
    """A job and one of its ports; None stands for its default port."""

    job: UUID
    port: int | None


def parse(text: str) -> Name | None:
    """A name, or None for text that is none."""
    found = _NAME.fullmatch(text.lower())
    if found is None:
        return None
    port = int(found["port"]) if found["port"] else None
    return None if port is not None and port > 65535 else Name(UUID(found["id"]), port)


def of_host(host: str, domain: str) -> str | None:
    """The part of a Host header in front of `.job.<domain>`; None when it is another host."""
    name, _, _ = host.lower().partition(":")
    suffix = f".job.{(domain or DEFAULT_DOMAIN).partition(':')[0]}"
    return name.removesuffix(suffix) if name.endswith(suffix) else None


def is_domain(text: str) -> bool:
    """Whether it is a domain, maybe with the port that clients use."""
    return _DOMAIN.fullmatch(text) is not None


def url(job: UUID | str, public_url: str, domain: str) -> str:
    """Where a job's default port is reached from outside."""
    if not domain:
        return f"{public_url}/job/{job}/"
    scheme = public_url.partition("://")[0] if "://" in public_url else "http"
    return f"{scheme}://{job}.job.{domain}/"
