"""A process with many clients of the event stream: `python -m tests.api.crowd`, its orders on its input.

Each client connects again by itself whenever its stream ends, and goes on where it was: half of them after
the last event they saw, half after the last position they were told of, whatever said it. A line
`end POSITION` says where the ledger ends; when every client has looked up to there, the process says as JSON
what each of them saw.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import msgspec
import uvloop

#: Between two attempts, and between two lines about how often any of them has connected.
PAUSE_S = 0.05
REPORT_S = 0.1


class Client(msgspec.Struct):
    """What one asks for. `by_event`: it goes on after the last event, else after the last position."""

    query: str
    token: str
    by_event: bool


class Orders(msgspec.Struct):
    url: str
    clients: list[Client]


class Told(msgspec.Struct, rename="camel"):
    position: int = 0


class Frame(msgspec.Struct):
    id: str
    type: str
    data: Told


class Crowd(msgspec.Struct):
    """What the clients saw: the positions of events, in the order in which they came."""

    seen: list[list[int]]
    looked: list[int]
    connections: int = 0
    end: int | None = None


_frame = msgspec.json.Decoder(Frame).decode
_CONTROL = ("jobyard.hello", "jobyard.heartbeat")


async def follow(http: aiohttp.ClientSession, url: str, index: int, client: Client, crowd: Crowd) -> None:
    headers = {"Authorization": f"Bearer {client.token}"}
    seen = crowd.seen[index]
    while crowd.end is None or crowd.looked[index] < crowd.end:
        after = (seen[-1] if seen else 0) if client.by_event else crowd.looked[index]
        try:
            target = f"{url}/v1/events?after={after}{client.query}"
            async with http.ws_connect(target, headers=headers, max_msg_size=0, compress=0) as socket:
                crowd.connections += 1
                await _listen(socket, index, crowd)
        except (aiohttp.ClientError, OSError):
            await asyncio.sleep(PAUSE_S)


async def _listen(socket: aiohttp.ClientWebSocketResponse, index: int, crowd: Crowd) -> None:
    seen, looked = crowd.seen[index], crowd.looked
    async for message in socket:
        frame = _frame(message.data)
        if frame.type in _CONTROL:
            looked[index] = max(looked[index], frame.data.position)
        else:
            seen.append(int(frame.id))
            looked[index] = max(looked[index], seen[-1])
        if crowd.end is not None and looked[index] >= crowd.end:
            return


async def _hear(crowd: Crowd) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        crowd.end = int(line.removeprefix("end "))


async def _report(crowd: Crowd) -> None:
    while True:
        print(crowd.connections, flush=True)
        await asyncio.sleep(REPORT_S)


async def main(orders: Orders) -> None:
    count = len(orders.clients)
    crowd = Crowd([[] for _ in range(count)], [0] * count)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        others = [asyncio.create_task(_report(crowd)), asyncio.create_task(_hear(crowd))]
        await asyncio.gather(
            *(follow(http, orders.url, each, client, crowd) for each, client in enumerate(orders.clients))
        )
        for task in others:
            task.cancel()
    sys.stdout.buffer.write(msgspec.json.encode(crowd) + b"\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(msgspec.json.decode(sys.stdin.readline(), type=Orders)))
