"""Requests with bodies: GET, PUT and UploadPart straight over aiohttp.

The S3 client proper spends over a millisecond of CPU on each call and stalls on "Expect: 100-continue";
these three carry all the bytes, so they are sent from here. Everything else goes through aioboto3.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from service.domain.shown import shown
from service.errors import StoreRefused, Unavailable
from service.supervisor.data.model import LEAST_BYTES, ObjectInfo, StoreAccess, Timing
from service.supervisor.data.s3 import sigv4
from service.supervisor.data.s3.faults import read, refusal

_SLICE_BYTES = 256 * 1024
_ERROR_BYTES = 64 * 1024
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")


@dataclass(frozen=True, slots=True)
class Body:
    """Bytes to send, with their hashes. Make it by `hashed`, in a thread when it is large."""

    data: bytes
    md5: bytes
    sha256: str


def hashed(data: bytes, *, signed: bool) -> Body:
    """`signed` hashes for the signature too, which plain http needs and TLS does not."""
    sha256 = hashlib.sha256(data).hexdigest() if signed else sigv4.UNSIGNED
    return Body(data, hashlib.md5(data, usedforsecurity=False).digest(), sha256)


class Pulse:
    """A deadline that moves on with every sign of life."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._deadline = asyncio.timeout(limit_s)

    async def __aenter__(self) -> Pulse:
        await self._deadline.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._deadline.__aexit__(*exc)

    @property
    def deadline(self) -> float:
        """In the loop's time."""
        return self._deadline.when() or 0.0

    def beat(self) -> None:
        self._deadline.reschedule(asyncio.get_running_loop().time() + self._limit_s)


class Bodies:
    """Body transfers with one store. Single attempts: the caller translates errors and retries."""

    def __init__(self, access: StoreAccess, timing: Timing, session: aiohttp.ClientSession) -> None:
        self._requests = sigv4.Requests(access)
        self.secure = self._requests.secure
        self._timing = timing
        self._session = session

    @asynccontextmanager
    async def get(
        self, container: str, key: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[ObjectInfo, AsyncIterator[bytes]]]:
        """An object, or `length` bytes of it from `offset`, as its info and a stream of its bytes."""
        what = f"object {shown(key)} in {container}"
        extra = {} if length is None else {"range": f"bytes={offset}-{offset + length - 1}"}
        url, headers = self._requests.signed("GET", f"/{container}/{key}", {}, extra, sigv4.EMPTY_SHA256)
        headers["accept-encoding"] = "identity"
        limit_s = self._timing.progress_s
        async with asyncio.timeout(limit_s):
            response = await self._session.get(url, headers=headers, allow_redirects=False)
        try:
            async with asyncio.timeout(limit_s):
                await _expect(response, what)
            with read(what):
                info, expected = _info(key, response), int(response.headers.get("Content-Length", "-1"))
            yield info, _stream(what, response, expected, limit_s)
        finally:
            response.release()  # closes the connection when the body was not read to its end

    async def put(self, container: str, key: str, body: Body, query: Mapping[str, str]) -> str:
        """Send one object or, by `query`, one part of one. Returns the ETag."""
        what = f"object {shown(key)} in {container}"
        extra = {"content-md5": base64.b64encode(body.md5).decode()}
        url, headers = self._requests.signed("PUT", f"/{container}/{key}", query, extra, body.sha256)
        headers["content-length"] = str(len(body.data))
        headers["content-type"] = "application/octet-stream"
        slices = _Slices(body.data)
        try:
            async with Pulse(self._timing.progress_s) as pulse:
                data = body.data if slices.are_one else slices.sent(pulse)
                sending = self._session.put(url, headers=headers, data=data, allow_redirects=False)
                async with sending as response:
                    await _expect(response, what)
                    return response.headers.get("ETag", "").strip('"')
        except TimeoutError:
            if slices.are_one or slices.have_gone:
                raise
            said = f"the store took fewer than {_SLICE_BYTES} bytes in {self._timing.progress_s:g} s"
            raise Unavailable(f"{what}: {said}") from None


class _Slices:
    """A body on its way to a store that may take it slowly."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.are_one = len(data) <= _SLICE_BYTES
        #: All of them; the store has still to answer.
        self.have_gone = False

    async def sent(self, pulse: Pulse) -> AsyncIterator[memoryview]:
        view = memoryview(self._data)
        for start in range(0, len(view), _SLICE_BYTES):
            yield view[start : start + _SLICE_BYTES]
            pulse.beat()
        self.have_gone = True


async def _stream(
    what: str, response: aiohttp.ClientResponse, expected: int, limit_s: float
) -> AsyncIterator[bytes]:
    """The body's bytes, of which so many are `expected` (-1: not known).

    The limit is on the waits for the store, never on the reader's own pace: by then `LEAST_BYTES` more have
    to be there, or the rest.
    """
    now, got, before, left_s = asyncio.get_running_loop().time, 0, 0, limit_s
    while True:
        began = now()
        try:
            async with asyncio.timeout(left_s):
                chunk = await response.content.readany()
        except TimeoutError:
            least = LEAST_BYTES if expected == -1 else min(LEAST_BYTES, expected - before)
            raise Unavailable(f"{what}: the store sent fewer than {least} bytes in {limit_s:g} s") from None
        if not chunk:
            break
        got += len(chunk)
        left_s -= now() - began
        if got - before >= LEAST_BYTES:
            before, left_s = got, limit_s
        yield chunk
    if expected not in (-1, got):
        raise Unavailable("the store's answer was cut short")


async def _expect(response: aiohttp.ClientResponse, what: str) -> None:
    if response.status in (200, 206):
        return
    found = _CODE.search(await response.content.read(_ERROR_BYTES))
    if 300 <= response.status < 400:
        raise StoreRefused(f"{what}: the store sends us elsewhere: check the endpoint and the region")
    raise refusal(what, response.status, found.group(1).decode() if found else "")


def _info(key: str, response: aiohttp.ClientResponse) -> ObjectInfo:
    """The whole object's info, also from the answer to a range."""
    whole = response.headers.get("Content-Range", "").rpartition("/")[2]
    size = int(whole if whole.isdecimal() else response.headers.get("Content-Length", "0"))
    stamp = response.headers.get("Last-Modified")
    modified = moment(parsedate_to_datetime(stamp)) if stamp else datetime.now(UTC)
    etag = response.headers.get("ETag", "").strip('"')
    return ObjectInfo(key, size, etag, modified, opaque=_is_opaque(response.headers))


def moment(said: datetime) -> datetime:
    """A time that a store says. Raises ValueError for one without a zone, which could be any."""
    if said.tzinfo is None:
        raise ValueError("a time without a zone")
    return said


def _is_opaque(headers: Mapping[str, str]) -> bool:
    """Objects that are encrypted with a key of KMS or of the customer have ETags that look like an MD5."""
    by_kms = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    return by_kms or "x-amz-server-side-encryption-customer-algorithm" in headers
