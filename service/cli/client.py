"""The API as the commands use it: JSON in and out, errors of our tree, repeats where they are safe."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
from yarl import URL

from service.cli import lasting, words
from service.cli.where import Where
from service.errors import (
    BudgetExceeded,
    Conflict,
    Forbidden,
    JobyardError,
    NotFound,
    NotNow,
    QuotaExceeded,
    Rejected,
    TooLarge,
    Unauthenticated,
    Unavailable,
    WrongState,
)

ATTEMPTS = 4
PAUSE_S = 0.3
ANSWER_TIMEOUT_S = 60.0
#: What the service was at for so long before it said that it cannot, it has tried often enough itself. For
#: what is read alone: a repeat of anything else tells whether it was done.
TRIED_S = 20.0
PAGE_SIZE = 100
#: The largest page that the API gives: for lists of which each page costs much.
MOST_ROWS = 500
CHUNK_BYTES = 1 << 20

_LOST = (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError)
_PASSING = frozenset({429, 502, 503, 504})
#: What the API's messages advise, as it is done here.
_IN_WORDS_OF_COMMANDS = (
    ("asOf: ", "--as-of: "),
    ("?check=false takes", "--no-check takes"),
    ("PUT replaces it", "`jobyard datastore update` replaces it"),
)
_BY_CODE: dict[str, type[JobyardError]] = {
    kind.code: kind
    for kind in (
        Unauthenticated,
        Forbidden,
        QuotaExceeded,
        BudgetExceeded,
        NotFound,
        WrongState,
        Conflict,
        TooLarge,
    )
}
_BY_STATUS: dict[int, type[JobyardError]] = {
    401: Unauthenticated,
    402: BudgetExceeded,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
}


class Client:
    """One service and one token. Make it in a running event loop and use it as a context.

    Paths are below `/v1` (`/job`, `/me`). Every method raises the `Rejected` that the service answered,
    or `Unavailable` when it did not answer.
    """

    def __init__(self, where: Where) -> None:
        self.where = where
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {where.token}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            connector=aiohttp.TCPConnector(socket_factory=lasting.opened),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, **params: str | int | list[str] | None) -> Any:
        """Read; repeated a few times when the answer is lost."""
        return await self._repeated("GET", path, params=_query(params))

    async def pages(
        self,
        path: str,
        *,
        size: int = PAGE_SIZE,
        limit: int | None = None,
        apart: Callable[[Any], object] | None = None,
        **params: str | int | list[str] | None,
    ) -> list[Any]:
        """All items of a list, or the first `limit`, page after page.

        A list that grows meanwhile brings items again: of those of which `apart` says the same, the first is
        taken.
        """
        items: dict[object, Any] = {}
        page = 1
        while True:
            answer = await self.get(path, page=page, size=min(size, limit or size), **params)
            for item in answer["items"]:
                items.setdefault(apart(item) if apart else len(items), item)
            done = limit is not None and len(items) >= limit
            if done or page >= answer.get("metadata", {}).get("pageCount", 1):
                return list(items.values())[:limit]
            page += 1

    async def in_order(
        self,
        path: str,
        *,
        size: int = PAGE_SIZE,
        limit: int | None = None,
        apart: str = "id",
        **params: str | int | list[str] | None,
    ) -> list[Any]:
        """As `pages`, of a list that has cursors: whatever comes and goes meanwhile, nothing comes again, and
        nothing is left out. `apart`: the field that tells one item from another."""
        items: dict[str, Any] = {}
        cursor: str | None = ""
        while cursor is not None and (limit is None or len(items) < limit):
            answer = await self.get(path, cursor=cursor, size=min(size, limit or size), **params)
            for item in answer["items"]:
                items.setdefault(item[apart], item)  # one that moved in the list may come again all the same
            following = answer["metadata"].get("links", {}).get("next")
            cursor = None if following is None else URL(following).query["cursor"]
        return list(items.values())[:limit]

    async def post(
        self, path: str, body: Any, *, key: str | None = None, timeout_s: float | None = ANSWER_TIMEOUT_S
    ) -> Any:
        """Ask for something once: the Idempotency-Key makes a repeat after a lost answer harmless."""
        headers = {"Idempotency-Key": key or str(uuid4())}
        return await self._repeated("POST", path, body=body, headers=headers, timeout_s=timeout_s)

    async def put(self, path: str, body: Any = None, **params: str | int | list[str] | None) -> Any:
        """As `post`: what is done when the answer is lost is not done again by the repeat."""
        headers = {"Idempotency-Key": str(uuid4())}
        return await self._repeated("PUT", path, body=body, params=_query(params), headers=headers)

    async def delete(self, path: str, **params: str | int | list[str] | None) -> None:
        """Not repeated: after a lost answer the thing may be gone, and a repeat would say "not found"."""
        await self._once("DELETE", path, params=_query(params))

    @asynccontextmanager
    async def stream(
        self, path: str, **params: str | int | list[str] | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of a GET in pieces, for as long as it lasts."""
        async with self._request("GET", path, params=_query(params)) as reply:
            yield reply.content.iter_any()

    @asynccontextmanager
    async def socket(
        self, path: str, params: list[tuple[str, str]], protocol: str
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """An open websocket that speaks a sub-protocol."""
        words.check(*(value for _, value in params))
        url = URL(f"{self.where.url}/v1{path}", encoded=True).update_query(params)
        try:
            async with self._session.ws_connect(url, protocols=(protocol,), max_msg_size=0) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            # aiohttp drops what such an answer says; asked once more, the service says it again.
            async with self._request("GET", path, params=params, headers=_handshake(protocol)):
                raise Unavailable(f"{self.where.url} opened no socket: {error.status}") from error
        except _LOST as error:
            if _is_local(error):
                raise
            raise Unavailable(f"{self.where.url} does not answer: {_reason(error)}") from error

    async def upload(self, path: str, file: Path) -> None:
        """Store a file's bytes; repeated when the answer is lost, as the same bytes may be stored twice."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with file.open("rb") as body:
                    await self._once("PUT", path, data=body, timeout_s=None)
                return
            except Unavailable:
                if attempt == ATTEMPTS:
                    raise
                await asyncio.sleep(PAUSE_S * attempt)

    async def download(self, path: str, into: IO[bytes], media: str | None = None) -> int:
        """Write the body of a GET to `into`; the number of bytes. `media`: of what type it must be."""
        count = 0
        async with self._request("GET", path) as reply:
            if media is not None and reply.content_type != media:
                raise self.another()
            async for chunk in reply.content.iter_chunked(CHUNK_BYTES):
                count += await asyncio.to_thread(into.write, chunk)
        return count

    async def _repeated(self, method: str, path: str, **request: Any) -> Any:
        now = asyncio.get_running_loop().time
        for attempt in range(1, ATTEMPTS):
            began = now()
            try:
                return await self._once(method, path, **request)
            except Unavailable as error:
                if method == "GET" and isinstance(error, NotNow) and now() - began >= TRIED_S:
                    raise
                await asyncio.sleep(PAUSE_S * attempt)
        return await self._once(method, path, **request)

    async def _once(
        self, method: str, path: str, *, timeout_s: float | None = ANSWER_TIMEOUT_S, **request: Any
    ) -> Any:
        async with self._request(method, path, timeout_s=timeout_s, **request) as reply:
            raw = await reply.read()
        if not raw:
            return None
        try:
            return json.loads(raw)
        except ValueError:
            raise self.another() from None

    def another(self) -> Unavailable:
        """To be raised when an answer is none that the service gives."""
        return Unavailable(f"what answers at {self.where.url} is not Jobyard")

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        timeout_s: float | None = None,
        **request: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if body is not None:
            request["json"] = body
            _check_texts(body)
        url = URL(f"{self.where.url}/v1{path}", encoded=True)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(method, url, **request) as reply,
            ):
                if reply.status >= 300:
                    raise _refusal(reply.status, await reply.read())
                yield reply
        except _LOST as error:
            if _is_local(error):
                raise
            raise Unavailable(f"{self.where.url} does not answer: {_reason(error)}") from error


def _handshake(protocol: str) -> dict[str, str]:
    """What asks for a websocket."""
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(secrets.token_bytes(16)).decode(),
        "Sec-WebSocket-Protocol": protocol,
    }


def segment(text: str) -> str:
    """One part of a path, whatever text it holds. Raises `Rejected` for what is no text."""
    words.check(text)
    words.check_filled("NAME", text)  # the path would lead elsewhere
    return quote(text, safe="")


def object_path(alias: str, container: str, key: str | None = None) -> str:
    """The path of an object, or of the container's objects. The `/` of a key stay: they are its folders."""
    base = f"/datastore/{segment(alias)}/container/{segment(container)}/object"
    if key is None:
        return base
    words.check(key)
    words.check_filled("KEY", key)
    return f"{base}/{quote(key, safe='/')}"


def _check_texts(body: Any) -> None:
    """Also of a body: a variable may be taken from the environment, which holds any bytes."""
    if isinstance(body, str):
        words.check(body)
    elif isinstance(body, Mapping):
        _check_texts([*body, *body.values()])
    elif isinstance(body, list):
        for each in body:
            _check_texts(each)


def _query(params: Mapping[str, str | int | list[str] | None]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in params.items():
        values = value if isinstance(value, list) else [value]
        found += [(name, str(each)) for each in values if each is not None]
    words.check(*(value for _, value in found))  # yarl would send them without a word, and without the bytes
    return found


def _is_local(error: Exception) -> bool:
    """Whether it is of a file here, or of our own output: aiohttp has errors of its own for the service's
    side."""
    if not isinstance(error, OSError) or isinstance(error, aiohttp.ClientError | TimeoutError):
        return False
    return isinstance(error, BrokenPipeError) or not isinstance(error, ConnectionError)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.strerror or "no connection"
    return str(error) or type(error).__name__


def _refusal(status: int, raw: bytes) -> JobyardError:
    """The error of our tree that an answer stands for."""
    try:
        answer = json.loads(raw)
        message, code = str(answer["message"]), str(answer.get("code", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        message, code = f"the service answered {status}", ""
        if status in _PASSING:
            return Unavailable(message)  # a proxy's words, before a service that is not there
    for theirs, ours in _IN_WORDS_OF_COMMANDS:
        message = message.replace(theirs, ours)
    if status in _PASSING or status >= 500:
        return NotNow(message)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, Rejected)
    error = kind(message)
    error.code = code or error.code
    return error
