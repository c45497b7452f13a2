"""A container's output as the engine keeps it: the multiplexed frames, read without losing a byte.

A frame is 1 byte of stream, 3 of nothing, 4 of length (big endian), then the timestamp, a space and the
payload. Measured on 20.10 with the `local` driver: a line beyond 16 KiB comes in frames of 16 KiB, each
with the timestamp of the line's beginning, and none of them holds the newline, not even the last.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Iterator
from datetime import datetime
from typing import Literal

from service.domain.shown import shown
from service.errors import EngineError, LogBroken, Unavailable
from service.supervisor.engine import wire as wiring
from service.supervisor.engine.protocol import LogChunk
from service.supervisor.engine.refusals import logs_refused
from service.supervisor.engine.wire import Wire, refusal, safe_name

MAX_FRAME_BYTES = 64 * 1024**2
"""Beyond this a length is taken for a broken stream; real frames hold 16 KiB."""


_HEAD = struct.Struct(">B3xI")
_STAMP = 30
"""How long a timestamp with nine digits is, the only kind that Docker gives with a log."""


class FrameReader:
    """Turns bytes, cut anywhere, into chunks. The loop is what a log of short lines costs us."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._lacks = 8
        """How many bytes there must be before anything more is complete."""

    def feed(self, data: bytes) -> Iterator[list[LogChunk]]:
        """The chunks that are complete now, at once; what is not understood is raised after those before."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._lacks:
                return
            data = bytes(self._rest)
            self._rest.clear()
        chunks: list[LogChunk] = []
        try:
            rest = self._read(data, chunks)
        except EngineError:
            if chunks:
                yield chunks
            raise
        self._rest += data[rest:]
        if chunks:
            yield chunks

    def _read(self, data: bytes, chunks: list[LogChunk]) -> int:
        """Adds the complete chunks; answers where the incomplete one begins."""
        head, add, whole, start = _HEAD.unpack_from, chunks.append, len(data), 0
        while whole - start >= 8:
            stream, size = head(data, start)
            end = start + 8 + size
            if end > whole:
                if size > MAX_FRAME_BYTES:
                    raise EngineError(f"the engine sent a log frame of {size} bytes")
                self._lacks = 8 + size
                return start
            stamp = data[start + 8 : start + 9 + _STAMP]
            if (
                size > _STAMP
                and stamp[-2:] == b"Z "
                and stamp[19:20] == b"."
                and (stream == 1 or stream == 2)
            ):
                add(LogChunk(stream, stamp[:_STAMP].decode("ascii"), data[start + 9 + _STAMP : end]))
            else:
                add(_chunk(stream, data[start + 8 : end]))
            start = end
        self._lacks = 8
        return start

    @property
    def torn(self) -> bool:
        """True while a frame is incomplete: a stream that ends now was cut."""
        return bool(self._rest)


_ENGINES_OWN = 3
"""The stream on which the engine says what is wrong with the log itself."""


def _chunk(stream: int, frame: bytes) -> LogChunk:
    if stream == _ENGINES_OWN:
        raise LogBroken(f"the engine cannot read the log: {shown(frame.decode(errors='replace').strip())}")
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
) -> AsyncGenerator[list[LogChunk], None]:
    """See `Engine.logs`."""
    params = {"stdout": "1", "stderr": "1", "timestamps": "1", "follow": "1" if follow else "0"}
    if since is not None:
        params["since"] = unix_nanos(since)
    if tail is not None:
        params["tail"] = str(tail)
    frames = FrameReader()
    path = f"/containers/{safe_name(container_id)}/logs"
    # A snapshot comes at once; what is followed says nothing as long as the container does.
    silence_s = None if follow else wiring.ANSWER_TIMEOUT_S
    async with wire.stream("GET", path, params=params, answer_s=silence_s, silence_s=silence_s) as reply:
        if reply.status != 200:
            raise logs_refused(container_id, await refusal(reply))
        async for data in reply.content.iter_any():
            for chunks in frames.feed(data):
                yield chunks
        if frames.torn:
            raise Unavailable("the log stream was cut inside a frame")
