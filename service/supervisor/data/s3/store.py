"""One S3 store: every call bounded in time, retried when that may help, and failing only with our errors.

Raises StoreRefused (final: StoreDenied for keys and rights, StoreMissing where nothing is there) and
Unavailable (try again later). How it is connected to is `client`'s, how objects are read `reading`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

import structlog
from yarl import URL

from service.domain.shown import shown
from service.errors import JobyardError, StoreMissing, StoreRefused, Unavailable
from service.outward import names
from service.outward.addresses import OWN_NETWORKS, Network
from service.supervisor.data import disk
from service.supervisor.data.keys import check_container, check_key
from service.supervisor.data.model import (
    CHUNK_BYTES,
    COMPLETE_FACTOR,
    MAX_PARTS,
    ObjectInfo,
    StoreAccess,
    Timing,
)
from service.supervisor.data.s3 import listing
from service.supervisor.data.s3.bodies import Bodies, Body, hashed
from service.supervisor.data.s3.client import connected
from service.supervisor.data.s3.faults import Barred, persistent, read, translated
from service.supervisor.data.s3.permits import Call, Permits
from service.supervisor.data.s3.reading import Download, Take, failing_with_ours, read_chunk, read_stretch

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

T = TypeVar("T")

_log = structlog.get_logger()


class Store:
    """Made by `Store.open`. Safe to use from many tasks of one event loop."""

    most_bytes = CHUNK_BYTES * MAX_PARTS
    """Of an upload: how long a stream is shows only as it ends, so its parts are chunks."""

    def __init__(
        self, client: S3Client, bodies: Bodies, access: StoreAccess, timing: Timing, permits: Permits
    ) -> None:
        self._permits = permits
        self._client = client
        self._bodies = bodies
        self._region = access.region
        self._timing = timing
        self.endpoint = access.endpoint
        self.place = f"{access.account}@{access.endpoint}"
        """What a manifest calls it: accounts of one endpoint may have containers of the same names."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        access: StoreAccess,
        timing: Timing | None = None,
        *,
        allow: tuple[Network, ...] = OWN_NETWORKS,
        permits: Permits | None = None,
    ) -> AsyncIterator[Self]:
        """Connect lazily: no call is made. `allow`: the networks where it may be besides public addresses;
        `permits`: shared with other stores, for large answers.

        Raises StoreRefused for an endpoint or region of no use.
        """
        timing = timing or Timing()
        async with connected(access, timing, allow) as (client, bodies):
            yield cls(client, bodies, access, timing, permits or Permits())

    @property
    def signs_bodies(self) -> bool:
        """True when bodies must be hashed for the signature: over plain http."""
        return not self._bodies.secure

    async def _call(self, what: str, call: Callable[[], Awaitable[T]], factor: int = 1) -> T:
        async def attempt() -> T:
            async with asyncio.timeout(self._timing.call_s * factor):
                with read(what), self._answering():
                    return await call()

        return await persistent(what, self._timing, attempt)

    def _answering(self) -> AbstractContextManager[Call]:
        """A call, and what it holds of its answer. Where nobody said who asks, the host stands for him."""
        return self._permits.call(names.asker() or URL(self.endpoint).authority)

    async def check(self) -> None:
        """Raise StoreDenied when the keys are wrong. Keys that may not list containers are still right."""
        try:
            await self._call(f"store {self.endpoint}", lambda: self._client.list_buckets())
        except Barred:
            return

    async def containers(self) -> Sequence[str]:
        what = f"store {self.endpoint}"
        found = await self._call(what, lambda: self._client.list_buckets())
        with read(what):
            return tuple(bucket["Name"] for bucket in found.get("Buckets", ()))

    async def ensure_container(self, name: str) -> None:
        """Make the container unless it exists."""
        check_container(name)
        what = f"container {name}"
        try:
            await self._call(what, lambda: self._client.head_bucket(Bucket=name))
        except StoreMissing:
            await self._create(name, what)

    async def _create(self, name: str, what: str) -> None:
        where: dict[str, Any] = {}
        if self._region not in ("", "us-east-1"):
            where = {"CreateBucketConfiguration": {"LocationConstraint": self._region}}

        known = self._client.exceptions

        async def create() -> None:
            try:
                await self._client.create_bucket(Bucket=name, **where)
            except (known.BucketAlreadyOwnedByYou, known.BucketAlreadyExists):
                # Ours from another run a moment ago, or someone else's: looking tells.
                await self._client.head_bucket(Bucket=name)

        await self._call(what, create)
        _log.info("container made", container=name, endpoint=self.endpoint)

    async def list(
        self, container: str, prefix: str = "", after: str = ""
    ) -> AsyncGenerator[ObjectInfo, None]:
        """The objects whose keys begin with `prefix`, in the store's order; only keys behind `after`."""
        check_container(container)
        what, more = f"container {container}", ""
        while True:
            extra = {"ContinuationToken": more} if more else {"StartAfter": after} if after else {}
            ask = partial(listing.page, self._client, container, prefix, extra)
            asked = more
            objects, is_cut, more = await self._call(what, ask)
            for each in objects:
                if not after or each.key.encode() > after.encode():  # some stores know no `StartAfter`
                    yield each
            objects.clear()  # they are as much as a page has, and the next one may be long in coming
            if not is_cut:
                return
            if not more:
                raise Unavailable(f"{what}: the listing breaks off")
            if more == asked:
                raise StoreRefused(f"{what}: the store's listing leads back to where it was, without an end")

    async def head(self, container: str, key: str) -> ObjectInfo:
        check_container(container)
        what = f"object {shown(key)} in {container}"
        found = await self._call(what, lambda: self._client.head_object(Bucket=container, Key=key))
        with read(what):
            return listing.info(key, found["ContentLength"], found)

    async def delete_object(self, container: str, key: str) -> None:
        """Delete an object; one that is gone already is no error."""
        check_container(container)
        what = f"object {shown(key)} in {container}"
        try:
            await self._call(what, lambda: self._client.delete_object(Bucket=container, Key=key))
        except StoreMissing:
            return

    async def get(
        self, container: str, expected: ObjectInfo, *, offset: int = 0, length: int | None = None
    ) -> Sequence[bytes]:
        """At most a chunk of an object, in memory, as `Pieces`.

        Raises Changed when it is not the expected one.
        """
        return await read_chunk(self._bodies, self._timing, container, expected, offset=offset, length=length)

    async def stretch(
        self, container: str, expected: ObjectInfo, *, offset: int, length: int, take: Take
    ) -> bool:
        """`length` bytes of an object from `offset`, handed to `take` in order, in pieces of some MiB.

        Returns whether it is `opaque`. Raises Changed when it is not the expected one, and what `take`
        raises.
        """
        return await read_stretch(
            self._bodies, self._timing, container, expected, offset=offset, length=length, take=take
        )

    async def put(self, container: str, key: str, body: Body) -> str:
        """Send an object of at most a chunk. Returns its ETag."""
        return await self._put(container, key, body, {})

    async def _put(self, container: str, key: str, body: Body, query: Mapping[str, str]) -> str:
        what = f"object {shown(key)} in {container}"
        return await persistent(what, self._timing, lambda: self._bodies.put(container, key, body, query))

    @asynccontextmanager
    async def multipart(self, container: str, key: str) -> AsyncIterator[Multipart]:
        """A multipart upload: completed when the block ends well, aborted when it does not."""
        what = f"object {shown(key)} in {container}"
        begun = await self._call(
            what, lambda: self._client.create_multipart_upload(Bucket=container, Key=key)
        )
        with read(what):
            upload = Multipart(self, container, key, begun["UploadId"])
        try:
            yield upload
            await self._complete(upload, what)
        except (Exception, asyncio.CancelledError):  # of any kind: it goes on to the caller
            await asyncio.shield(self._abort(upload, what))
            raise

    async def _complete(self, upload: Multipart, what: str) -> None:
        await self._call(
            what,
            lambda: self._client.complete_multipart_upload(
                Bucket=upload.container,
                Key=upload.key,
                UploadId=upload.id,
                MultipartUpload={
                    "Parts": [{"PartNumber": n, "ETag": etag} for n, etag in sorted(upload.parts.items())]
                },
            ),
            COMPLETE_FACTOR,
        )

    async def _abort(self, upload: Multipart, what: str) -> None:
        try:
            with translated(what):
                async with asyncio.timeout(self._timing.call_s):
                    with self._answering():
                        await self._client.abort_multipart_upload(
                            Bucket=upload.container, Key=upload.key, UploadId=upload.id
                        )
        except JobyardError as error:
            # The upload failed for a reason that is being raised; its leftovers are the store's to expire.
            _log.warning("multipart upload not aborted", container=upload.container, error=error.message)

    async def upload(self, container: str, key: str, stream: AsyncIterator[bytes]) -> ObjectInfo:
        """Send a stream of any length, one chunk in memory at a time.

        Keys that no pull would take are refused (UnsafeKey), and more than `most_bytes` (StoreRefused).
        """
        check_container(container)
        check_key(key)
        chunks = _chunks(stream)
        first = await anext(chunks, b"")
        if len(first) < CHUNK_BYTES:
            etag = await self.put(container, key, await self._hashed(first))
            return ObjectInfo(key, len(first), etag, datetime.now(UTC))
        async with self.multipart(container, key) as upload:
            await upload.send(1, await self._hashed(first))
            del first
            number = 2
            async for chunk in chunks:
                if number > MAX_PARTS:
                    what = f"object {shown(key)} in {container}"
                    raise StoreRefused(f"{what}: it is larger than {self.most_bytes} bytes")
                await upload.send(number, await self._hashed(chunk))
                number += 1
        return await self.head(container, key)

    async def _hashed(self, data: bytes) -> Body:
        return await disk.run(hashed, data, signed=self.signs_bodies)

    @asynccontextmanager
    async def download(self, container: str, key: str) -> AsyncIterator[Download]:
        """Read an object as a stream. Not retried: bytes have already gone to the reader."""
        check_container(container)
        what = f"object {shown(key)} in {container}"
        async with AsyncExitStack() as stack:
            with translated(what):
                info, stream = await stack.enter_async_context(self._bodies.get(container, key))
            yield Download(info, failing_with_ours(what, stream))


class Multipart:
    """The parts of one upload; see `Store.multipart`."""

    def __init__(self, store: Store, container: str, key: str, upload_id: str) -> None:
        self._store = store
        self.container = container
        self.key = key
        self.id = upload_id
        self.parts: dict[int, str] = {}

    async def send(self, number: int, body: Body) -> None:
        """Send part `number`, from 1. Parts may be sent at the same time and in any order."""
        query = {"partNumber": str(number), "uploadId": self.id}
        self.parts[number] = await self._store._put(self.container, self.key, body, query)


async def _chunks(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of exactly a chunk; only the last is shorter."""
    held = bytearray()
    async for piece in stream:
        held += piece
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)
