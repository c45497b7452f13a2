"""/v1/datastore/{alias}/container/{container}/object: the data itself, streamed in bounded memory."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Annotated
from urllib.parse import unquote_to_bytes

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import UNSET, Meta

from service.api import body, wire
from service.api.call import Call
from service.api.datastores import object_store
from service.api.errors import Said
from service.api.ports import Store
from service.api.query import Query
from service.api.stream import pump, while_wanted
from service.domain.volumes import check_container
from service.errors import Invalid, NotFound, StoreMissing, StoreRefused, Unavailable, UnsafeKey

MOST_ROWS = 1000
MOST_KEY_BYTES = 1024
#: A page by its number is the store's whole listing up to it: a hundred requests, one after the other.
MOST_PASSED = 100_000
#: So long a store is asked for a page of ours, which it may make of thousands of its own. The commands wait
#: for an answer for a minute: they must have heard by then.
FIND_S = 45.0
#: A client that sends nothing for so long is gone.
RECEIVE_TIMEOUT_S = 60.0
_CHUNK_BYTES = 256 * 1024
#: So many slashes stand before the key: /v1/datastore/{alias}/container/{container}/object/{key}.
_KEY_AFTER = 7


class ObjectsAsked(Query, frozen=True):
    """With `cursor` (empty for the first page) a list goes on where it was left, however long it is: stores
    are asked from there. A page by its number is looked for from the beginning, among the first 100,000."""

    prefix: Annotated[str, Meta(max_length=MOST_KEY_BYTES)] = ""
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    size: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = MOST_ROWS
    cursor: Annotated[str, Meta(max_length=2048)] | None = None


async def find(call: Call) -> wire.ObjectList:
    """One page; `pageCount` and `total` tell what is known so far: stores do not count ahead. With a cursor
    `links.next` leads on until there is no more."""
    asked: ObjectsAsked = call.query
    first = (asked.page - 1) * asked.size if asked.cursor is None else 0
    if first + asked.size > MOST_PASSED:
        most = MOST_PASSED // asked.size
        raise Invalid(
            "page", asked.page, f"at most {most} of this size; `cursor` leads on, or name a `prefix`"
        )
    after = _after(asked.cursor) if asked.cursor else ""
    async with AsyncExitStack() as stack:
        store, container = await _opened(call, stack)
        with call.service.watch.followed(None, 0, call.token) as follower:
            work = _page(store, container, asked, first, after)
            found = await while_wanted(call.request, follower, work)
    if found is None:
        raise Unavailable(f"the listing was ended: {follower.why or 'the client left'}")
    items, seen, more = found
    if asked.cursor is not None:
        following = _link(call, cursor=_cursor(items[-1].key)) if more else UNSET
        return wire.ObjectList(items=items, metadata=wire.Metadata(links=wire.Links(next=following)))
    metadata = wire.Metadata(
        current_page=asked.page,
        page_count=asked.page + more,
        total=seen + more,
        links=wire.Links(next=_link(call, page=asked.page + 1) if more else UNSET),
    )
    return wire.ObjectList(items=items, metadata=metadata)


async def _page(
    store: Store, container: str, asked: ObjectsAsked, first: int, after: str
) -> tuple[list[wire.StoredObject], int, bool]:
    """The objects from `first` on behind the key `after`; how many there were up to their end, and whether
    there are more."""
    items: list[wire.StoredObject] = []
    seen = 0
    try:
        async with asyncio.timeout(FIND_S), aclosing(store.list(container, asked.prefix, after)) as listed:
            async for found in listed:
                if len(items) == asked.size:
                    return items, seen, True
                if len(found.key.encode()) > MOST_KEY_BYTES:  # a page of them would be held until the next
                    raise StoreRefused(
                        f"the store lists a key of more than {MOST_KEY_BYTES} bytes, which S3 never does"
                    )
                if seen >= first:
                    items.append(wire.StoredObject(key=found.key, size=found.size, modified=found.modified))
                seen += 1
    except StoreMissing as error:
        raise NotFound(error.message) from error
    except TimeoutError:
        raise Unavailable(_unfinished(seen, first)) from None
    return items, seen, False


def _unfinished(seen: int, first: int) -> str:
    """Why there is no page from object `first` on, after `seen` ones and all the time there is."""
    if 0 < seen <= first:
        said = f"the store listed {seen} objects in {FIND_S:g} s, and this page was not found among them"
        return f"{said}; go on by `cursor`, or name a `prefix`"
    if seen:
        return f"the store listed {seen} objects, and then did not finish its answer within {FIND_S:g} s"
    return f"the store did not finish its answer, or named no object of this page, within {FIND_S:g} s"


def _link(call: Call, **changed: str | int) -> str:
    return str(call.request.rel_url.update_query(**changed))


def _cursor(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _after(cursor: str) -> str:
    """The key that a cursor goes on behind. Raises `Invalid`."""
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError:  # no base64, or no text in it
        raise Invalid("cursor", cursor, "the one in `links.next`, or empty for the first page") from None


async def download(call: Call) -> web.StreamResponse:
    key = _key(call)
    async with AsyncExitStack() as stack:
        store, container = await _opened(call, stack)
        try:
            found = await stack.enter_async_context(store.download(container, key))
        except StoreMissing as error:
            raise NotFound(error.message) from error
        response = web.StreamResponse(headers={"Content-Disposition": "attachment"})
        response.content_type = "application/octet-stream"
        response.content_length = found.info.size
        response.last_modified = found.info.modified
        if call.request.method != "HEAD":
            await response.prepare(call.request)
            await pump(call.request, response, found.stream)
        return response


async def upload(call: Call) -> wire.StoredObject:
    key = _key(call)
    body.refuse_encoded(call.request)
    async with AsyncExitStack() as stack:
        store, container = await _opened(call, stack)
        _refuse_too_large(call.request, store.most_bytes)
        await store.ensure_container(container)
        try:
            made = await store.upload(container, key, _received(call.request))
        except UnsafeKey as error:
            raise Invalid("key", key, f"a key that a job could pull ({error.message})") from error
    return wire.StoredObject(key=made.key, size=made.size, modified=made.modified)


def _refuse_too_large(request: web.Request, most_bytes: int) -> None:
    """Before a byte of it is taken, and not after all that can be."""
    said = request.content_length
    if said is not None and said > most_bytes:
        raise Invalid("body", Said(f"Content-Length says {said} bytes"), f"at most {most_bytes} bytes")


async def _received(request: web.Request) -> AsyncIterator[bytes]:
    """The body as it comes. One that breaks off raises, so that no half object is kept."""
    expected, received = request.content_length, 0
    try:
        while True:
            async with asyncio.timeout(RECEIVE_TIMEOUT_S):
                chunk = await request.content.read(_CHUNK_BYTES)
            if not chunk:
                break
            received += len(chunk)
            yield chunk
    except TimeoutError:
        said = Said("its transfer stalled")
        raise Invalid("body", said, f"send something every {RECEIVE_TIMEOUT_S:.0f} s") from None
    except (HttpProcessingError, aiohttp.ClientPayloadError, web.RequestPayloadError, ConnectionError):
        said = Said(f"its transfer broke off after {received} bytes")
        raise Invalid("body", said, "send the whole object") from None
    if expected is not None and received != expected:
        raise Invalid("body", Said(f"{received} bytes came"), f"Content-Length says {expected}")


async def delete(call: Call) -> None:
    key = _key(call)
    async with AsyncExitStack() as stack:
        store, container = await _opened(call, stack)
        await store.delete_object(container, key)


async def _opened(call: Call, stack: AsyncExitStack) -> tuple[Store, str]:
    """The store and the container in the path. Raises `NotFound` or `Invalid`."""
    store = await object_store(call)
    container = call.path("container")
    check_container("container", container)
    return await stack.enter_async_context(call.service.parts.stores.open(call.project, store)), container


def _key(call: Call) -> str:
    """The key in the path, from the very bytes that were sent: what is no UTF-8 has no key. Raises
    `Invalid`, whatever is wrong with it."""
    sent = call.request.rel_url.raw_path.split("/", _KEY_AFTER)[_KEY_AFTER]
    try:
        key = unquote_to_bytes(sent).decode()
    except UnicodeDecodeError:
        raise Invalid("key", sent, "UTF-8, percent-encoded") from None
    size = len(key.encode())
    if not 1 <= size <= MOST_KEY_BYTES or any(ord(char) < 32 or ord(char) == 127 for char in key):
        raise Invalid("key", key, f"1 to {MOST_KEY_BYTES} bytes without control characters")
    if any(part in (".", "..") for part in key.split("/")):
        raise Invalid("key", key, "a name without the parts '.' and '..'")
    return key
