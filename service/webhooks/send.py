"""One request to a webhook's endpoint: to checked addresses only, bounded in time and size, never redirected.

Whatever happens is an `Answer`; its `error` is in words of ours, with nothing of what came back and nothing
of what lies behind a name.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import aiohttp
from yarl import URL

from service.domain.webhooks import WebhookUrl
from service.errors import FetchRefused, Unavailable
from service.outward import names
from service.outward.addresses import Network, NotPublic, Resolve, checked, is_within
from service.outward.pinned import Pinned, trust
from service.outward.strangers import Connector

CONNECT_S = 5.0
WHOLE_S = 15.0
#: The status is the answer. So much of the body is read, for so long, that a receiver ends in peace.
MOST_BODY_BYTES = 16 * 1024
BODY_S = 1.0
GONE = 410
USER_AGENT = "jobyard-webhooks/1"


class Answer(NamedTuple):
    """`status` is None when there was none; `error` is None when the event was taken (2xx)."""

    status: int | None
    error: str | None
    took_ms: int = 0
    retry_after: str | None = None

    @property
    def delivered(self) -> bool:
        return self.error is None


class Sender:
    """Sends for all webhooks of a process. `allow` are networks that are reached although they are not
    public, also with plain http; `ca` is a file of authorities that are trusted beside the system's."""

    def __init__(
        self,
        allow: tuple[Network, ...] = (),
        ca: Path | None = None,
        *,
        resolve: Resolve = names.resolve,
        connect_s: float = CONNECT_S,
        whole_s: float = WHOLE_S,
        body_s: float = BODY_S,
    ) -> None:
        self._allow = allow
        self._ca = ca
        self._resolve = resolve
        self._connect_s = connect_s
        self._whole_s = whole_s
        self._body_s = body_s
        self._context: ssl.SSLContext | None = None

    @property
    def takes_http(self) -> bool:
        """Whether there is a network that plain http may go to."""
        return bool(self._allow)

    async def addresses(self, url: WebhookUrl) -> list[str]:
        """The checked addresses of a URL's host. Raises `FetchRefused` (`NotPublic`) or `Unavailable`."""
        found = await checked(url.at.host, url.at.port, self._allow, self._resolve)
        if url.scheme == "http" and not all(is_within(each, self._allow) for each in found):
            raise NotPublic("plain http goes to networks that the operator named, and nowhere else")
        return found

    async def post(self, url: WebhookUrl, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send it once. Never raises but when it is cancelled."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._whole_s):
                answer = await self._post(url, headers, body)
        except Exception as error:  # noqa: BLE001 (whatever a stranger's server brings about is its failure)
            answer = Answer(None, self._said(error))
        return answer._replace(took_ms=round((loop.time() - began) * 1000))

    async def _post(self, url: WebhookUrl, headers: Mapping[str, str], body: bytes) -> Answer:
        addresses = await self.addresses(url)
        if self._context is None:
            self._context = await asyncio.to_thread(trust, self._ca)
        connector = Connector(
            resolver=Pinned(url.at.host, addresses),
            ssl=self._context,
            use_dns_cache=False,
            force_close=True,
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            ) as session,
            session.post(
                URL(url.text, encoded=True),
                data=body,
                headers={"User-Agent": USER_AGENT, **headers},
                allow_redirects=False,
            ) as response,
        ):
            await _drained(response, self._body_s)
            return Answer(response.status, _judged(response.status), 0, response.headers.get("Retry-After"))

    def _said(self, error: Exception) -> str:
        match error:
            case NotPublic():
                return "its host is at an address that is not a public one"
            case FetchRefused():
                return "there is no such host"
            case Unavailable():
                return "its host's name could not be looked up"
            case aiohttp.ClientConnectorCertificateError():
                return "its certificate is not valid for its host"
            case aiohttp.ClientSSLError():
                return "TLS failed"
            case aiohttp.ConnectionTimeoutError():
                return f"no connection within {self._connect_s:g} s"
            case TimeoutError():
                return f"no answer within {self._whole_s:g} s"
            case aiohttp.ClientConnectorError():
                return "no connection"
            case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | ConnectionError():
                return "it hung up without an answer"
            case _:
                return f"what it answered is no HTTP ({type(error).__name__})"


def _judged(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"it answered {status}; redirects are not followed"
    return f"it answered {status}"


async def _drained(response: aiohttp.ClientResponse, body_s: float) -> None:
    """Read a little of the body and throw it away. Nothing that goes wrong here changes the answer."""
    got = 0
    try:
        async with asyncio.timeout(body_s):
            async for chunk in response.content.iter_chunked(4096):
                got += len(chunk)
                if got >= MOST_BODY_BYTES:
                    return
    except (TimeoutError, aiohttp.ClientError, OSError):
        return
