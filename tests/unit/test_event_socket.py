"""The end of an event stream, when everything ends in the same turn of the loop."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from service.api.events.socket import _listen


class _Socket:
    """Its client leaves at a moment."""

    def __init__(self, left: asyncio.Event) -> None:
        self._left = left

    def __aiter__(self) -> _Socket:
        return self

    async def __anext__(self) -> None:
        await self._left.wait()
        raise StopAsyncIteration


async def test_a_client_that_leaves_as_it_is_written_to_ends_its_stream_without_a_word() -> None:
    left, errors = asyncio.Event(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    async def talk() -> None:
        await left.wait()
        raise ConnectionResetError("the client has left")

    talking = asyncio.create_task(talk())
    await asyncio.sleep(0)
    socket: Any = _Socket(left)
    follower: Any = SimpleNamespace(why="", on_cut=None)
    listening = asyncio.create_task(_listen(socket, talking, follower))
    await asyncio.sleep(0)
    left.set()
    await listening
    await asyncio.sleep(0)
    assert isinstance(talking.exception(), ConnectionResetError)
    assert errors == []


async def test_what_is_cut_ends_while_its_client_says_nothing() -> None:
    follower: Any = SimpleNamespace(why="", on_cut=None)
    socket: Any = _Socket(asyncio.Event())
    talking = asyncio.create_task(asyncio.Event().wait())
    listening: asyncio.Task[None] = asyncio.create_task(_listen(socket, talking, follower))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    follower.on_cut()
    async with asyncio.timeout(20):
        await listening
    talking.cancel()
