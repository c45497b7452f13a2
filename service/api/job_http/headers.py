"""Which headers pass between a client and a job. Pure.

What belongs to one connection stays with it (RFC 9110, 7.6.1); what is ours does not reach the job; what a
job says cannot speak for us or for another job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from multidict import CIMultiDict, CIMultiDictProxy

from service.api.handshake import PROTOCOL_HEADER, without_token

#: A name as RFC 9110 has it. Parsers let a space pass in front of the colon, and whoever stands before us may
#: read such a name as one of those below.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Headers = CIMultiDict[str] | CIMultiDictProxy[str]

_OF_A_CONNECTION = frozenset(
    {
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authenticate", "proxy-authorization", "proxy-authentication-info", "expect"),
    }
)
#: What a client says of where it comes from is ours to say.
_OURS_TO_SAY = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
                          "x-forwarded-prefix", "x-forwarded-port", "x-real-ip"})  # fmt: skip
#: What speaks for a whole origin, which below a path is ours and every other job's.
_OF_AN_ORIGIN = frozenset({"alt-svc", "clear-site-data", "expect-ct", "nel", "origin-agent-cluster",
                           "public-key-pins", "report-to", "reporting-endpoints", "service-worker-allowed",
                           "strict-transport-security"})  # fmt: skip
#: Orders to a proxy that may stand before us: it would answer with files of its own.
_TO_A_PROXY = frozenset({"x-accel-redirect", "x-sendfile", "x-lighttpd-send-file", "x-reproxy-url"})
#: The handshake's own; each side of a socket makes its own.
OF_A_SOCKET = frozenset({"sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions",
                         "sec-websocket-protocol", "sec-websocket-accept"})  # fmt: skip
#: A page below a path shares our origin with every other job's: it gets one of its own.
SANDBOX = "sandbox allow-scripts allow-forms allow-popups allow-modals allow-downloads"


def to_job(
    sent: Headers, *, client: str, scheme: str, host: str, prefix: str, keep_authorization: bool
) -> CIMultiDict[str]:
    """A request's headers, as the job gets them."""
    dropped = _OF_A_CONNECTION | _OURS_TO_SAY | _named(sent)
    if not keep_authorization:
        dropped |= {"authorization"}
    kept = (
        (name, sendable(value))
        for name, value in sent.items()
        if name.lower() not in dropped and _TOKEN.fullmatch(name)
    )
    passed = CIMultiDict(kept)
    if offered := passed.popall(PROTOCOL_HEADER, None):
        # A websocket's token travels among its sub-protocols, and is ours alone.
        left = ", ".join(filter(None, map(without_token, offered)))
        if left:
            passed[PROTOCOL_HEADER] = left
    passed["X-Forwarded-For"] = client
    passed["X-Forwarded-Proto"] = scheme
    passed["X-Forwarded-Host"] = host
    if prefix:
        passed["X-Forwarded-Prefix"] = prefix
    return passed


def from_job(said: Headers, *, prefix: str) -> CIMultiDict[str]:
    """An answer's headers, as the client gets them. `prefix` is the path below which the job is, if any."""
    dropped = _OF_A_CONNECTION | _TO_A_PROXY | _named(said) | {"x-request-id"}
    if prefix:
        dropped |= _OF_AN_ORIGIN
    passed = CIMultiDict[str]()
    for name, value in said.items():
        lower = name.lower()
        if lower in dropped or not _TOKEN.fullmatch(name):
            continue
        value = sendable(value)  # before it is taken apart: as clients will read it
        if lower == "set-cookie":
            value = _cookie(value, prefix)
        elif lower == "location" and prefix and value.startswith("/") and not value.startswith("//"):
            value = prefix + value
        passed.add(name, value)
    if prefix:
        passed.add("Content-Security-Policy", SANDBOX)
    return passed


def sendable(text: str) -> str:
    """A header's value (or a reason) as it can be sent on.

    Bytes that are no UTF-8 arrive as surrogates, which cannot be written: they are read as Latin-1, as they
    were meant. A control character would end the line for some readers: it becomes a space.
    """
    raw = text.encode("utf-8", "surrogateescape")
    try:
        plain = raw.decode()
    except UnicodeDecodeError:
        plain = raw.decode("latin-1")
    return _CONTROL.sub(" ", plain)


def _named(headers: Headers) -> frozenset[str]:
    """The headers that `Connection` makes part of the connection."""
    return frozenset(
        name.strip().lower() for value in headers.getall("Connection", []) for name in value.split(",")
    )


def _cookie(value: str, prefix: str) -> str:
    """A cookie of this job alone: never of a whole domain, and on the path way only below its prefix."""
    first, *attributes = [part.strip() for part in value.split(";")]
    kept = [part for part in attributes if not _is(part, ("domain",))]
    if prefix:
        paths = [part.partition("=")[2] for part in kept if _is(part, ("path",))]
        path = paths[-1] if paths and paths[-1].startswith("/") else "/"
        kept = [*(part for part in kept if not _is(part, ("path",))), f"Path={prefix}{path}"]
    return "; ".join([first, *kept])


def _is(attribute: str, names: Iterable[str]) -> bool:
    return attribute.partition("=")[0].strip().lower() in names
