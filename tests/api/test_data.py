"""Data stores and their objects, against a real S3 server."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tracemalloc
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import pytest
from structlog.testing import capture_logs
from yarl import URL

from service.api import datastores
from service.errors import Unavailable
from service.supervisor.data import StoreAccess
from tests.api.yard import OPERATOR, READER, SPEC, Yard
from tests.support.waiting import until

MEBIBYTE = 1024**2


def _body(access: StoreAccess, **changed: Any) -> dict[str, Any]:
    keys = {"accessKey": access.access_key, "secretKey": access.secret_key, "region": access.region}
    return {"alias": "s3", "type": "s3", "endpoint": access.endpoint, "credentials": {"s3": keys}} | changed


@pytest.fixture
async def objects(yard: Yard, access: StoreAccess) -> str:
    """The path of a new container's objects."""
    assert (await yard.call("POST", "/v1/datastore", _body(access))).status == 200
    return f"/v1/datastore/s3/container/test-{uuid4().hex[:12]}/object"


async def test_a_data_store_is_added_shown_replaced_and_removed(yard: Yard, access: StoreAccess) -> None:
    made = await yard.call("POST", "/v1/datastore", _body(access))
    assert made.status == 200, made.raw
    shown = await yard.call("GET", "/v1/datastore/s3", token=READER)
    assert shown.json == made.json
    assert made.json["credentials"] == {"s3": {"region": access.region}}
    for answer in (made, shown, await yard.call("GET", "/v1/datastore")):
        assert access.access_key not in answer.raw.decode()
        assert access.secret_key not in answer.raw.decode()
    assert (await yard.call("POST", "/v1/datastore", _body(access))).status == 409
    assert (await yard.call("GET", "/v1/datastore/s3", token="other")).status == 404
    replaced = _body(access, owner="ovhcloud")
    assert (await yard.call("PUT", "/v1/datastore/s3", replaced)).status == 204
    assert (await yard.call("GET", "/v1/datastore/s3")).json["owner"] == "ovhcloud"
    assert (await yard.call("PUT", "/v1/datastore/none", _body(access))).status == 404
    spec = SPEC | {"volumes": [{"mountPath": "/d", "dataStore": {"alias": "s3", "container": "abc"}}]}
    job = await yard.call("POST", "/v1/job", spec)
    assert job.json["spec"]["volumes"][0]["dataStore"] == {"alias": "s3", "container": "abc"}
    assert (await yard.call("PUT", f"/v1/job/{job.json['id']}/kill")).status == 204
    assert (await yard.call("DELETE", "/v1/datastore/s3")).status == 204
    assert (await yard.call("GET", "/v1/datastore/s3")).status == 404
    async with yard.ledger.pool.acquire() as connection:
        query = "SELECT count(*) FROM events WHERE data::text LIKE '%' || $1 || '%'"
        for secret in (access.access_key, access.secret_key):
            assert await connection.fetchval(query, secret) == 0


async def test_a_repeat_asks_no_store_and_needs_none(
    yard: Yard, access: StoreAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was carried out is answered by the ledger, whatever became of the store since."""
    body = _body(access)

    async def again(method: str, path: str, given: Any = None) -> Any:
        return await yard.call(method, path, given, headers={"Idempotency-Key": method})

    asked: tuple[Any, ...] = (
        ("POST", "/v1/datastore", body),
        ("PUT", "/v1/datastore/s3", body),
        ("DELETE", "/v1/datastore/s3"),
    )
    first = [await again(*each) for each in asked]
    assert [each.status for each in first] == [200, 204, 204]
    before = await yard.head()
    monkeypatch.setattr(datastores, "_check", _refusing)
    for each, answer in zip(asked, first, strict=True):
        repeated = await again(*each)
        assert (repeated.status, repeated.raw) == (answer.status, answer.raw)
    assert (await yard.call("POST", "/v1/datastore", body)).status == 503, "others do ask it"
    assert await yard.head() == before


async def _refusing(*_: Any) -> None:
    raise Unavailable("the store is not there any more")


@pytest.mark.parametrize("kind", ["s3", "git", "target"])
async def test_a_data_store_that_a_live_job_has_is_not_removed(yard: Yard, kind: str) -> None:
    keys = {"s3": {"accessKey": "a", "secretKey": "b"}}
    for alias in ("used", "spare"):
        body: dict[str, Any] = {
            "alias": alias,
            "type": "s3",
            "endpoint": "http://127.0.0.1:1",
            "credentials": keys,
        }
        if kind == "git":
            body = {"alias": alias, "type": "git", "endpoint": "https://hub.invalid/team"}
        assert (await yard.call("POST", "/v1/datastore?check=false", body)).status == 200
    await yard.token("theirs", OPERATOR, project="other")
    theirs = {"alias": "used", "type": "git", "endpoint": "https://hub.invalid/team"}
    assert (await yard.call("POST", "/v1/datastore?check=false", theirs, token="theirs")).status == 200
    place = {"alias": "used", "container": "abc"}
    volume: dict[str, Any] = {"mountPath": "/d", "permission": "RO", "dataStore": place}
    if kind == "target":
        volume = {"mountPath": "/d", "permission": "RW", "standalone": {}, "targetDataStore": place}
    # At once: whichever is first, a job that was taken has its store.
    job, removed = await asyncio.gather(
        yard.call("POST", "/v1/job", SPEC | {"volumes": [volume]}), yard.call("DELETE", "/v1/datastore/used")
    )
    assert (job.status, removed.status) in ((200, 400), (400, 204))
    if removed.status == 204:
        assert (await yard.call("POST", "/v1/datastore?check=false", body | {"alias": "used"})).status == 200
        job = await yard.call("POST", "/v1/job", SPEC | {"volumes": [volume]})
    before = await yard.head()
    refused = await yard.call("DELETE", "/v1/datastore/used")
    assert (refused.status, refused.json["code"]) == (400, "wrong-state")
    assert "used by a job that has not ended" in refused.json["message"]
    assert job.json["id"] not in refused.raw.decode()
    assert await yard.head() == before
    assert (await yard.call("DELETE", "/v1/datastore/spare")).status == 204
    assert (await yard.call("DELETE", "/v1/datastore/used", token="theirs")).status == 204
    assert (await yard.call("PUT", f"/v1/job/{job.json['id']}/kill")).status == 204
    assert (await yard.call("DELETE", "/v1/datastore/used")).status == 204


async def test_wrong_keys_are_refused_at_once(yard: Yard, access: StoreAccess) -> None:
    before = await yard.head()
    secret = "not-the-right-secret-at-all"
    for wrong in ({"secretKey": secret}, {"accessKey": "unknown0000000000000"}):
        body = _body(access)
        body["credentials"]["s3"] |= wrong
        answer = await yard.call("POST", "/v1/datastore", body)
        assert (answer.status, answer.json["field"]) == (400, "credentials.s3")
        assert "key" in answer.json["message"]
        assert secret not in answer.raw.decode()
    assert await yard.head() == before
    assert (await yard.call("POST", "/v1/datastore?check=false", body)).status == 200


BAD_STORES: list[tuple[dict[str, Any], str]] = [
        ({"alias": "a/b"}, "alias"), ({"alias": "a\0"}, "alias"), ({"type": "git"}, "credentials"),
        ({"type": "ftp"}, "type"),
        ({"endpoint": "ftp://x"}, "endpoint"), ({"endpoint": "http://"}, "endpoint"),
        ({"endpoint": "http://u:p@x"}, "endpoint"), ({"endpoint": "http://x/?a=b"}, "endpoint"),
        ({"endpoint": "http://x:99999"}, "endpoint"), ({"endpoint": "http://[::1"}, "endpoint"),
        ({"owner": "me"}, "owner"), ({"credentials": {}}, "credentials"),
        ({"credentials": {"s3": {"accessKey": "k"}}}, "credentials.s3.secretKey"),
        ({"credentials": {"s3": {"accessKey": "k", "secretKey": ""}}}, "credentials.s3.secretKey"),
        ({"credentials": {"s3": {"accessKey": "k", "secretKey": "hunter2\0"}}}, "credentials.s3.secretKey"),
        ({"credentials": {"s3": {"accessKey": "k", "secretKey": ["hunter2"]}}}, "credentials.s3.secretKey"),
        ({"credentials": "hunter2"}, "credentials"), ({"endpiont": "x"}, "endpiont"),
    ]  # fmt: skip


async def test_bad_data_stores_are_named(yard: Yard, access: StoreAccess) -> None:
    for changed, field in BAD_STORES:
        before = await yard.head()
        answer = await yard.call("POST", "/v1/datastore", _body(access) | changed)
        assert (answer.status, answer.json["field"]) == (400, field)
        assert b"hunter2" not in answer.raw
        assert await yard.head() == before


@pytest.mark.parametrize("key", ["a.txt", "deep/er/b c.txt", "é/ü?x=1&y#z%25.bin", "+plus+"])
async def test_an_object_comes_back_as_it_was_sent(yard: Yard, objects: str, key: str) -> None:
    url = (
        str(URL(yard.url) / objects.removeprefix("/")) + "/" + URL.build(path=f"/{key}").raw_path.lstrip("/")
    )
    target = URL(url.replace("?", "%3F"), encoded=True)
    headers = {"Authorization": f"Bearer {yard.tokens[OPERATOR]}"}
    async with yard.http.put(target, data=b"hello", headers=headers) as sent:
        assert sent.status == 200, await sent.read()
        assert (await sent.json())["key"] == key
    async with yard.http.get(target, headers=headers) as got:
        assert await got.read() == b"hello"
        assert got.headers["Content-Disposition"] == "attachment"
        assert got.headers["Content-Type"] == "application/octet-stream"
    listed = (await yard.call("GET", objects, token=READER)).json["items"]
    assert [(each["key"], each["size"]) for each in listed] == [(key, 5)]
    async with yard.http.head(target, headers=headers) as head:
        assert head.headers["Content-Length"] == "5"
    async with yard.http.delete(target, headers=headers) as gone:
        assert gone.status == 204
    async with yard.http.get(target, headers=headers) as missing:
        assert missing.status == 404


async def test_containers_are_made_once_and_listed_by_name(yard: Yard, access: StoreAccess) -> None:
    assert (await yard.call("POST", "/v1/datastore", _body(access))).status == 200
    path, names = "/v1/datastore/s3/container", sorted(f"test-{uuid4().hex[:12]}" for _ in range(3))
    for name in (*reversed(names), names[0]):
        made = await yard.call("PUT", f"{path}/{name}")
        assert (made.status, made.json) == (200, {"name": name}), made.raw
    whole = await yard.call("GET", f"{path}?size=500", token=READER)
    listed = [each["name"] for each in whole.json["items"]]
    assert [name for name in listed if name in names] == names and listed == sorted(listed)
    page = (await yard.call("GET", f"{path}?size=1&page=2")).json
    assert ([each["name"] for each in page["items"]], page["metadata"]["total"]) == (listed[1:2], len(listed))
    for name in ("b", "-abc", "a b", "x" * 64, "%2e%2e%2f"):
        refused = await yard.call("PUT", f"{path}/{name}")
        assert (refused.status, refused.json["field"]) == (400, "container"), refused.raw
    for name in ("Upper", "under_score", "a..bcd", "abc.-def", "abc-.def", "192.168.0.1", "abc\u202e"):
        refused = await yard.call("PUT", f"{path}/{quote(name)}")
        assert (refused.status, refused.json["field"]) == (400, "container"), "the store is not asked"
        assert "3 to 63 lower-case letters, digits, '-' and '.'" in refused.json["message"]
    for name in ("a.b.c", "aa.bbb"):  # S3's own rule takes them, and not every store does
        refused = await yard.call("PUT", f"{path}/{name}")
        assert (refused.status, refused.json["code"]) == (400, "store-refused"), refused.raw
        assert "want 3 characters between two '.'" in refused.json["message"]
    for method, where in (("GET", "none/container"), ("PUT", f"none/container/{names[0]}")):
        assert (await yard.call(method, f"/v1/datastore/{where}")).status == 404
        assert (await yard.call(method, f"/v1/datastore/{where}", token="other")).status == 404
    wrong = {"accessKey": access.access_key, "secretKey": "w" * 20, "region": access.region}
    await yard.call("PUT", "/v1/datastore/s3?check=false", _body(access, credentials={"s3": wrong}))
    assert (await yard.call("GET", path)).status == 403
    assert (await yard.call("PUT", f"{path}/{names[0]}")).status == 403


async def test_keys_that_the_store_refuses_are_not_told_as_missing(
    yard: Yard, objects: str, access: StoreAccess
) -> None:
    assert (await yard.call("PUT", f"{objects}/a", data=b"x")).status == 200
    wrong = {"accessKey": access.access_key, "secretKey": "w" * 20, "region": access.region}
    assert (
        await yard.call("PUT", "/v1/datastore/s3?check=false", _body(access, credentials={"s3": wrong}))
    ).status == 204
    for path in (objects, f"{objects}/a"):
        denied = await yard.call("GET", path)
        assert (denied.status, denied.json["code"]) == (403, "store-denied"), denied.raw


async def test_objects_are_listed_by_prefix_and_page(yard: Yard, objects: str) -> None:
    for key in ("a/1", "a/2", "a/3", "b/1"):
        assert (await yard.call("PUT", f"{objects}/{key}", data=b"x")).status == 200
    found = (await yard.call("GET", f"{objects}?prefix=a/")).json["items"]
    assert [each["key"] for each in found] == ["a/1", "a/2", "a/3"]
    keys: list[str] = []
    following = f"{objects}?size=3"
    while following:
        page = (await yard.call("GET", following)).json
        keys += [each["key"] for each in page["items"]]
        following = page["metadata"]["links"].get("next")
    assert keys == ["a/1", "a/2", "a/3", "b/1"]
    assert (await yard.call("GET", objects, token="other")).status == 404


async def test_a_large_object_goes_both_ways_in_bounded_memory(yard: Yard, objects: str) -> None:
    block = os.urandom(MEBIBYTE)
    sent = hashlib.sha256()

    async def blocks() -> Any:
        for _ in range(64):
            sent.update(block)
            yield block

    tracemalloc.start()
    try:
        upload = await yard.call("PUT", f"{objects}/large.bin", data=blocks())
        assert (upload.status, upload.json["size"]) == (200, 64 * MEBIBYTE)
        received = hashlib.sha256()
        headers = {"Authorization": f"Bearer {yard.tokens[OPERATOR]}"}
        async with yard.http.get(f"{yard.url}{objects}/large.bin", headers=headers) as response:
            async for chunk in response.content.iter_any():
                received.update(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert received.digest() == sent.digest()
    assert peak < 56 * MEBIBYTE, f"{peak / MEBIBYTE:.1f} MiB"


@pytest.mark.parametrize("when", ["before the answer", "in the middle"])
async def test_a_client_that_leaves_a_download_is_no_failure(yard: Yard, objects: str, when: str) -> None:
    assert (await yard.call("PUT", f"{objects}/large", data=os.urandom(32 * MEBIBYTE))).status == 200
    host, _, port = yard.url.removeprefix("http://").partition(":")
    head = f"GET {objects}/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {yard.tokens[OPERATOR]}\r\n\r\n"
    with capture_logs() as lines:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())
        await writer.drain()
        if when == "in the middle":
            await reader.readexactly(4096)
        writer.transport.abort()

        async def told() -> bool:
            return any(line["event"] == "request" for line in lines)

        await until(told)
    (line,) = [line for line in lines if line["event"] == "request"]
    assert (line["cut"], line["status"]) == ("client", 200 if when == "in the middle" else 499), lines
    assert [line for line in lines if line["log_level"] in ("warning", "error", "critical")] == []
    assert (await yard.call("GET", f"{objects}?prefix=large")).status == 200


async def test_an_upload_that_is_too_large_is_refused_before_it_comes(yard: Yard, objects: str) -> None:
    host, _, port = yard.url.removeprefix("http://").partition(":")
    most = 10_000 * 8 * MEBIBYTE
    head = f"PUT {objects}/large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {yard.tokens[OPERATOR]}\r\n"
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}Content-Length: {most + 1}\r\n\r\n".encode())
    async with asyncio.timeout(30):
        status = await reader.readline()
        answer = await reader.readuntil(b"}")
    writer.close()
    assert b" 400 " in status
    assert f"body: Content-Length says {most + 1} bytes" in answer.decode()
    assert f"at most {most} bytes" in answer.decode()


async def test_an_upload_that_breaks_off_leaves_no_object(yard: Yard, objects: str) -> None:
    async def broken() -> Any:
        yield b"x" * MEBIBYTE
        raise ConnectionError("the client's disk failed")

    with pytest.raises(aiohttp.ClientError):
        await yard.call("PUT", f"{objects}/half.bin", data=broken())
    assert (await yard.call("PUT", f"{objects}/other.bin", data=b"x")).status == 200
    assert (await yard.call("GET", f"{objects}/half.bin")).status == 404


#: As they stand in a path. No method takes them; what only could not be pulled is refused to an upload.
BAD_KEYS: list[str] = [
    "..%2fx", "a/%2e%2e/b", "../x", "..", "a/../../b", "%2e", "a%00b", "%00", "a%0ab", "%0a", "%0d%0a",
    "a%7f", "%ff", "a/%c3", "%ed%a0%80", "x" * 1025, "",
]  # fmt: skip
UNPULLABLE_KEYS: list[str] = ["a//b", "/a", "a/", "x" * 256]


async def test_keys_that_could_not_be_pulled_are_refused(yard: Yard, objects: str) -> None:
    cases = [(key, method) for key in BAD_KEYS for method in ("PUT", "GET", "DELETE")]
    for key, method in cases + [(key, "PUT") for key in UNPULLABLE_KEYS]:
        headers = {"Authorization": f"Bearer {yard.tokens[OPERATOR]}"}
        url = URL(f"{yard.url}{objects}/{key}", encoded=True)
        async with yard.http.request(method, url, data=b"x", headers=headers) as answer:
            told = await answer.json()
            assert (answer.status, told["code"], told.get("field")) == (400, "invalid", "key"), (key, told)
            assert told["message"].startswith("key: '"), told
    assert (await yard.call("GET", objects)).json["items"] == []


async def test_a_key_is_what_was_sent(yard: Yard, objects: str) -> None:
    """A percent sign that was sent as one stays one."""
    for sent, key in (
        ("%25ff", "%ff"),
        ("a%252fb", "a%2fb"),
        ("a%2fb", "a/b"),
        ("c+d", "c+d"),
        ("%C3%A9", "é"),
    ):
        headers = {"Authorization": f"Bearer {yard.tokens[OPERATOR]}"}
        url = URL(f"{yard.url}{objects}/{sent}", encoded=True)
        async with yard.http.put(url, data=b"x", headers=headers) as answer:
            assert (await answer.json())["key"] == key


async def test_a_store_that_is_not_there_is_said_to_be_unavailable(yard: Yard, access: StoreAccess) -> None:
    body = _body(access, endpoint="http://127.0.0.1:1")
    answer = await yard.call("POST", "/v1/datastore", body)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
