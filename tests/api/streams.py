"""Clients of event streams: a websocket, and Server-Sent Events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.api.yard import READER, Yard

DEADLINE_S = 20.0


@dataclass
class Socket:
    """A websocket, with what came: events by position, control frames, and how it ended."""

    socket: aiohttp.ClientWebSocketResponse
    controls: list[dict[str, Any]] = field(default_factory=list)

    async def frame(self) -> dict[str, Any] | None:
        """The next frame; None when it was closed."""
        async with asyncio.timeout(DEADLINE_S):
            message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED), message
            return None
        frame: dict[str, Any] = json.loads(message.data)
        return frame

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The next so many events; control frames on the way are put aside."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            frame = await self.frame()
            assert frame is not None, (self.socket.close_code, found)
            (self.controls if is_control(frame) else found).append(frame)
        return found

    async def until_live(self) -> list[dict[str, Any]]:
        """All events up to the frame that says that nothing lies between this client and the head."""
        found: list[dict[str, Any]] = []
        while True:
            frame = await self.frame()
            assert frame is not None, self.socket.close_code
            if not is_control(frame):
                found.append(frame)
                continue
            self.controls.append(frame)
            if frame["data"]["live"]:
                return found

    async def end(self) -> int | None:
        """The closing code, whatever still comes before it."""
        async with asyncio.timeout(DEADLINE_S):
            while await self.frame() is not None:
                pass
        return self.socket.close_code


def is_control(frame: dict[str, Any]) -> bool:
    return frame["type"] in ("jobyard.hello", "jobyard.heartbeat")


def ids(frames: list[dict[str, Any]]) -> list[int]:
    return [int(frame["id"]) for frame in frames]


@asynccontextmanager
async def socket(yard: Yard, query: str = "", *, token: str = READER, **more: Any) -> AsyncIterator[Socket]:
    headers = {"Authorization": f"Bearer {yard.tokens.get(token, token)}"} | more.pop("headers", {})
    async with yard.http.ws_connect(f"{yard.url}/v1/events{query}", headers=headers, **more) as opened:
        yield Socket(opened)


@dataclass
class Sse:
    """Server-Sent Events, as a browser takes them apart."""

    response: aiohttp.ClientResponse

    async def record(self) -> dict[str, str] | None:
        """The next one's fields; None at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE_S):
            while line := await self.response.content.readline():
                if line == b"\n":
                    return fields
                name, _, value = line.decode().rstrip("\n").partition(": ")
                fields[name] = value
        return None

    async def events(self, count: int) -> list[dict[str, str]]:
        """The next so many that have no name: those that `onmessage` gets."""
        found: list[dict[str, str]] = []
        while len(found) < count:
            record = await self.record()
            assert record is not None, found
            if "data" in record and "event" not in record:
                found.append(record)
        return found


@asynccontextmanager
async def sse(yard: Yard, query: str = "", *, token: str = READER, **headers: str) -> AsyncIterator[Sse]:
    asked = {"Authorization": f"Bearer {yard.tokens[token]}", "Accept": "text/event-stream"} | headers
    async with yard.http.get(f"{yard.url}/v1/events{query}", headers=asked) as response:
        assert response.status == 200, await response.text()
        yield Sse(response)
