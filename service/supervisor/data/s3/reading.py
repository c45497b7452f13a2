"""Reading objects: one chunk of them, or a long stretch, which is taken up again where it broke off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from service.domain.shown import shown
from service.errors import StoreRefused, Unavailable
from service.supervisor.data.model import LEAST_BYTES, ObjectInfo, Timing
from service.supervisor.data.s3.bodies import Bodies
from service.supervisor.data.s3.faults import persistent, translated

#: Takes bytes of an object: where they begin in it, and what they are.
Take = Callable[[int, Sequence[bytes]], Awaitable[None]]

_PIECE_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Download:
    """An object being read. `stream` must be read within the context that gave it."""

    info: ObjectInfo
    stream: AsyncIterator[bytes]


class Pieces(list[bytes]):
    """What was read of an object. `opaque` as in `ObjectInfo`."""

    opaque = False


class Changed(Exception):
    """Inside this package only: the object is not the one that was listed; `info` is the new one."""

    def __init__(self, info: ObjectInfo) -> None:
        super().__init__(info.key)
        self.info = info


def _require_same(found: ObjectInfo, expected: ObjectInfo) -> None:
    if found.size != expected.size or (expected.etag and found.etag != expected.etag):
        raise Changed(found)


async def _at_most(length: int, what: str, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`stream`, which must not go on behind `length` bytes: an endpoint is a user's own, and may be anything.

    Asking it again would be answered as well, so it is refused.
    """
    async for chunk in stream:
        length -= len(chunk)
        if length < 0:
            raise StoreRefused(f"{what}: the store sends more than was asked for")
        yield chunk


async def _pieces(stream: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """What comes, in fewer and larger pieces; also what came before it broke off."""
    piece: list[bytes] = []
    size = 0
    try:
        async for chunk in stream:
            piece.append(chunk)
            size += len(chunk)
            if size >= _PIECE_BYTES:
                yield piece
                piece, size = [], 0
    except Exception:
        if piece:
            yield piece
        raise
    if piece:
        yield piece


async def read_chunk(
    bodies: Bodies,
    timing: Timing,
    container: str,
    expected: ObjectInfo,
    *,
    offset: int,
    length: int | None,
) -> Sequence[bytes]:
    """See `Store.get`."""
    what = f"object {shown(expected.key)} in {container}"
    most = expected.size if length is None else length  # without a length all of it is asked for

    async def attempt() -> Pieces:
        read = bodies.get(container, expected.key, offset=offset, length=length)
        async with read as (info, stream):
            _require_same(info, expected)
            pieces = Pieces([chunk async for chunk in _at_most(most, what, stream)])
            pieces.opaque = info.opaque
            return pieces

    return await persistent(what, timing, attempt)


async def read_stretch(
    bodies: Bodies,
    timing: Timing,
    container: str,
    expected: ObjectInfo,
    *,
    offset: int,
    length: int,
    take: Take,
) -> bool:
    """See `Store.stretch`.

    One request, taken up again where it broke off, for as long as it gets on by `LEAST_BYTES`: a store may
    look at the whole object for each.
    """
    what, end = f"object {shown(expected.key)} in {container}", offset + length
    failure: OSError | None = None
    opaque = False

    async def attempt() -> None:
        nonlocal offset, failure, opaque
        read = bodies.get(container, expected.key, offset=offset, length=end - offset)
        async with read as (info, stream):
            _require_same(info, expected)
            opaque = info.opaque
            async for piece in _pieces(_at_most(end - offset, what, stream)):
                try:
                    await take(offset, piece)
                except OSError as error:  # the disk's, which is no fault of the store
                    failure = error
                    return
                offset += sum(map(len, piece))

    while offset < end:
        before = offset
        try:
            await persistent(what, timing, attempt, is_long=True)
        except Unavailable:
            if offset - before < LEAST_BYTES:
                raise
        if failure is not None:
            raise failure
        if offset < end and offset - before < LEAST_BYTES:
            came = offset - before or "none"
            raise Unavailable(f"{what}: the store sent {came} of the bytes that were asked for")
    return opaque


async def failing_with_ours(what: str, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """`stream`, failing with our errors; what its reader raises is none of ours and passes untouched."""
    while True:
        with translated(what):
            chunk = await anext(stream, b"")
        if not chunk:
            return
        yield chunk
