"""Which link a connection is of, by what is said on it first. None: not to be told yet."""

from __future__ import annotations

import re

_REQUEST = re.compile(rb"^[A-Z]+ (?:/v[0-9.]+)?(/[^ ?]*)")

WRITER, POOL, LISTEN = "writer", "pool", "listen"
CONTROL, STREAMS, PULLS, EVENTS = "control", "streams", "pulls", "events"
STORE, CLIENT = "store", "client"


def of_postgres(data: bytes) -> str | None:
    """The protocol's first messages are no queries: only those of types Query and Parse have words."""
    if data[:1] not in (b"Q", b"P"):
        return None
    if b"LISTEN" in data:
        return LISTEN
    if b"tcp_keepalives_idle" in data or b"ledger_head FOR UPDATE" in data:
        return WRITER
    return "duty" if b"pg_try_advisory_lock" in data else POOL


def of_docker(data: bytes) -> str | None:
    found = _REQUEST.match(data)
    path = found[1] if found else b""
    if path in (b"", b"/version"):
        return None
    if path == b"/events":
        return EVENTS
    if path == b"/images/create" or path.startswith(b"/distribution/"):
        return PULLS
    return STREAMS if path.endswith(b"/logs") else CONTROL


def of_store(_data: bytes) -> str:
    return STORE


def of_client(_data: bytes) -> str:
    return CLIENT
