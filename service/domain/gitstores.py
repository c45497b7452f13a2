"""Data stores of type git: which endpoints are taken, what a container names below one, and its keys.

An endpoint is where repositories lie; a container is a repository below it, with `#BRANCH-OR-TAG` behind it
if need be. Both are kept as they were written. Nothing is ever pushed to such a store.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import msgspec

from service.domain.spec import Sealed
from service.domain.weburls import HTTPS_PORT, MAX_URL_CHARS, REFS, WebUrl, is_host, is_ref, read_https
from service.errors import Invalid

SSH_PORT = 22
SSH_USER = "git"
MAX_REPOSITORY_CHARS = 1024
MAX_PARTS = 16

_PART = r"[A-Za-z0-9._~][A-Za-z0-9._~+-]{0,254}"
_REPOSITORY = re.compile(rf"\A{_PART}(?:/{_PART})*\Z")
_USER = r"(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]{0,63})"
_HOST = r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})"
_SSH = re.compile(
    rf"\Assh://(?:{_USER}@)?{_HOST}(?::(?P<port>[0-9]{{1,5}}))?(?P<path>/[A-Za-z0-9._/~+-]*)?\Z"
)
_SCP = re.compile(rf"\A{_USER}@{_HOST}:(?P<path>[A-Za-z0-9._/~+-]*)\Z")

_ENDPOINT = (
    "write https://HOST[:PORT][/PATH], ssh://[USER@]HOST[:PORT][/PATH] or USER@HOST:[PATH], "
    "without a password, a query and a fragment"
)
REPOSITORY = (
    "a repository below the data store's endpoint, such as repo or owner/repo.git, and #BRANCH-OR-TAG behind "
    "it if need be"
)


class GitEndpoint(NamedTuple):
    """Where repositories lie. `path` has no slash at its end; `user` is "" with https.

    `relative`: the form `USER@HOST:PATH`, whose path the server takes from the user's home.
    """

    scheme: Literal["https", "ssh"]
    host: str
    port: int
    path: str
    user: str = ""
    relative: bool = False

    @property
    def at(self) -> WebUrl:
        """Host and port, as they are looked up, and shown."""
        return WebUrl(self.host, self.port, self.path)

    @property
    def base(self) -> str:
        """`scheme://host:port`, for what is bound to exactly that."""
        return f"{self.scheme}://{self._written}:{self.port}"

    @property
    def _written(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def url(self, repository: str) -> str:
        """What git is told."""
        if self.relative:
            path = f"{self.path}/{repository}" if self.path else repository
            return f"{self.user}@{self._written}:{path}"
        user = f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{self._written}:{self.port}{self.path}/{repository}"

    def shown(self, repository: str) -> str:
        """Fit for messages."""
        standing = HTTPS_PORT if self.scheme == "https" else SSH_PORT
        port = "" if self.port == standing else f":{self.port}"
        return f"{self._written}{port}/{f'{self.path}/{repository}'.lstrip('/')}"


class GitKeys(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a git store asks for, sealed: `basic` is a JSON list of user and password, `private_key` a key.

    `public_key` and `host_keys` (`TYPE BASE64` each: the server may have these and no others) are no secrets.
    None of them: its repositories are public.
    """

    basic: Sealed | None = None
    private_key: Sealed | None = None
    public_key: str | None = None
    host_keys: tuple[str, ...] = ()


class BasicLogin(msgspec.Struct, frozen=True):
    """User and password in clear, for as long as git runs."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "BasicLogin(...)"


class SshLogin(msgspec.Struct, frozen=True):
    """A private key in clear, and the server's keys. Without any, the first one that it shows is taken."""

    private_key: str
    host_keys: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "SshLogin(...)"


GitLogin = BasicLogin | SshLogin


def read_git_endpoint(field: str, endpoint: str) -> GitEndpoint:
    """Read an endpoint. Raises `Invalid` for `field`."""
    if endpoint.startswith("https://"):
        at, fragment = read_https(field, endpoint, _ENDPOINT)
        if at.query or fragment is not None or "?" in endpoint:
            raise Invalid(field, endpoint.partition("?")[0], _ENDPOINT)
        return GitEndpoint("https", at.host, at.port, at.path.rstrip("/"))
    match = _SSH.match(endpoint)
    relative = match is None
    match = match or _SCP.match(endpoint)
    if match is None or len(endpoint) > MAX_URL_CHARS:
        raise Invalid(field, _harmless(endpoint), _ENDPOINT)
    path = (match["path"] or "").rstrip("/")
    port = SSH_PORT if relative else int(match["port"] or SSH_PORT)
    parts = path.removeprefix("/").split("/") if path else []
    if any(part in ("", ".", "..") for part in parts) or any(part.startswith("-") for part in parts):
        raise Invalid(field, endpoint, f"{_ENDPOINT}; a path without empty, '.' and '..' parts")
    if not is_host(match["host"]) or not 1 <= port <= 65_535:
        raise Invalid(field, endpoint, _ENDPOINT)
    return GitEndpoint("ssh", match["host"].strip("[]"), port, path, match["user"] or SSH_USER, relative)


def _harmless(endpoint: str) -> str:
    """What stands before an @ may hold a password."""
    return "a URL with a user" if "@" in endpoint and "://" in endpoint else endpoint.partition("?")[0]


def read_repository(field: str, container: str) -> tuple[str, str | None]:
    """Read `path[#ref]`: the repository and the branch or tag. Raises `Invalid` for `field`."""
    path, found, ref = container.partition("#")
    parts = path.split("/")
    good = _REPOSITORY.match(path) and len(parts) <= MAX_PARTS and len(path) <= MAX_REPOSITORY_CHARS
    if not good or any(part in (".", "..") for part in parts):
        raise Invalid(field, container, REPOSITORY)
    if found and not is_ref(ref):
        raise Invalid(field, container, f"behind '#' stands {REFS}")
    return path, ref if found else None


def require_login(endpoint: GitEndpoint, keys: GitKeys) -> None:
    """Each way in has its own keys. Raises `Invalid`."""
    if endpoint.scheme == "ssh":
        if keys.basic is not None:
            said = "an endpoint with ssh takes credentials.git.sshKeypair"
            raise Invalid("credentials.git.basicAuth", "user and password", said)
        if keys.private_key is None:
            raise Invalid("credentials.git.sshKeypair", None, "an endpoint with ssh needs a key pair")
        if not keys.host_keys:
            said = "the server's key is learned when it is asked: leave out check=false, or give its keys"
            raise Invalid("credentials.git.hostKeys", None, said)
    elif keys.private_key is not None or keys.host_keys:
        field = "sshKeypair" if keys.private_key is not None else "hostKeys"
        raise Invalid(
            f"credentials.git.{field}",
            "keys",
            "an endpoint with https takes credentials.git.basicAuth or none",
        )
