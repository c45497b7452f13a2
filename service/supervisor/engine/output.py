"""A container's output as the engine keeps it: the multiplexed frames, read without losing a byte.

A frame is 1 byte of stream, 3 of nothing, 4 of length (big endian), then the timestamp, a space and the
payload. Measured on 20.10 with the `local` driver: a line beyond 16 KiB comes in frames of 16 KiB, each
with the timestamp of the line's beginning, and none of them holds the newline, not even the last.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from datetime import datetime
from typing import Literal

from service.errors import EngineError, NoSuchContainer, Unavailable
from service.supervisor.engine.protocol import LogChunk
from service.supervisor.engine.wire import Wire, refusal, refused, safe_name

MAX_FRAME_BYTES = 64 * 1024**2
"""Beyond this a length is taken for a broken stream; real frames hold 16 KiB."""


class FrameReader:
    """Turns bytes, cut anywhere, into chunks."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[LogChunk]:
        """The chunks that are complete now."""
        self._buffer += data
        start = 0
        try:
            while len(self._buffer) - start >= 8:
                size = int.from_bytes(self._buffer[start + 4 : start + 8], "big")
                if size > MAX_FRAME_BYTES:
                    raise EngineError(f"the engine sent a log frame of {size} bytes")
                if len(self._buffer) - start - 8 < size:
                    return
                frame = bytes(self._buffer[start + 8 : start + 8 + size])
                stream = self._buffer[start]
                start += 8 + size
                yield _chunk(stream, frame)
        finally:
            del self._buffer[:start]

    @property
    def torn(self) -> bool:
        """True while a frame is incomplete: a stream that ends now was cut."""
        return bool(self._buffer)


def _chunk(stream: int, frame: bytes) -> LogChunk:
    stamp, space, payload = frame.partition(b" ")
    if stream not in (1, 2) or not space or len(stamp) < 20 or not stamp.endswith(b"Z"):
        raise EngineError("the engine sent a log frame that is not understood")
    which: Literal[1, 2] = 1 if stream == 1 else 2
    return LogChunk(which, nine_digits(stamp.decode("ascii")), payload)


def nine_digits(stamp: str) -> str:
    """The timestamp with exactly nine digits of a second, so that text order is time order."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<9}Z"


def unix_nanos(stamp: str) -> str:
    """`seconds.nanoseconds`, the only form the engine's `since` takes."""
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    return f"{seconds}.{fraction:0<9}"


async def read_logs(
    wire: Wire, container_id: str, *, since: str | None, tail: int | None, follow: bool
) -> AsyncGenerator[LogChunk, None]:
    """See `Engine.logs`."""
    params = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": "1" if follow else "0"}
    if since is not None:
        params["since"] = unix_nanos(since)
    if tail is not None:
        params["tail"] = str(tail)
    frames = FrameReader()
    async with wire.stream("GET", f"/containers/{safe_name(container_id)}/logs", params=params) as reply:
        if reply.status == 404:
            raise NoSuchContainer(f"no container {container_id}")
        if reply.status != 200:
            raise refused(f"logs of {container_id}", await refusal(reply))
        async for data in reply.content.iter_any():
            for chunk in frames.feed(data):
                yield chunk
        if frames.torn:
            raise Unavailable("the log stream was cut inside a frame")
