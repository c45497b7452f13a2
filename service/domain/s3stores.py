"""Data stores of type s3: which endpoints and regions are taken, and how a new container may be called.

The client that asks the stores makes its own demands of both, and says so only when a store is opened: by
then the value would be in the ledger. So what it refuses is refused here, before (`tests/data/test_store.py`
holds the two side by side). This is asked where a value comes in, and not by `decide`: older ledgers have
others, and their history is decided again.
"""

from __future__ import annotations

import re

from service.domain.shown import shown
from service.domain.weburls import is_host
from service.errors import Invalid

MAX_ENDPOINT_CHARS = 1024
MAX_HOST_CHARS = 255
MAX_REGION_CHARS = 63

_LABEL = re.compile(r"\A(?!-)[A-Za-z0-9-]{1,63}(?<!-)\Z")
_URL = re.compile(
    r"\Ahttps?://(?P<host>\[[^/\[\]]+\]|[^/\[\]:]+)(?::(?P<port>[0-9]{0,5}))?(?P<rest>[^/].*)?(?:/.*)?\Z"
)
_WRITTEN = re.compile(r"\A[!-~]*\Z")
_ZONE = re.compile(r"\A[A-Za-z0-9._~-]+\Z")

_NEW_CONTAINER = re.compile(r"\A(?=[a-z0-9.-]{3,63}\Z)[a-z0-9](-*[a-z0-9])*(\.[a-z0-9](-*[a-z0-9])*)*\Z")
_IPV4 = re.compile(r"\A[0-9]+(\.[0-9]+){3}\Z")

ENDPOINTS = "a URL such as https://s3.example.org, without user and query"
HOSTS = (
    "a URL such as https://s3.example.org, whose host is an address (of IPv6 in brackets), or labels of "
    "1 to 63 letters, digits and '-', not at either end '-', with a '.' between them"
)
REGIONS = (
    f"letters, digits and '-', at most {MAX_REGION_CHARS}, not at either end '-', not all of them digits; or "
    "none at all"
)
#: Of S3 itself. Containers from before these rules, or of other stores, may be called otherwise.
NEW_CONTAINERS = (
    "3 to 63 lower-case letters, digits, '-' and '.', with a letter or a digit at both ends and on both "
    "sides of each '.', and not as an IPv4 address"
)


def check_s3_endpoint(field: str, endpoint: str) -> None:
    """An http(s) URL of a host, and nothing that could hold a secret or make it another request. Raises
    `Invalid` for `field`."""
    if "@" in endpoint:
        raise Invalid(field, "a URL with a user", ENDPOINTS)  # what stands before an @ may be a password
    match = _URL.match(endpoint) if _WRITTEN.match(endpoint) else None
    if match is None or len(endpoint) > MAX_ENDPOINT_CHARS or "?" in endpoint or "#" in endpoint:
        raise Invalid(field, shown(endpoint), ENDPOINTS)
    if not 1 <= int(match["port"] or 1) <= 65_535:
        raise Invalid(field, shown(endpoint), f"{ENDPOINTS}; a port from 1 to 65535")
    if match["rest"] or not _is_host(match["host"]):
        raise Invalid(field, shown(endpoint), HOSTS)


def check_region(field: str, region: str) -> None:
    """A label as of a host, or "" for none. Raises `Invalid` for `field`."""
    if region and (not _LABEL.match(region) or region.isdigit()):
        raise Invalid(field, shown(region), REGIONS)


def check_new_container(field: str, name: str) -> None:
    """A name that S3 takes for a container that is to be made. Raises `Invalid` for `field`."""
    if not _NEW_CONTAINER.match(name) or _IPV4.match(name):
        raise Invalid(field, shown(name), NEW_CONTAINERS)


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return len(host) <= MAX_HOST_CHARS and is_host(host.removesuffix("."))
    # The zone of a link-local address may stand behind it, after '%' or, as in RFC 6874, '%25'.
    address, has_zone, zone = host[1:-1].partition("%")
    return is_host(f"[{address}]") and (not has_zone or _ZONE.match(zone) is not None)
