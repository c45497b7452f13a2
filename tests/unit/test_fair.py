"""What waits to be taken is taken in turns: against aiohttp's own queues and bodies."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import StreamReader, WSMessage, WSMsgType
from aiohttp._websocket.reader import WebSocketDataQueue
from aiohttp.base_protocol import BaseProtocol

from service.api.fair import MOST_IN_A_ROW, InTurns, pieces


class Turns:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.now = 0
        self._next()

    def _next(self) -> None:
        self.now += 1
        asyncio.get_running_loop().call_soon(self._next)


async def test_of_a_sockets_messages_so_many_are_taken_a_turn() -> None:
    loop = asyncio.get_running_loop()
    queue = WebSocketDataQueue(BaseProtocol(loop), 2**20, loop=loop)
    for number in range(1000):
        queue.feed_data(WSMessage(WSMsgType.PING, b"%d" % number, None), 0)
    turns, taken, fair = Turns(), Counter[int](), InTurns(queue)
    for number in range(1000):
        assert (await fair.read()).data == b"%d" % number
        taken[turns.now] += 1
    assert max(taken.values()) <= MOST_IN_A_ROW
    assert len(taken) > 1


async def test_a_message_is_not_lost_when_whoever_takes_it_is_cancelled() -> None:
    loop = asyncio.get_running_loop()
    queue = WebSocketDataQueue(BaseProtocol(loop), 2**20, loop=loop)
    for number in range(MOST_IN_A_ROW + 1):
        queue.feed_data(WSMessage(WSMsgType.PING, b"%d" % number, None), 0)
    fair, taken = InTurns(queue), [b""]

    async def take() -> None:
        while True:
            taken.append((await fair.read()).data)

    taking = asyncio.create_task(take())
    while len(taken) == 1:
        await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    assert (await fair.read()).data == b"%d" % (len(taken) - 1), "it was cancelled in between"


async def test_pieces_that_wait_are_joined_and_others_have_their_turn_after_each() -> None:
    body = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16)
    turns, at, joined = Turns(), Counter[int](), b"a" * 50
    for _ in joined:
        body.feed_data(b"a")
    async for piece in pieces(body):
        assert piece == joined
        at[turns.now] += 1
        if at.total() == 10:
            body.feed_eof()
        else:
            for _ in joined:
                body.feed_data(b"a")
    assert len(at) == 10
