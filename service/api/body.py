"""Request bodies: bounded, then decoded by type at once; only one that does not fit is looked at closely."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from service.api.errors import Said
from service.api.explain import explain, refuse_duplicates, words_for
from service.errors import Invalid, TooLarge

READ_TIMEOUT_S = 30.0


async def read(request: web.Request, most_bytes: int) -> bytes:
    """The whole body. Raises `TooLarge`, `Invalid`, or aiohttp's 408 and 415."""
    refuse_encoded(request)
    if request.content_length is not None and request.content_length > most_bytes:
        raise TooLarge(_too_large(most_bytes))
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(_too_large(most_bytes)) from None
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"body: it did not arrive within {READ_TIMEOUT_S:.0f} s") from None
    except ConnectionError:
        # Nobody is there to be answered; it is not our failure, whatever the error's name says.
        raise Invalid("body", Said("the client left in the middle of it"), "send all of it") from None
    except (HttpProcessingError, aiohttp.ClientPayloadError, web.RequestPayloadError) as error:
        said = Said(f"its transfer is broken ({type(error).__name__})")
        raise Invalid("body", said, "send all of it, as its Content-Length or its chunks say") from None


def refuse_encoded(request: web.Request) -> None:
    """A compressed body could unfold to any size: none is taken."""
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise web.HTTPUnsupportedMediaType(
            text=f"Content-Encoding: {encoding[:40]!r} is not allowed; send the body as it is"
        )


def _too_large(most_bytes: int) -> str:
    return f"body: it is larger than {most_bytes} bytes, the most that is taken"


class BodyReader:
    """Decodes bodies of one type. Raises `TypeError` for a type whose faults nobody could explain."""

    def __init__(self, kind: Any) -> None:
        words_for(msgspec.inspect.type_info(kind))
        self.kind = kind
        self._decode = msgspec.json.Decoder(kind).decode

    def decode(self, body: bytes) -> Any:
        """The typed value. Raises an `Invalid` that names the field."""
        try:
            value = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            explain(body, self.kind)
            raise Invalid("body", Said(f"it does not fit ({error})"), "/docs shows its shape") from None
        refuse_duplicates(body)
        return value
