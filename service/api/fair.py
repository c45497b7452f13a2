"""What strangers send is taken in turns: nobody keeps the loop by having sent more than can be taken at once.

To wait for what is there already is not to wait at all: a task that reads it never lets another have its
turn, no timeout of its own acts, and it cannot be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from aiohttp import StreamReader, web

#: So many messages that wait are taken in a row; with what is done about each, that is about a millisecond.
MOST_IN_A_ROW = 64


class InTurns:
    """A socket's queue of messages, as aiohttp reads it: also its pings, and what comes while it closes."""

    __slots__ = ("_queue", "_row")

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._row = 0

    def read(self) -> Awaitable[Any]:
        """Nothing of ours stands for what waits: there are thousands of them."""
        self._row = self._row + 1 if self._queue._buffer else 0
        if self._row >= MOST_IN_A_ROW:
            self._row = 0
            return self._read_later()
        next_one: Awaitable[Any] = self._queue.read()
        return next_one

    async def _read_later(self) -> Any:
        await asyncio.sleep(0)
        return await self._queue.read()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


class FairSocket(web.WebSocketResponse):
    """A client's socket of which the messages are taken in turns."""

    _made: Any = None

    @property
    def _parser(self) -> Any:
        return self._made

    @_parser.setter
    def _parser(self, made: Any) -> None:
        """aiohttp makes it as soon as there is a queue."""
        self._made = made
        if made is not None:
            queue: Any = InTurns(self._reader)
            self._reader = queue


async def pieces(content: StreamReader) -> AsyncIterator[bytes]:
    """A body as it comes. What waits is joined: a piece of one byte costs as much as a large one."""
    while piece := await content.readany():
        yield piece
        await asyncio.sleep(0)
