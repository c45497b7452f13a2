"""Bringing one stream to one client, over whatever it speaks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from service.api.events.feed import Feed
from service.api.events.pieces import HEARTBEAT, HELLO, Control, Piece, Told, control
from service.api.events.stream import Batch, Stream
from service.api.metrics import Metrics
from service.ledger.read import Head

#: Why a stream ended, as a websocket's closing code; Server-Sent Events say the same numbers.
RESTARTS, FAILED, TOKEN, SLOW = 1012, 1011, 4401, 4408
MEANING: dict[int, str] = {
    RESTARTS: "the service closes: connect again, after the last position",
    FAILED: "the service failed; its log tells more under this stream's request id",
    TOKEN: "the token was revoked or renewed: a new one is needed",
    SLOW: "the client took too little for too long: connect again, after the last position",
}


class TooSlow(Exception):
    """The client does not take what is sent to it."""


class Outlet(Protocol):
    """One client. All raise `ConnectionError` when it has left, `TooSlow` when it takes nothing."""

    async def events(self, pieces: Sequence[Piece]) -> None: ...

    async def control(self, kind: Control, position: int, frame: bytes) -> None: ...

    async def taken(self) -> None:
        """Until it has room for more."""


class PromptOutlet(Outlet, Protocol):
    """One that can tell whether it would have to wait, and need not then."""

    def takes(self) -> bool: ...

    def leave(self, pieces: Sequence[Piece]) -> None: ...


class Sending:
    """One stream on its way to its client. `run` ends only with an error, or cancelled."""

    __slots__ = ("_controls", "_feed", "_head", "_id", "_outlet", "_stream", "position", "sent")

    def __init__(self, feed: Feed, stream: Stream, outlet: Outlet, head: Head, stream_id: str) -> None:
        self._feed = feed
        self._stream = stream
        self._outlet = outlet
        self._head = head
        self._id = stream_id
        self._controls = 0
        #: All that is wanted up to here has been sent.
        self.position = stream.position
        self.sent = 0

    async def run(self, metrics: Metrics) -> None:
        loop = asyncio.get_running_loop()
        beat_s = self._feed.pace.beat_s
        await self._control(HELLO)
        due, told_live = loop.time() + beat_s, False
        while True:
            batch = await self._stream.batch(max(0.0, due - loop.time()))
            if batch.pieces:
                await self._outlet.events(batch.pieces)
            else:
                await self._outlet.taken()
            self._went(batch, metrics)
            if loop.time() >= due or (self._live and not told_live):
                told_live = told_live or self._live
                await self._control(HEARTBEAT)
                due = loop.time() + beat_s

    def at_once(self, outlet: PromptOutlet, metrics: Metrics) -> None:
        """Have the feed leave what comes with the outlet, whenever nothing stands before it."""
        self._stream.sink = _Straight(self, outlet, metrics)

    def _went(self, batch: Batch, metrics: Metrics) -> None:
        self.position = batch.position
        if batch.pieces:
            self.sent += len(batch.pieces)
            metrics.frames.inc(len(batch.pieces))

    @property
    def _live(self) -> bool:
        return self._stream.live and not self._stream.queued[0]

    async def _control(self, kind: Control) -> None:
        self._controls += 1
        head = max(self._feed.head, self.position)
        told = Told(self.position, head, self._live, str(self._head.ledger_id), self._head.epoch)
        frame = control(kind, told, source=self._feed.name, frame_id=f"{self._id}-{self._controls}")
        await self._outlet.control(kind, self.position, frame)


class _Straight:
    """`stream.Sink`, of one stream."""

    __slots__ = ("_metrics", "_outlet", "_sending", "takes")

    def __init__(self, sending: Sending, outlet: PromptOutlet, metrics: Metrics) -> None:
        self._sending = sending
        self._outlet = outlet
        self._metrics = metrics
        self.takes = outlet.takes

    def send(self, batch: Batch) -> None:
        self._outlet.leave(batch.pieces)
        self._sending._went(batch, self._metrics)
