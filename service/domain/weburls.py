"""URLs of public git repositories and public archives: which are taken, and what they name.

https only, without a user, in ASCII. They are kept as they were written, so that a specification which was
read back can be sent again. Which addresses a host's name may lead to is not decided here: names change.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

from service.errors import Invalid

MAX_URL_CHARS = 2048
MAX_REF_CHARS = 200
HTTPS_PORT = 443

_URL = re.compile(
    r"\Ahttps://(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?:#(?P<fragment>.*))?\Z"
)
#: What a URL may be written with (RFC 3986), each "%" with its two digits.
_WRITTEN = re.compile(r"\A(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*\Z")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_LABEL = re.compile(r"\A[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z")
_NUMBER = re.compile(r"\A(?:[0-9]+|0[xX][0-9A-Fa-f]*)\Z")
_REF = re.compile(r"\A[A-Za-z0-9_][A-Za-z0-9._/+-]*\Z")

_GIT = (
    "write https://HOST[:PORT]/REPOSITORY, without a user or a query, and #BRANCH-OR-TAG behind it if need be"
)
_ARCHIVE = (
    "write https://HOST[:PORT]/FILE of a .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz or .zip, without a user"
)
REFS = f"a branch or tag of letters, digits, '.', '_', '/', '+' and '-', at most {MAX_REF_CHARS}"


class WebUrl(NamedTuple):
    """An https URL in its parts. `host` is without brackets; `target` is path and query, for a request."""

    host: str
    port: int
    path: str
    query: str = ""

    @property
    def shown(self) -> str:
        """Fit for messages: the query may hold what not everybody should see."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}{'' if self.port == HTTPS_PORT else f':{self.port}'}{self.path}"


class GitUrl(NamedTuple):
    """A repository. `plain` is the URL for git; `ref` a branch or tag, None for the standing branch."""

    plain: str
    at: WebUrl
    ref: str | None


def read_git_url(field: str, url: str) -> GitUrl:
    """Read `https://host[:port]/path[#ref]`. Raises `Invalid` for `field`."""
    at, fragment = read_https(field, url, _GIT)
    if at.query or at.path.strip("/") == "":
        raise Invalid(field, url, _GIT)
    if fragment is not None and not is_ref(fragment):
        raise Invalid(field, url, f"behind '#' stands {REFS}")
    return GitUrl(url.partition("#")[0], at, fragment)


def read_archive_url(field: str, url: str) -> WebUrl:
    """Read `https://host[:port]/path[?query]`. Raises `Invalid` for `field`."""
    at, fragment = read_https(field, url, _ARCHIVE)
    if fragment is not None or at.path.strip("/") == "":
        raise Invalid(field, url.partition("?")[0], _ARCHIVE)
    return at


def read_https(field: str, url: str, allowed: str) -> tuple[WebUrl, str | None]:
    """An https URL and its fragment. Raises `Invalid` for `field`, with `allowed` for what may be written."""
    authority = url.partition("://")[2].partition("/")[0]
    if "@" in authority:
        raise Invalid(field, "a URL with a user", allowed)  # what stands before an @ may be a password
    bare = url.partition("?")[0]
    if len(url) > MAX_URL_CHARS:
        raise Invalid(field, bare, f"at most {MAX_URL_CHARS} characters")
    if not _WRITTEN.match(url):
        raise Invalid(field, bare, f"{allowed}; in ASCII, with %XX for every other character")
    match = _URL.match(url)
    if match is None or not is_host(match["host"]):
        raise Invalid(field, bare, allowed)
    port = int(match["port"] or HTTPS_PORT)
    path = match["path"] or "/"
    if not 1 <= port <= 65_535 or not _is_path(path):
        raise Invalid(field, bare, f"{allowed}; a port from 1 to 65535, a path without '//', '.' and '..'")
    return WebUrl(match["host"].strip("[]"), port, path, match["query"] or ""), match["fragment"]


def is_host(host: str) -> bool:
    """A name, or an address in its one plain form: 127.1, 0x7f.1 and 2130706433 are addresses in disguise."""
    if host.startswith("["):
        return _is_address(IPv6Address, host[1:-1])
    labels = host.split(".")
    if _NUMBER.match(labels[-1]):
        return _is_address(IPv4Address, host)
    return all(_LABEL.match(label) for label in labels)


def is_address(host: str) -> bool:
    """Whether a host that was taken is an address, and no name."""
    return ":" in host or _is_address(IPv4Address, host)


def _is_address(kind: type[IPv4Address] | type[IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except AddressValueError:
        return False
    return True


def _is_path(path: str) -> bool:
    """No segment that leads up, also not in an escape, and no control character."""
    plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), path)
    segments = plain.rstrip("/").split("/")[1:]
    return all(part not in ("", ".", "..") for part in segments) and not any(
        ord(char) < 32 or ord(char) == 127 or char == "\\" for char in plain
    )


def is_ref(ref: str) -> bool:
    """A name that git takes for a branch or tag, and that cannot be an option or an expression."""
    if not _REF.match(ref) or len(ref) > MAX_REF_CHARS or ".." in ref or "//" in ref:
        return False
    return not any(
        part.startswith(".") or part.endswith((".", ".lock")) or not part for part in ref.split("/")
    )


_ARCHIVE_NAME = re.compile(r"\.(?:tar|tar\.gz|tgz|tar\.bz2|tar\.xz|zip)\Z", re.IGNORECASE)


def looks_like_archive(url: str) -> bool:
    """Whether the command line takes an https URL for an archive, by its path; else it is a repository."""
    return _ARCHIVE_NAME.search(url.partition("#")[0].partition("?")[0]) is not None


def spoken(kind: str, url: str) -> str:
    """A source (`git` or `archive`) as the command line writes it: with its kind where the URL misleads."""
    looks = "archive" if looks_like_archive(url) else "git"
    return url if looks == kind else f"{kind}+{url}"


def shown_url(url: str) -> str:
    """A URL that was taken, fit for messages."""
    return read_https("url", url, "")[0].shown
