"""Image references by the strict grammar of the distribution project, so that none becomes a URL trick."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import NamedTuple

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"\A(?:(?P<domain>{_DOMAIN})/)?(?P<path>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?\Z"
)
_MAX_NAME_LENGTH = 255
#: An engine takes `sha256:<part of an id>` for the image of that id, whoever pulled it and wherever from.
_IDS = re.compile(r"sha256|[0-9a-f]{64}")


class ImageRef(NamedTuple):
    """A parsed reference. `host` is None for the engine's default registry."""

    host: str | None
    path: str
    tag: str | None
    digest: str | None

    def __str__(self) -> str:
        """The reference with an explicit tag or digest: an engine asked for no tag would pull them all."""
        name = f"{self.host}/{self.path}" if self.host else self.path
        tag = self.tag or (None if self.digest else "latest")
        return name + (f":{tag}" if tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_image(text: str) -> ImageRef | None:
    """Read `[host[:port]/]path[:tag][@sha256:digest]`; None when it is not one, or an image's id."""
    match = _NAME.match(text)
    if match is None:
        return None
    host, path = match["domain"], match["path"]
    if host and _is_host(host):
        if not _can_be_reached(host):
            return None
    elif host:
        if host != host.lower():
            return None
        host, path = None, f"{host}/{path}"
    if host is None and _IDS.fullmatch(path):
        return None
    if len(f"{host}/{path}" if host else path) > _MAX_NAME_LENGTH:
        return None
    return ImageRef(host, path, match["tag"], match["digest"])


def _is_host(text: str) -> bool:
    """`library/x` names a folder, `localhost/x`, `host.tld/x` and `host:5000/x` a registry."""
    return text == "localhost" or text.startswith("[") or "." in text or ":" in text


def _can_be_reached(host: str) -> bool:
    """The grammar takes any hexadecimal digits and colons in brackets, and any five digits for a port."""
    literal = re.match(r"\[(.*)\]", host)
    if literal:
        try:
            IPv6Address(literal[1])
        except ValueError:
            return False
    port = re.search(r":([0-9]+)\Z", host)
    return port is None or 0 < int(port[1]) < 65_536
