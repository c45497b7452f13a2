"""Where images come from: the registry of a reference, what a registry's URL names, and who may use which.

A registry is its host and port, exactly as they stand in image references. Credentials are for that and for
nothing else: `registry.example.org` and `registry.example.org:443` are two.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from service.domain.images import ImageRef, parse_image
from service.errors import Invalid

#: What an image reference without a host means, and its other names.
DOCKER_HUB = "docker.io"
_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})

MAX_URL_CHARS = 512
MAX_USERNAME_CHARS = 255
MAX_PASSWORD_CHARS = 16_384

_URL = re.compile(r"\A(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?(?P<host>[^/?#@]+)(?P<path>/[^?#@]*)?\Z")
_BARE_PATHS = frozenset({"", "/", "/v1", "/v1/", "/v2", "/v2/"})
_ALLOWED = (
    "a registry is [https://]host[:port], as its images are named, without a path, a user or a query; "
    "http:// only where it speaks no TLS"
)


class RegistryUrl(NamedTuple):
    """What a registry's URL names: `host` is `host[:port]` as it stands in image references."""

    scheme: str
    host: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}"


def read_registry_url(field: str, url: str) -> RegistryUrl:
    """Read `[https://|http://]host[:port]`. Raises `Invalid` for `field`.

    The host must be one that an image reference can name: with a dot, with a port, or `localhost`.
    """
    match = _URL.match(url) if len(url) <= MAX_URL_CHARS and url.isascii() and url.isprintable() else None
    if match is None:
        # What stands before an @ may be a password.
        raise Invalid(field, "a URL with a user" if "@" in url else url, _ALLOWED)
    scheme = (match["scheme"] or "https").lower()
    named = parse_image(f"{match['host']}/image")
    if scheme not in ("http", "https") or (match["path"] or "") not in _BARE_PATHS:
        raise Invalid(field, url, _ALLOWED)
    if named is None or named.host is None:
        raise Invalid(field, url, f"{_ALLOWED}; the host has a dot or a port, or it is localhost")
    return RegistryUrl(scheme, canonical_host(named.host))


def canonical_host(host: str | None) -> str:
    """A registry by one name: lower case, and Docker Hub's names as `docker.io`. None is Docker Hub."""
    lower = DOCKER_HUB if host is None else host.lower()
    return DOCKER_HUB if lower in _HUB_NAMES else lower


def registry_host(image: ImageRef) -> str:
    """The canonical host of the registry that an image is pulled from."""
    return canonical_host(image.host)


def repository(image: ImageRef) -> str:
    """`host/path` of an image in one spelling: `busybox` is `docker.io/library/busybox`."""
    host = registry_host(image)
    path = f"library/{image.path}" if host == DOCKER_HUB and "/" not in image.path else image.path
    return f"{host}/{path}"


def in_shared(image: ImageRef, shared_host: str) -> bool:
    """Whether an image is of the operator's shared registry. `shared_host` "": there is none."""
    return bool(shared_host) and registry_host(image) == shared_host


def is_of_project(image: ImageRef, project: str) -> bool:
    """Whether the path of an image in the shared registry is one of the project's own."""
    return image.path.startswith(f"{project}/")


def check_shared(reference: str, project: str, shared_host: str) -> None:
    """Raise `Invalid` for an image of the shared registry that is not in the project's own part of it."""
    image = parse_image(reference)
    if image is not None and in_shared(image, shared_host) and not is_of_project(image, project):
        allowed = f"of the shared registry, this project may use {shared_host}/{project}/... only"
        raise Invalid("image", reference, allowed)


def check_username(username: str) -> None:
    """Basic authentication ends a name at its first colon."""
    good = 1 <= len(username) <= MAX_USERNAME_CHARS and username.isprintable() and ":" not in username
    if not good:
        allowed = f"1 to {MAX_USERNAME_CHARS} printable characters without ':'"
        raise Invalid("username", username, allowed)
