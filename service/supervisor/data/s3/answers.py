"""What a store may answer: an endpoint is a user's own, and may say anything.

S3's client reads an answer whole, and spends far longer on each element than it takes to send one. So an
answer is weighed before it is read, and a large one is weighed and read in a thread beside the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar
from xml.parsers import expat

from aiobotocore.parsers import AioResponseParserFactory

from service.errors import StoreRefused

P = ParamSpec("P")
T = TypeVar("T")

MOST_BYTES = 8 * 1024**2
"""Of an answer that is no object's body. The largest, a page of a listing, has a thousand keys of at most a
kilobyte, which XML may make six."""
MOST_KEYS = 1000
"""Of a page: S3's own bound, and what pages are asked for with."""
MOST_ERROR_BYTES = 64 * 1024
#: Elements and attributes. A page of a listing has some ten thousand; all containers that AWS lists at once,
#: with names, dates and regions, forty thousand.
_MOST_NODES = 64 * 1024
_MOST_DEPTH = 32
#: A text comes in several pieces: each reference and each end of a line is one.
_MOST_TEXTS = 256 * 1024
#: A piece has a tag in it, as the longest text is a key. What a parser holds of one tag is bounded by that.
_PIECE_BYTES = 16 * 1024
LARGE_BYTES = 64 * 1024
"""Up to this many an answer is read at once: that takes less than a change of threads is worth. A larger one
needs a permit (`permits`)."""
_COUNTED = frozenset({"Contents", "CommonPrefixes"})

#: One, as threads that reckon take turns with the loop: it waits for as many as there are.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="store-answers")


async def aside(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work(...)`, which touches nothing that anybody else does, in the thread for answers."""
    asked = [partial(work, *args, **kwargs)]
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREAD, lambda: asked.pop()())
    finally:
        asked.clear()  # the thread's queue keeps what was cancelled until its turn, and answers are large


async def fit(status: int, body: bytes) -> bytes:
    """The answer, if it can be read. Raises StoreRefused; one that tells of an error is then left empty, as
    its status says enough."""
    try:
        if status >= 300 and len(body) > MOST_ERROR_BYTES:
            return b""
        if len(body) > LARGE_BYTES:
            await aside(check, body)
        else:
            check(body)
    except StoreRefused:
        if status >= 300:
            return b""
        raise
    return body


def check(body: bytes) -> None:
    """Raises StoreRefused for what takes too long to read. What is no XML is for S3's client to say."""
    bounds = _Bounds()
    try:
        for at in range(0, len(body), _PIECE_BYTES):
            piece = body[at : at + _PIECE_BYTES]
            if (len(piece) == _PIECE_BYTES and b"<" not in piece) or b"\0" in piece:
                raise StoreRefused("the store's answer cannot be read (it is no XML of S3's)")
            bounds.parser.Parse(piece, False)
        bounds.parser.Parse(b"", True)
    except expat.ExpatError:
        return


class _Bounds:
    """Counts what comes; `parser` raises StoreRefused when it is too much."""

    def __init__(self) -> None:
        self._nodes = self._keys = self._depth = self._texts = 0
        self.parser = expat.ParserCreate("utf-8")  # whatever else it claims to be, as S3's client does
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._nodes += 1 + len(attributes)
        self._keys += name.rpartition(":")[2] in _COUNTED
        if self._keys > MOST_KEYS:
            raise StoreRefused(f"the store lists more than {MOST_KEYS} keys on a page, which S3 never does")
        if self._nodes > _MOST_NODES or self._depth > _MOST_DEPTH:
            raise StoreRefused("the store's answer cannot be read (it has too many elements)")

    def _end(self, name: str) -> None:
        self._depth -= 1

    def _text(self, _: str) -> None:
        self._texts += 1
        if self._texts > _MOST_TEXTS:
            raise StoreRefused("the store's answer cannot be read (its texts have too many lines)")

    def _doctype(self, *_: object) -> None:
        """Only there could it say what it stands for many times over."""
        raise StoreRefused("the store's answer cannot be read (it declares a document type)")


class Parsers(AioResponseParserFactory):  # type: ignore[misc]  # aiobotocore has no types
    """S3's client's own parsers; large answers are read in the thread for them."""

    def create_parser(self, protocol_name: str) -> Any:
        return _Parser(super().create_parser(protocol_name))


class _Parser:
    def __init__(self, parser: Any) -> None:
        self._parser = parser

    async def parse(self, response: dict[str, Any], shape: Any) -> Any:
        body = response["body"]
        if isinstance(body, bytes) and len(body) > LARGE_BYTES:
            return await aside(_driven, self._parser, response, shape)
        return await self._parser.parse(response, shape)


def _driven(parser: Any, response: dict[str, Any], shape: Any) -> Any:
    """What the parser's coroutine returns, which waits for nothing: only events, which no answer here has,
    are waited for."""
    parsing = parser.parse(response, shape)
    try:
        parsing.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("an answer that was read before is waited for")
