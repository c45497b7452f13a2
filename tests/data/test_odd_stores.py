"""Data stores that users name: those whose answers make no sense, and addresses where there can be none."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from service.errors import StoreForbidden, StoreRefused, Unavailable
from service.outward.addresses import OWN, OWN_NETWORKS, may_connect, without_metadata
from service.supervisor.data import Source, Store, StoreAccess
from service.supervisor.data.model import CHUNK_BYTES, ObjectInfo
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK
from tests.data.sync import files, pulled
from tests.data.test_archive import pulled as archive_pulled
from tests.data.test_archive import tar

BEGINNING = '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>'
ODD = {
    "no size": "<Contents><Key>a</Key><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>",
    "no time": "<Contents><Key>a</Key><Size>1</Size></Contents>",
    "no key": "<Contents><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>",
    "size in words": "<Contents><Key>a</Key><Size>one</Size></Contents>",
    "size below 0": "<Contents><Key>a</Key><Size>-5</Size><LastModified>2026-01-01T00:00:00Z"
    "</LastModified></Contents>",
    "time without a zone": "<Contents><Key>a</Key><Size>5</Size><LastModified>2026-01-01T00:00:00"
    "</LastModified></Contents>",
    "time in words": "<Contents><Key>a</Key><Size>1</Size><LastModified>soon</LastModified></Contents>",
}


class Odd(Canned):
    """Lists what it is told to, with `headers` in the answers about an object."""

    def __init__(self, listed: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__([])
        self.listed = listed
        self.more = headers or {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "list-type" in request.query:
            text = f"{BEGINNING}{self.listed}</ListBucketResult>"
            return web.Response(text=text, content_type="application/xml")
        answer = await super().answer(request)
        answer.headers.update(self.more)
        return answer


class Encrypted(Canned):
    """Says of its objects what is in `more`."""

    def __init__(self, keys: Sequence[str], body: bytes, etag: str) -> None:
        super().__init__(keys, body, etag)
        self.more: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        answer = await super().answer(request)
        answer.headers.update(self.more)
        return answer


@pytest.mark.parametrize("listed", ODD.values(), ids=ODD.keys())
async def test_a_listing_that_makes_no_sense_is_the_stores_fault(volume: Path, listed: str) -> None:
    async with serving(Odd(listed)) as access, Store.open(access, QUICK) as store:
        with pytest.raises(StoreRefused, match="container box: the store's answer cannot be read"):
            await pulled(store, Source("box"), volume)
    assert list(volume.iterdir()) == []


async def test_a_listing_that_is_no_xml_is_the_stores_fault(volume: Path) -> None:
    async with serving(Odd("<Contents><Key>")) as access, Store.open(access, QUICK) as store:
        with pytest.raises((StoreRefused, Unavailable), match="container box"):
            await pulled(store, Source("box"), volume)


@pytest.mark.parametrize("when", ["soon", "Fri, 02 Jan 2026 03:04:05 -0000"])
async def test_an_object_whose_head_makes_no_sense_is_the_stores_fault(when: str) -> None:
    odd = Odd(headers={"Last-Modified": when})
    async with serving(odd) as access, Store.open(access, QUICK) as store:
        with pytest.raises(StoreRefused, match="object a in box"):
            async with store.download("box", "a"):
                pass
        with pytest.raises(StoreRefused, match="object a in box"):
            await store.head("box", "a")
        with pytest.raises(StoreRefused, match="object a in box"):
            await store.get("box", ObjectInfo("a", 5, "", None))  # type: ignore[arg-type]


KMS = {"x-amz-server-side-encryption": "aws:kms"}
BY_KEY = {"x-amz-server-side-encryption-customer-algorithm": "AES256"}


@pytest.mark.parametrize("size", [5, CHUNK_BYTES + 5])
@pytest.mark.parametrize("headers", [KMS, BY_KEY, {"x-amz-server-side-encryption": "AES256"}, {}])
async def test_an_etag_of_an_encrypted_object_is_no_hash_of_it(
    volume: Path, size: int, headers: dict[str, str]
) -> None:
    """Though it looks like one. Where the store does not say so, what arrives is compared with it."""
    odd = Encrypted(["a"], bytes(size), "0" * 32)
    odd.more = headers
    async with serving(odd) as access, Store.open(access, QUICK) as store:
        if headers in (KMS, BY_KEY):
            assert (await pulled(store, Source("box"), volume)).completed == 1
            assert files(volume) == {"a": bytes(size)}
            assert (await pulled(store, Source("box"), volume)).skipped == 1
        else:
            with pytest.raises(Unavailable, match="object a arrived damaged"):
                await pulled(store, Source("box"), volume)


async def test_an_etag_of_an_encrypted_archive_is_no_hash_of_it(volume: Path) -> None:
    odd = Encrypted(["a"], tar({"x": b"1"}), "0" * 32)
    async with serving(odd) as access, Store.open(access, QUICK) as store:
        with pytest.raises(Unavailable, match="object a arrived damaged"):
            await archive_pulled(store, Source("box"), volume, "a")
        odd.more = KMS
        await archive_pulled(store, Source("box"), volume, "a")
    assert files(volume) == {"x": b"1"}


# -- where it may be ---------------------------------------------------------------------------------


@asynccontextmanager
async def at(endpoint: str) -> AsyncIterator[Store]:
    access = StoreAccess(endpoint=endpoint, access_key="a" * 16, secret_key="b" * 16, region="x")
    async with Store.open(access, QUICK) as store:
        yield store


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "100.100.100.200", "[fd00:ec2::254]", "[::ffff:169.254.169.254]", "0.0.0.0"]
)
async def test_no_store_is_where_a_cloud_tells_its_secrets(host: str) -> None:
    with pytest.raises(StoreRefused, match="nor one where this yard's stores may be"):
        async with at(f"http://{host}"):
            pass


async def test_nor_by_a_name_that_leads_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(host: str, port: int, *_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    async with at("http://store.example.org") as store:
        said = r"169\.254\.169\.254, which is not a public one, .* clouds tell a machine its secrets"
        with pytest.raises(StoreForbidden, match=said):
            await store.containers()
        with pytest.raises(StoreForbidden, match=said):
            async with store.download("latest", "meta-data"):
                pass


async def test_a_yard_may_have_its_stores_in_other_networks_alone() -> None:
    async with serving(Canned(["x"])) as access:
        with pytest.raises(StoreRefused, match="nor one where this yard's stores may be"):
            async with Store.open(access, QUICK, allow=()):
                pass
        by_name = replace(access, endpoint=access.endpoint.replace("127.0.0.1", "localhost"))
        async with Store.open(by_name, QUICK, allow=()) as store:
            with pytest.raises(StoreRefused):
                await store.containers()
        async with Store.open(by_name, QUICK) as store:
            assert [info.key async for info in store.list("box")] == ["x"]


def test_the_networks_of_a_yard_hold_no_metadata() -> None:
    for address in ("127.0.0.1", "10.1.2.3", "192.168.0.1", "100.100.100.199", "fd00:1::1", "8.8.8.8", "::1"):
        assert may_connect(address, OWN_NETWORKS), address
    for address in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "fe80::1"):
        assert not may_connect(address, OWN_NETWORKS), address
        assert not may_connect(address, without_metadata((*OWN, "0.0.0.0/0", "::/0"))), address
    assert without_metadata(("169.254.169.254/32", "169.254.0.0/16")) == ()
