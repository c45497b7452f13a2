"""Fetching an https URL that a user named, without becoming that user's way into our own network.

Each hop: the name is resolved once and all its addresses checked (see `addresses`), the connection goes to
these very addresses, and TLS is verified against the name. Redirects are followed by hand, each as a hop
of its own. No proxy, no cookies, no credentials; sizes and silence are bounded.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from service.domain.weburls import WebUrl, read_archive_url
from service.errors import FetchRefused, Invalid, Unavailable
from service.outward import names
from service.outward.addresses import Network, Resolve, checked
from service.outward.pinned import Pinned, trust
from service.outward.strangers import Connector
from service.supervisor.data import disk
from service.supervisor.data.model import JOBS_LIMIT, LEAST_BYTES
from service.supervisor.data.s3.bodies import Pulse

MAX_REDIRECTS = 5
STALL_S = 120.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})
_NOT_MODIFIED = 304
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{1,1024}"')
_CHUNK = 256 * 1024


@dataclass(frozen=True)
class Web:
    """How the web is reached. `allow` names networks that are fetched from although they are not public;
    `ca` is a file of certificate authorities that are trusted beside the system's."""

    allow: tuple[Network, ...] = ()
    ca: Path | None = None
    resolve: Resolve = names.resolve
    stall_s: float = STALL_S

    async def addresses(self, at: WebUrl) -> list[str]:
        """The checked addresses of a URL's host. Raises FetchRefused or Unavailable."""
        return await checked(at.host, at.port, self.allow, self.resolve)


async def download(
    web: Web,
    url: str,
    to: Path,
    *,
    max_bytes: int,
    on_bytes: Callable[[int, int], None],
    unless: str = "",
) -> str | None:
    """Write what `url` answers to the new file `to`, of at most `max_bytes`. Its ETag, "" for none.

    None, and nothing is written, when the server says that it is still what had the ETag `unless`.

    `on_bytes` is told how many more bytes came and how many there will be (0: unknown). Raises
    FetchRefused for what trying again does not mend, Unavailable for what it may, OSError of the disk.
    """
    context = await disk.run(trust, web.ca)
    at = _read(url)
    for _ in range(MAX_REDIRECTS + 1):
        async with _hop(web, at, context, unless) as response:
            if unless and response.status == _NOT_MODIFIED:
                return None
            elsewhere = _judged(at, response)
            if elsewhere is None:
                await _save(web, at, response, to, max_bytes, on_bytes)
                return _etag(response)
            at = elsewhere
    raise FetchRefused(f"{_read(url).shown} leads elsewhere more than {MAX_REDIRECTS} times")


def _read(url: str) -> WebUrl:
    try:
        return read_archive_url("url", url)
    except Invalid as error:
        raise FetchRefused(f"the URL cannot be fetched: {error.allowed}") from None


@asynccontextmanager
async def _hop(
    web: Web, at: WebUrl, context: ssl.SSLContext, unless: str
) -> AsyncIterator[aiohttp.ClientResponse]:
    """One request, to the checked addresses of its host. Its errors become ours."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "jobyard"}
    if unless:
        headers["If-None-Match"] = unless
    addresses = await web.addresses(at)
    connector = Connector(
        resolver=Pinned(at.host, addresses), ssl=context, use_dns_cache=False, force_close=True
    )
    host = f"[{at.host}]" if ":" in at.host else at.host
    url = URL(f"https://{host}:{at.port}{at.path}{at.query}", encoded=True)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=30.0)
    with _translated(at):
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent",),
            ) as session,
            asyncio.timeout(web.stall_s) as deadline,
            session.get(url, allow_redirects=False, headers=headers) as response,
        ):
            deadline.reschedule(None)
            yield response


class _translated:
    """What aiohttp raises, as ours. The originals are not chained: they carry requests."""

    def __init__(self, at: WebUrl) -> None:
        self._at = at.shown

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        match error:
            case aiohttp.ClientConnectorCertificateError():
                raise FetchRefused(f"{self._at}: the server's certificate is not valid for it") from None
            case TimeoutError():
                raise Unavailable(f"{self._at}: the server did not answer in time") from None
            case aiohttp.InvalidURL() | aiohttp.TooManyRedirects():
                raise FetchRefused(f"{self._at}: {type(error).__name__}") from None
            case aiohttp.ClientPayloadError():
                raise Unavailable(f"{self._at}: the answer was cut short") from None
            case aiohttp.ClientError():
                raise Unavailable(
                    f"{self._at}: the server cannot be reached ({type(error).__name__})"
                ) from None


def _etag(response: aiohttp.ClientResponse) -> str:
    """The ETag as it may be sent back. One that is not written as the standard says is none."""
    found = response.headers.get("ETag", "")
    return found if _ETAG.fullmatch(found) else ""


def _judged(at: WebUrl, response: aiohttp.ClientResponse) -> WebUrl | None:
    """None: the body is what was asked for. Otherwise where to go on. Raises FetchRefused, Unavailable."""
    status = response.status
    if status == 200:
        return None
    if status in _REDIRECTS:
        try:
            target = response.url.join(URL(response.headers.get("Location", "")))
            return _read(str(target.with_fragment(None)))
        except (FetchRefused, ValueError):
            raise FetchRefused(f"{at.shown} leads to what is no https URL that may be fetched") from None
    if status >= 500 or status in _PASSING:
        raise Unavailable(f"{at.shown}: the server answered {status}")
    raise FetchRefused(f"{at.shown}: the server answered {status}")


async def _save(
    web: Web,
    at: WebUrl,
    response: aiohttp.ClientResponse,
    to: Path,
    max_bytes: int,
    on_bytes: Callable[[int, int], None],
) -> None:
    expected = response.content_length or 0
    if expected > max_bytes:
        raise FetchRefused(f"{at.shown} has {expected} bytes; the volume may have {max_bytes}{JOBS_LIMIT}")
    fd = await disk.run(os.open, to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        got = beaten = 0
        async with Pulse(web.stall_s) as pulse:
            async for chunk in response.content.iter_chunked(_CHUNK):
                got += len(chunk)
                if got > max_bytes:
                    raise FetchRefused(f"{at.shown} has more than {max_bytes} bytes{JOBS_LIMIT}")
                await disk.run(_write, fd, chunk)
                on_bytes(len(chunk), expected)
                if got - beaten >= LEAST_BYTES:
                    pulse.beat()
                    beaten = got
        if response.content_length not in (None, got):
            raise Unavailable(f"{at.shown}: the answer was cut short")
    except TimeoutError:
        said = f"the server sent fewer than {LEAST_BYTES} bytes in {web.stall_s:g} s"
        raise Unavailable(f"{at.shown}: {said}") from None
    finally:
        await disk.run(os.close, fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
