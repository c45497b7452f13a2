"""A database by the URL that an operator gave: what cannot be used is told by the URL's own name.

The URL holds a password, which no message shows: not the URL as it was given, and nothing that was read of
one that is none, as a part of the password may stand where a host or a port is looked for.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from service.domain.shown import shown
from service.errors import Misconfigured, Unavailable
from service.ledger.database import close, connect

FORM = (
    "it must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, where what is neither letter nor digit in the "
    "password is percent-encoded"
)
#: Of the parameters of a URL, those that may be shown.
_PLAIN = frozenset({"host", "port", "user", "dbname", "database", "sslmode"})
_HOST = r"(\[[0-9A-Fa-f:.%]+\]|[^:,@\[\]]*)(:[0-9]+)?"
_HOSTS = re.compile(rf"{_HOST}(,{_HOST})*")


async def connect_named(name: str, url: str, **options: Any) -> asyncpg.Connection:
    """As `connect`. Raises `Misconfigured` and `Unavailable` that begin with `name`, and say what was given
    and what the server, or the way to it, answered."""
    given = without_password(url)
    try:
        return await connect(url, **options)
    except (Misconfigured, Unavailable) as error:
        if given is None:
            raise Misconfigured(f"{name}: what was given is not allowed; {FORM}") from None
        raise type(error)(f"{name}: {given}: {_why(error)}") from error
    except ValueError:
        # Not chained: it shows what was taken for a port, or for a parameter.
        said = "what was given" if given is None else given
        raise Misconfigured(f"{name}: {said} is not allowed; {FORM}") from None


async def require(name: str, url: str) -> None:
    """That there is a database there, which lets us in. Raises as `connect_named`."""
    await close(await connect_named(name, url, admin=True))


def without_password(url: str) -> str | None:
    """A URL as it may be shown; None for one of which it is not known where its password stands."""
    try:
        parts = urlsplit(url)
        asked = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
    except ValueError:
        return None
    login, at, hosts = parts.netloc.rpartition("@")
    if not parts.scheme or "@" in parts.path + parts.fragment or _HOSTS.fullmatch(hosts) is None:
        return None
    if parts.fragment or (not parts.netloc and not url.startswith(f"{parts.scheme}://")):
        return None
    plain = "&".join(f"{name}={value}" for name, value in asked if name in _PLAIN)
    user = login.partition(":")[0]
    return shown(f"{parts.scheme}://{user}{at}{hosts}{parts.path}{f'?{plain}' if plain else ''}")


def _why(error: Misconfigured | Unavailable) -> str:
    """What was answered; of a way that does not lead there, what the system says of it."""
    cause = error.__cause__
    if isinstance(error, Unavailable) and isinstance(cause, OSError) and str(cause):
        return f"{error.message}: {cause}"
    return error.message
