"""One connection pool to the Docker Engine: requests with a deadline, streams, errors told apart.

aiodocker finds and reaches the engine (socket, TCP, TLS). Its calls are not used: they put ids into URLs
unescaped, take a lost connection for the end of a stream, and report a status only as an exception.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiodocker
import aiohttp
from yarl import URL

from service.errors import EngineAway, EngineError, Misconfigured, NodeFull, Unavailable

NEWEST_API = (1, 47)
"""The newest API this code was written for; an older engine is spoken to in its own."""

ANSWER_TIMEOUT_S = 4.0
"""What an engine that is well begins to answer within, whatever it is asked to look at. Beyond it the link
may have been cut without an end."""
#: What Docker says of a full disk, whatever it was doing.
NO_SPACE = "no space left on device"

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_LOST = (aiohttp.ClientError, OSError, EOFError, asyncio.IncompleteReadError)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and decoded JSON of one request; `message` is the engine's own text when it refused."""

    status: int
    body: Any

    @property
    def message(self) -> str:
        if isinstance(self.body, dict):
            return str(self.body.get("message", ""))
        return ""


class Wire:
    """A pool of its own, so that long streams in one cannot starve short calls in another.

    Raises `EngineAway` and nothing else when the engine cannot be reached, drops the line or exceeds a
    deadline.
    """

    def __init__(self, host: str | None = None) -> None:
        """`host` as in DOCKER_HOST, which is the default. Call within a running event loop."""
        host = host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self.socket_path = host.removeprefix("unix://") if host.startswith("unix://") else None
        self._session: aiohttp.ClientSession | None = None
        if self.socket_path is not None:
            # The default pool holds 100 connections, and 100 log readers would fill it.
            self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(self.socket_path, limit=0))
        try:
            self._docker = aiodocker.Docker(host, session=self._session)
        except ValueError as error:
            raise Misconfigured(f"DOCKER_HOST cannot be used: {error}") from error
        self._api: str | None = None
        self._open: set[aiohttp.ClientResponse] = set()

    @property
    def docker(self) -> aiodocker.Docker:
        """aiodocker's own client, for what it does best: hijacked connections."""
        return self._docker

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        timeout_s: float = 30.0,
    ) -> Answer:
        """One request and its whole answer, within `timeout_s`."""
        try:
            async with (
                asyncio.timeout(timeout_s),
                self.stream(method, path, params=params, body=body) as reply,
            ):
                return await _answer(reply)
        except TimeoutError:
            raise EngineAway(f"the Docker Engine did not answer {method} {path} in {timeout_s:g} s") from None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        answer_s: float | None = None,
        silence_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An open answer to read from; errors while reading it become `EngineAway`.

        It begins within `answer_s`, and is never silent for longer than `silence_s`; None: no deadline.
        """
        try:
            async with asyncio.timeout(answer_s):
                reply = await self._docker.session.request(
                    method,
                    await self._url(path),
                    params=params,
                    json=body,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=None, sock_read=silence_s),
                )
            async with reply:
                self._open.add(reply)
                try:
                    yield reply
                finally:
                    self._open.discard(reply)
        except _LOST as error:
            raise EngineAway(f"the connection to the Docker Engine failed: {type(error).__name__}") from error

    async def close(self) -> None:
        """Close all connections; whoever reads a stream gets `EngineAway`."""
        # Closing the session alone leaves them waiting for bytes forever.
        for reply in self._open:
            reply.content.set_exception(aiohttp.ClientConnectionError("closed by us"))
        await self._docker.close()
        if self._session is not None:
            await self._session.close()

    async def _url(self, path: str) -> URL:
        if self._api is None:
            self._api = await self._negotiate()
        return URL(f"{self._docker.docker_host}/v{self._api}{path}", encoded=True)

    async def _negotiate(self) -> str:
        url = URL(f"{self._docker.docker_host}/version")
        async with asyncio.timeout(ANSWER_TIMEOUT_S), self._docker.session.get(url) as reply:
            answer = await _answer(reply)
        if answer.status != 200:
            raise EngineAway(f"the Docker Engine answered {answer.status} when asked for its version")
        major, _, minor = str(answer.body["ApiVersion"]).partition(".")
        return "{}.{}".format(*min((int(major), int(minor)), NEWEST_API))


async def _answer(reply: aiohttp.ClientResponse) -> Answer:
    raw = await reply.read()
    try:
        return Answer(reply.status, json.loads(raw) if raw.strip() else None)
    except ValueError:
        return Answer(reply.status, {"message": raw[:500].decode("utf-8", "replace")})


async def refusal(reply: aiohttp.ClientResponse) -> Answer:
    """The rest of a stream that turned out to be an error answer."""
    return await _answer(reply)


def safe_name(name_or_id: str) -> str:
    """The name or id, fit to stand in a URL. Raises `EngineError` for anything else."""
    if not _NAME.fullmatch(name_or_id):
        raise EngineError(f"not a container name or id: {name_or_id[:80]!r}")
    return name_or_id


#: What the engine answers while the part of it that starts containers is gone, and not back yet.
_NO_CONTAINERD = re.compile(
    r"(connection error|error reading from server|transport).*: unavailable", re.DOTALL
)


def refused(what: str, answer: Answer) -> EngineError | Unavailable:
    """What an unexpected status means: the engine is not well (503), its disk is full, or it refused."""
    if NO_SPACE in answer.message.lower():
        return NodeFull(f"{what}: the disk of the Docker Engine is full")
    if answer.status == 500 and _NO_CONTAINERD.search(answer.message):
        return EngineAway(f"{what}: the Docker Engine's containerd does not answer")
    text = f"{what}: the Docker Engine answered {answer.status}: {answer.message or 'no reason given'}"
    return EngineAway(text) if answer.status == 503 else EngineError(text)
