"""Where the service is: options, then the environment, then the `up.json` of a service that runs here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from service.cli import words
from service.errors import Misconfigured, Unavailable

STATE_DIR = ".jobyard"
UP_FILE = "up.json"
#: What to give where no service runs here: to a command that asks one, and to one that reads the database.
GIVE_SERVICE = "give --url and --token"
GIVE_LEDGER = (
    "give --database-url (DATABASE_URL), as this command reads the ledger's database itself, or --state "
    "(JOBYARD_STATE_DIR) of a service that runs here"
)


class Up(msgspec.Struct, frozen=True, rename="camel"):
    """What `up` writes while it runs. `s3` is the access to its object store, if it has one."""

    url: str
    token: str
    pid: int
    docker_host: str = ""
    database_url: str = ""
    s3: Any = None

    def __repr__(self) -> str:
        return f"Up(url={self.url!r}, pid={self.pid})"


class Where(msgspec.Struct, frozen=True):
    """The base URL of a service, without a trailing slash, and a token for it."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Where(url={self.url!r})"


def find(
    url: str | None, token: str | None, state: Path | None, environ: Mapping[str, str] = os.environ
) -> Where:
    """The service to talk to. Raises `Unavailable` when none runs here, `Misconfigured` for half a way, and
    `Invalid` for what is given or set and empty."""
    url = _said("--url", url, "JOBYARD_URL", environ)
    token = _token(_said("--token", token, "JOBYARD_TOKEN", environ))
    if url:
        # The token of a local service must not be sent to another one.
        if not token:
            raise Misconfigured("--url needs a token too: give --token, or set JOBYARD_TOKEN")
        words.check(url)
        if not url.startswith(("http://", "https://")):
            raise Misconfigured(f"--url: {url!r} is not a URL; it begins with http:// or https://")
        return Where(url.rstrip("/"), token)
    up = require_up(state, environ)
    return Where(up.url.rstrip("/"), token or up.token)


def _said(option: str, given: str | None, variable: str, environ: Mapping[str, str]) -> str | None:
    """The option's value, else the variable's.

    Empty is not the same as absent: what a script takes from a variable that is not set would have it act on
    another service, or as another, than it names.
    """
    name, value = (option, given) if given is not None else (variable, environ.get(variable))
    words.check_given(name, value)
    return value


def _token(given: str | None) -> str | None:
    """Without the end of line that a file leaves at it. Never shown: it may be right but for that."""
    token = (given or "").strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise Misconfigured("the token holds a character that no token has; give it as it was shown once")
    return token or None


class LedgerAt(msgspec.Struct, frozen=True):
    """The URL of the ledger's database, which may hold a password, and what it was named by."""

    url: str
    named_by: str

    def __repr__(self) -> str:
        return f"LedgerAt({self.named_by!r})"


def database(url: str | None, state: Path | None, environ: Mapping[str, str] = os.environ) -> LedgerAt:
    """Where the ledger's database is: by the option, DATABASE_URL, or the service that runs here.

    Whoever has named another service by JOBYARD_URL is not told of this one's ledger. Raises `Misconfigured`.
    """
    given = _said("--database-url", url, "DATABASE_URL", environ)
    if given:
        return LedgerAt(given, "DATABASE_URL" if url is None else "--database-url")
    up, named = require_up(state, environ, GIVE_LEDGER), environ.get("JOBYARD_URL")
    if state is None and named is not None:
        words.check_given("JOBYARD_URL", named)
        named = named.rstrip("/")
    if state is None and named not in (None, up.url.rstrip("/")):
        raise Misconfigured(
            f"JOBYARD_URL names {named}, and this command reads a database itself: give --database-url with "
            f"that service's, or --state for the service at {up.url} that runs here"
        )
    if not up.database_url:
        raise Misconfigured("the service that runs here does not say where its database is; set DATABASE_URL")
    return LedgerAt(up.database_url, f"the database of the service at {up.url}")


def require_up(
    state: Path | None, environ: Mapping[str, str] = os.environ, otherwise: str = GIVE_SERVICE
) -> Up:
    """What runs here. Raises `Unavailable` when nothing does. `otherwise`: what to give in its place."""
    found = read_up(state, environ, otherwise)
    if found is None:
        raise Unavailable(
            f"no Jobyard is running here; start one with `python3 -m service up`, or {otherwise}"
        )
    return found


def read_up(
    state: Path | None, environ: Mapping[str, str] = os.environ, otherwise: str = GIVE_SERVICE
) -> Up | None:
    """The first `up.json` of a process that lives; one that a killed service left counts for nothing."""
    for folder in _folders(state, environ):
        try:
            up = msgspec.json.decode((folder / UP_FILE).read_bytes(), type=Up)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            raise Misconfigured(f"{folder / UP_FILE} belongs to another user: {otherwise}") from error
        except msgspec.MsgspecError as error:
            raise Misconfigured(f"{folder / UP_FILE} cannot be read: {error}") from error
        if _lives(up.pid):
            return up
    return None


def _folders(state: Path | None, environ: Mapping[str, str]) -> list[Path]:
    if state is not None:
        return [state]
    named = environ.get("JOBYARD_STATE_DIR")
    if named is not None:
        words.check_given("JOBYARD_STATE_DIR", named)
        return [Path(named)]
    return [Path(STATE_DIR), Path(__file__).parents[2] / STATE_DIR]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it lives, as another user
    return True
