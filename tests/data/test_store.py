"""The store itself: faults, secrets, streams."""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.utils import is_valid_uri, validate_region_name
from hypothesis import given
from hypothesis import strategies as st

from service.domain.s3stores import check_region, check_s3_endpoint
from service.errors import Invalid, StoreDenied, StoreMissing, StoreRefused, Unavailable, UnsafeKey
from service.supervisor.data import Source, Store, StoreAccess, Timing
from service.supervisor.data.s3.bodies import Pulse, hashed
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK
from tests.data.sync import fill, held, pulled, pushed, write

#: Endpoints that look like URLs and that no client can be made for, or none that could ask anything.
UNUSABLE = [
    "http://my_minio:9000", "https://a..b", "http://-a.invalid", "http://a-.invalid", "http://%zz", "http://_x:1",
    f"http://{'a' * 64}.invalid", f"http://{'a.' * 130}a", "http://[::1]x:1", "http://[::g]", "http://[::1%25a/b]",
    "http://x:0", "http://127.1", "http://x:80:80",
]  # fmt: skip
HASTY = Timing(call_s=0.15, progress_s=0.15, attempts=2, backoff_s=0.01)


async def _all(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def _pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def _calls(store: Store) -> list[Callable[[], Awaitable[object]]]:
    async def listed() -> None:
        async for _ in store.list("box"):
            pass

    async def read() -> None:
        async with store.download("box", "x") as download:
            await _all(download.stream)

    return [
        listed,
        read,
        store.check,
        lambda: store.ensure_container("box"),
        lambda: store.head("box", "x"),
        lambda: store.put("box", "x", hashed(b"1", signed=True)),
        lambda: store.upload("box", "x", _pieces(b"1" * 9_000_000, 1_000_000)),
        lambda: store.delete_object("box", "x"),
    ]


@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
async def test_wrong_keys_are_refused_and_never_shown(access: StoreAccess, wrong: str) -> None:
    secret = "wrongwrongwrongwrong"
    bad = replace(access, **{wrong: secret})
    async with Store.open(bad, QUICK) as store:
        for call in await _calls(store):
            with pytest.raises(StoreDenied) as refused:
                await call()
            text = "".join(traceback.format_exception(refused.value))
            assert secret not in text
            assert access.secret_key not in text
            # The client's own error holds the request; it must not travel along.
            assert refused.value.__cause__ is None
            assert refused.value.__context__ is None or refused.value.__suppress_context__
    assert secret not in repr(bad)


async def test_a_store_that_is_down_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # so that nobody else listens there
        nobody = StoreAccess(f"http://127.0.0.1:{taken.getsockname()[1]}", "us-east-1", "k" * 16, "s" * 16)
        async with Store.open(nobody, QUICK) as store:
            for call in await _calls(store):
                with pytest.raises(Unavailable):
                    await call()


async def test_a_store_that_never_answers_is_unavailable(volume: Path) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while await reader.read(65536):
            pass

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    mute = StoreAccess(f"http://127.0.0.1:{port}", "us-east-1", "k" * 16, "s" * 16)
    async with asyncio.timeout(60), Store.open(mute, HASTY) as store:
        for call in await _calls(store):
            with pytest.raises(Unavailable, match=r"in time|cannot be reached"):
                await call()
        with pytest.raises(Unavailable):
            await pulled(store, Source("box"), volume)
    for writer in writers:
        writer.close()
    server.close()


async def test_a_store_that_stops_in_the_middle_is_unavailable() -> None:
    async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: x\r\n\r\nhalf")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(stalling, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    slow = StoreAccess(f"http://127.0.0.1:{port}", "us-east-1", "k" * 16, "s" * 16)
    async with asyncio.timeout(60), Store.open(slow, HASTY) as store:
        with pytest.raises(Unavailable, match="object x in box: the store sent fewer than 100 bytes"):
            async with store.download("box", "x") as download:
                await _all(download.stream)
    server.close()


async def test_streams_of_any_length_go_there_and_back(store: Store, source: Source) -> None:
    for size in (0, 1, 8 * 1024 * 1024, 17 * 1024 * 1024 + 5):
        data = os.urandom(size)
        info = await store.upload(source.container, f"dir/o{size}", _pieces(data, 1_000_003))
        assert info.size == size
        async with store.download(source.container, info.key) as download:
            assert download.info.size == size
            assert await _all(download.stream) == data


async def test_an_upload_without_an_end_is_refused_where_it_is_too_large(
    store: Store, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.supervisor.data.s3.store.MAX_PARTS", 2)
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(1024**2)

    with pytest.raises(StoreRefused, match=r"x in .*: it is larger than"):
        await store.upload(source.container, "x", endless())
    assert taken <= 3 * 8
    await _nothing_left(store, source)


async def test_an_upload_that_breaks_off_leaves_nothing(store: Store, source: Source) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (9 * 1024 * 1024)
        raise ConnectionResetError("the caller went away")

    with pytest.raises(ConnectionResetError):
        await store.upload(source.container, "x", broken())
    await _nothing_left(store, source)


async def _nothing_left(store: Store, source: Source) -> None:
    assert await held(store, source) == {}
    with store._answering():
        left = await store._client.list_multipart_uploads(Bucket=source.container)
    assert left.get("Uploads", []) == []


async def test_an_upload_that_is_cancelled_leaves_nothing(store: Store, source: Source) -> None:
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * (9 * 1024 * 1024)
        waiting.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(store.upload(source.container, "x", endless()))
    await waiting.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await _nothing_left(store, source)


@pytest.mark.parametrize("key", ["../x", "", "/x", "a//b", "a/", "x\x00"])
async def test_uploads_take_no_key_that_could_not_be_pulled(store: Store, source: Source, key: str) -> None:
    with pytest.raises(UnsafeKey):
        await store.upload(source.container, key, _pieces(b"1", 1))


@pytest.mark.parametrize("name", ["", "..", "a/b", "a?b", "-a", "a..b", "é", "a" * 300])
async def test_container_names_are_checked(store: Store, name: str) -> None:
    with pytest.raises(StoreRefused, match="not a container name"):
        await store.ensure_container(name)


@pytest.mark.parametrize(
    "endpoint",
    ["", "ftp://x", "http://", "http://u:p@x", "http://x?y", "file:///etc", "http://x:99999", *UNUSABLE],
)
async def test_endpoints_are_checked(access: StoreAccess, endpoint: str) -> None:
    with pytest.raises(StoreRefused, match="endpoint"):
        async with Store.open(replace(access, endpoint=endpoint)):
            pass


@pytest.mark.parametrize("region", ["-5", "a-", "-a", "5", "a" * 64])
async def test_a_region_that_the_client_refuses_is_refused(access: StoreAccess, region: str) -> None:
    with pytest.raises(StoreRefused, match="region"):
        async with Store.open(replace(access, region=region)):
            pass


async def test_whatever_the_client_says_of_an_endpoint_becomes_ours(
    access: StoreAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if its rules grow stricter than ours; and no value that it shows goes on."""
    monkeypatch.setattr("service.supervisor.data.s3.client.check_s3_endpoint", lambda field, endpoint: None)
    for endpoint in ("http://my_minio:9000", "https://a..b", "http://-a.invalid", "http://%zz"):
        with pytest.raises(StoreRefused, match="its endpoint is none that can be connected to") as caught:
            async with Store.open(replace(access, endpoint=endpoint)):
                pass
        assert caught.value.__suppress_context__


@given(
    st.from_regex(r"\Ahttps?://[a-zA-Z0-9._\[\]:%-]{1,70}(/[ -~]{0,5})?\Z"),
    st.text("aZ5-_ \n", max_size=5) | st.sampled_from(["", "a" * 63, "a" * 64]),
)
def test_what_is_taken_at_the_door_the_client_takes(endpoint: str, region: str) -> None:
    with suppress(Invalid):
        check_s3_endpoint("endpoint", endpoint)
        assert is_valid_uri(endpoint)
    with suppress(Invalid):
        check_region("region", region)
        validate_region_name(region or None)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchKey", StoreMissing),
        (404, "NoSuchBucket", StoreMissing),
        (404, "", StoreMissing),
        (403, "AccessDenied", StoreDenied),
        (403, "SignatureDoesNotMatch", StoreDenied),
        (403, "", StoreDenied),
        (400, "MetadataTooLarge", StoreRefused),
    ],
)
async def test_missing_and_denied_are_told_apart(status: int, code: str, kind: type[StoreRefused]) -> None:
    canned = Canned([])
    canned.refusal = status, code
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        listed, read, *_ = await _calls(store)
        for call in (listed, read, lambda: store.put("box", "x", hashed(b"1", signed=True))):
            with pytest.raises(StoreRefused) as refused:
                await call()
            assert type(refused.value).code == kind.code, refused.value.message
        if status != 400:
            with pytest.raises(kind):  # this answer has no body, and so no code
                await store.head("box", "x")


async def test_keys_that_may_not_list_containers_are_right_all_the_same() -> None:
    canned = Canned([])
    async with serving(canned) as access, Store.open(access, QUICK) as store:
        canned.refusal = 403, "AccessDenied"
        await store.check()
        canned.refusal = 403, "InvalidAccessKeyId"
        with pytest.raises(StoreDenied, match="the access key is unknown"):
            await store.check()


async def test_what_does_not_exist_is_missing_or_gone(store: Store, source: Source) -> None:
    with pytest.raises(StoreMissing, match=r"object nothing in .*: no such"):
        async with store.download(source.container, "nothing"):
            pass
    with pytest.raises(StoreMissing, match="no such"):
        await store.head(source.container, "nothing")
    await store.delete_object(source.container, "nothing")
    await store.check()
    await store.ensure_container(source.container)


async def test_listings_longer_than_a_page_are_whole(store: Store, source: Source, volume: Path) -> None:
    write(volume, {f"{n:04}": b"" for n in range(1100)})
    await pushed(store, source, volume)
    assert [info.key async for info in store.list(source.container)] == [f"{n:04}" for n in range(1100)]
    await fill(store, source, {"p/x": b"1"})
    assert [info.key async for info in store.list(source.container, "p/")] == ["p/x"]


async def test_every_sign_of_life_moves_the_deadline() -> None:
    async with Pulse(60) as pulse:
        before = pulse.deadline
        pulse.beat()
        assert pulse.deadline > before
