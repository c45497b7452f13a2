"""What is wrong is refused by name, with a 4xx, and records nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
from decimal import Decimal
from typing import Annotated, Any

import msgspec
import pytest

from service.api.body import BodyReader
from service.api.query import Query, QueryReader
from tests.api.yard import ADMIN, MOST_BODY_BYTES, SPEC, Yard

#: What is changed in a good specification, the field that the answer names, and what its message says.
BAD_FIELDS: list[tuple[Any, str, str]] = [
    ({"image": None}, "image", "image: null was sent; it must be text"),
    ({"image": 3}, "image", "3 is not allowed; it must be text"),
    ({"image": ""}, "image", "image reference"),
    ({"image": "UPPER/case"}, "image", "'UPPER/case'"),
    ({"image": "a" * 1000}, "image", "..."),
    ({"image": "a." * 1000}, "image", "at most 1024 characters"),
    ({"image": "busybox\0"}, "image", "image reference"),
    ({"commnad": ["x"]}, "commnad", "commnad: unknown field; did you mean command?"),
    ({"entirelyOther": 1}, "entirelyOther", "the fields are image, command"),
    ({"command": "sh -c x"}, "command", "'sh -c x' is not allowed; it must be a list"),
    ({"command": ["sh", 1]}, "command[1]", "1 is not allowed; it must be text"),
    ({"command": ["a\0b"]}, "command[0]", "NUL"),
    ({"command": [""]}, "command[0]", "program"),
    ({"command": ["x"] * 2000}, "command", "at most 1024"),
    ({"envVars": [{"name": "A"}]}, "envVars[0].value", "value: it is missing; it must be text"),
    ({"envVars": [{"name": "1A", "value": ""}]}, "envVars[0].name", "1A"),
    ({"envVars": [{"name": "A", "value": "a"}, {"name": "A", "value": "b"}]}, "envVars[1].name", "once"),
    ({"envVars": [{"name": "A", "value": "x\0"}]}, "envVars[0].value", "NUL"),
    (
        {"volumes": [{"mountPath": "rel", "permission": "RO", "standalone": {}}]},
        "volumes[0].mountPath",
        "absolute",
    ),
    ({"volumes": [{"mountPath": "/a/../b", "standalone": {}}]}, "volumes[0].mountPath", "'..'"),
    (
        {"volumes": [{"mountPath": "/a", "permission": "RX", "standalone": {}}]},
        "volumes[0].permission",
        "'RX'",
    ),
    ({"volumes": [{"mountPath": "/a"}]}, "volumes[0]", "exactly one source"),
    (
        {"volumes": [{"mountPath": "/a", "dataStore": {"alias": "none", "container": "abc"}}]},
        "volumes[0].dataStore.alias",
        "'none'",
    ),
    ({"volumes": [{"mountPath": "/a", "dataStroe": {}}]}, "volumes[0].dataStroe", "did you mean dataStore?"),
    ({"resources": {"cpus": 1}}, "resources.cpus", "resources.cpus: unknown field; did you mean cpu?"),
    ({"resources": {"cpu": 0}}, "resources.cpu", "at least 1 CPU"),
    ({"resources": {"cpu": -1}}, "resources.cpu", "-1"),
    ({"resources": {"cpu": 1.5}}, "resources.cpu", "1.5 is not allowed; it must be a whole number"),
    ({"resources": {"cpu": "1"}}, "resources.cpu", "'1' is not allowed; it must be a whole number"),
    ({"resources": {"cpu": True}}, "resources.cpu", "cpu: true was sent; it must be a whole number"),
    ({"resources": {"cpu": 10**30}}, "resources.cpu", "1 to 12"),
    ({"resources": {"gpu": 5}}, "resources.gpu", "1 to 4"),
    ({"resources": {"cpu": 1, "memory": 7}}, "resources.memory", "7"),
    ({"resources": {"flavor": "huge"}}, "resources.flavor", "ai1-1-cpu, ai1-1-gpu"),
    ({"resources": [1]}, "resources", "resources: a list was sent; it must be an object"),
    ({"labels": {"a b": "c"}}, "labels.a b", "label"),
    ({"labels": {"ovh/mine": "c"}}, "labels.ovh/mine", "ovh/"),
    ({"labels": {"a": 1}}, "labels.a", "text"),
    ({"labels": ["a"]}, "labels", "it must be an object"),
    ({"name": "-x"}, "name", "'-x'"),
    ({"timeout": 0}, "timeout", "1 to 31536000"),
    ({"timeout": 10**18}, "timeout", "1 to 31536000"),
    ({"timeoutAutoRestart": "yes"}, "timeoutAutoRestart", "true or false"),
    ({"defaultHttpPort": 65536}, "defaultHttpPort", "1 to 65535"),
    ({"grpcPort": -1}, "grpcPort", "1 to 65535"),
    ({"readUser": "a\nb"}, "readUser", "plain text"),
    ({"shutdown": "Slow"}, "shutdown", "Normal or Fast"),
    ({"sshPublicKeys": ["ssh-ed25519 x"]}, "sshPublicKeys[0]", "no base64"),
    ({"deletionRequested": True}, "deletionRequested", "cannot be submitted"),
]

#: A whole body, the field that the answer names, and what its message says.
BAD_BODIES: list[tuple[bytes, str, str]] = [
    (b"", "body", "body: it is missing; send one JSON object"),
    (b"   ", "body", "body: it is missing"),
    (b"null", "body", "null"),
    (b"[]", "body", "body: a list was sent; send one JSON object"),
    (b'"text"', "body", "text"),
    (b"17", "body", "a number"),
    (b"{", "body", "(byte 1)"),
    (b'{"image": "x",}', "body", "(byte 14)"),
    (b'{"image": "x"} x', "body", "trailing characters (byte 1"),
    (b'{"image": nope}', "body", "(byte 1"),
    (b"{'image': 'x'}", "body", "(byte 1)"),
    (b'{"image": NaN}', "body", "malformed"),
    (b'\xef\xbb\xbf{"image": "x"}', "body", "(byte 0)"),
    (b'{"image": "\xff"}', "body", "not UTF-8 (byte 11)"),
    (b'{"image": "\\ud800"}', "body", "surrogate pair (byte 11)"),
    (b'{"image": "\\udc00\\ud800"}', "body", "surrogate pair"),
    (b'{"image": "busybox", "image": "alpine"}', "image", "once"),
    (b'{"image": "busybox", "resources": {"cpu": 1, "cpu": 2}}', "cpu", "once"),
    (b'{"image": "busybox", "labels": {"a": "b", "a": "b"}}', "a", "once"),
    (b'{"image": "busybox", "timeout": ' + b"9" * 5000 + b"}", "body", "out of range"),
    (b'{"image": "busybox", "timeout": 1e999}', "body", "out of range"),
    (b"[" * 30_000, "body", "nested too deeply"),
    (b'{"image":' * 7_000, "body", "nested too deeply"),
    (b'{"image": "busybox", "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "body", "nested too deeply"),
]


@pytest.fixture
async def still(yard: Yard) -> Any:
    """Afterwards the ledger's head is where it was."""
    before = await yard.head()
    yield
    assert await yard.head() == before


def _refused(answer: Any, status: int, field: str, says: str) -> None:
    assert answer.status == status, answer.raw
    found = answer.json
    assert found["field"] == field, found
    assert says in found["message"], found
    assert field == "body" or found["message"].startswith(field)
    assert "nothing" not in found["message"], found
    assert "another value" not in found["message"], found
    assert found["requestId"] == answer.headers["X-Request-Id"]


async def test_every_bad_field_is_named(yard: Yard, still: None) -> None:
    for changed, field, says in BAD_FIELDS:
        for path in ("/v1/job", "/v1/job/command"):
            if path == "/v1/job" or "alias" not in field:
                _refused(await yard.call("POST", path, SPEC | changed), 400, field, says)


async def test_every_bad_body_is_told(yard: Yard, still: None) -> None:
    for body, field, says in BAD_BODIES:
        _refused(await yard.call("POST", "/v1/job", data=body), 400, field, says)


async def test_values_of_variables_are_never_shown(yard: Yard, still: None) -> None:
    secret = "hunter2hunter2"
    for env in (
        secret, {"KEY": secret}, [secret], [{"name": "A", "value": {"a": secret}}], [[secret]],
        [{"name": "A", "value": [secret]}], [{"name": "A", "value": secret, "x": secret}],
        [{"name": "1", "value": secret}], [{"name": "A", "value": secret}, {"name": "A", "value": secret}],
        [{"name": "A", "value": secret + "\0"}],
    ):  # fmt: skip
        answer = await yard.call("POST", "/v1/job", SPEC | {"envVars": env})
        assert answer.status == 400
        assert secret not in answer.raw.decode()


CONTENT_TYPES = ("text/plain", "application/x-www-form-urlencoded", "application/octet-stream")


async def test_the_content_type_does_not_matter(yard: Yard) -> None:
    for kind in CONTENT_TYPES:
        data = json.dumps(SPEC).encode()
        assert (await yard.call("POST", "/v1/job", data=data, headers={"Content-Type": kind})).status == 200


async def test_large_bodies_are_refused(yard: Yard, still: None) -> None:
    large = json.dumps(SPEC | {"name": "x" * MOST_BODY_BYTES}).encode()

    async def chunks() -> Any:
        for start in range(0, len(large), 1000):
            yield large[start : start + 1000]

    for data in (large, chunks()):
        answer = await yard.call("POST", "/v1/job", data=data)
        assert (answer.status, answer.json["code"]) == (413, "too-large")
        assert str(MOST_BODY_BYTES) in answer.json["message"]


ENCODINGS: list[str] = ["gzip", "deflate", "br", "x-unknown"]  # fmt: skip


async def test_compressed_bodies_are_refused(yard: Yard, still: None) -> None:
    for encoding in ENCODINGS:
        bomb = gzip.compress(json.dumps(SPEC | {"name": "x" * 10_000_000}).encode())
        answer = await yard.call("POST", "/v1/job", data=bomb, headers={"Content-Encoding": encoding})
        assert answer.status == 415
        assert encoding in answer.json["message"]


BAD_QUERIES: list[tuple[str, str]] = [
        ("page=0", "page"), ("page=-1", "page"), ("page=x", "page"), ("page=1.5", "page"), ("page=", "page"),
        ("page=99999999999999999999", "page"), ("size=0", "size"), ("size=501", "size"),
        ("order=up", "order"), ("size=1&size=2", "size"),
        ("sort=secret", "sort"), ("statusState=NOPE", "statusState"),
        ("statusState=DONE&statusState=NOPE", "statusState"), ("labelSelector=a=b=c", "labelSelector"),
        ("labelSelector=a%3E1", "labelSelector"), ("labelSelector=a%20in%20b", "labelSelector"),
        ("updatedAfter=-1", "updatedAfter"), ("updatedBefore=now", "updatedBefore"),
        ("updatedAfter=99999999999999", "updatedAfter"), ("userName=%00", "userName"),
        ("cursor=nonsense", "cursor"), ("cursor=W10", "cursor"), ("cursor=%C3%A9", "cursor"),
        ("name=%00", "name"),
    ]  # fmt: skip


async def test_bad_queries_are_named(yard: Yard) -> None:
    for query, field in BAD_QUERIES:
        answer = await yard.call("GET", f"/v1/job?{query}")
        _refused(answer, 400, field, "not allowed")


#: As they are sent: bytes that are no UTF-8, percent-encoded, and the field that the answer names.
GARBLED: list[tuple[bytes, str]] = [
    (b"/v1/datastore/none/container/abc/object?prefix=%E9", "prefix"),
    (b"/v1/datastore/none/container/abc/object?prefix=a%C3", "prefix"),
    (b"/v1/datastore/none/container/abc/object?%70refix=%ff", "prefix"),
    (b"/v1/job?labelSelector=%ff", "labelSelector"),
    (b"/v1/job?name=x&name=%ed%a0%80", "name"),
    (b"/v1/job/11111111-1111-4111-8111-111111111111/exec?command=sh&command=%ff", "command"),
]
#: Of these nothing is there.
GARBLED_PATHS: list[bytes] = [
    b"GET /v1/job/%ff",
    b"DELETE /v1/job/%ff?force=true",
    b"GET /v1/datastore/%ff",
    b"PUT /v1/datastore/a%E9/container/abc",
    b"GET /v1/datastore/a/container/%ff/object/key",
    b"GET /v1/capabilities/flavor/%ff",
    b"DELETE /v1/registry/%ff",
]


async def _sent(yard: Yard, first: bytes) -> Any:
    token = yard.tokens[ADMIN].encode()
    (answer,) = await yard.talk(
        first + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token + b"\r\n\r\n"
    )
    return answer


async def test_what_is_no_text_is_refused_and_never_taken_for_other_text(yard: Yard, still: None) -> None:
    for target, field in GARBLED:
        _refused(await _sent(yard, b"GET " + target), 400, field, "UTF-8")
    for first in GARBLED_PATHS:
        answer = await _sent(yard, first)
        assert (answer.status, answer.json["code"]) == (404, "not-found"), first
        assert "UTF-8" in answer.json["message"], answer.raw
    for unknown in (b"/v1/job?other=%ff", b"/v1/job?%ff=1", b"/v1/job?name=%C3%A9&labelSelector=a%25ff"):
        answer = await _sent(yard, b"GET " + unknown)
        assert answer.status == (400 if b"Selector" in unknown else 200), answer.raw
        assert "UTF-8" not in answer.raw.decode()


BAD_LOG_QUERIES: list[tuple[str, str]] = [
        ("tail=-1", "tail"), ("tail=x", "tail"), ("follow=maybe", "follow"), ("since=yesterday", "since"),
        ("since=2026-01-01T00:00:00", "since"), ("page=0", "page"), ("follow&page=1", "page"),
        ("run=2", "run"), ("run=0", "run"), ("size=0", "size"),
    ]  # fmt: skip


async def test_bad_queries_of_a_log_are_named(yard: Yard) -> None:
    for query, field in BAD_LOG_QUERIES:
        job = await yard.submit()
        _refused(await yard.call("GET", f"/v1/job/{job['id']}/log?{query}"), 400, field, "not allowed")


NO_IDS: list[str] = [
     "x", "123", "{11111111-1111-4111-8111-111111111111}", "urn:uuid:11111111-1111-4111-8111-111111111111",
     "11111111111141118111111111111111", "%00", "%ff", "..%2f..", "é", "a" * 500,
     "11111111-1111-4111-8111-111111111111"]  # fmt: skip


async def test_an_id_that_names_nothing_is_not_there(yard: Yard, still: None) -> None:
    for job in NO_IDS:
        from yarl import URL

        for method, rest in (
            ("GET", ""),
            ("DELETE", ""),
            ("PUT", "/kill"),
            ("PUT", "/start"),
            ("GET", "/log"),
        ):
            headers = {"Authorization": f"Bearer {yard.tokens[ADMIN]}"}
            url = URL(f"{yard.url}/v1/job/{job}{rest}", encoded=job != "é")
            async with yard.http.request(method, url, headers=headers) as answer:
                assert answer.status == 404
                assert (await answer.json())["code"] == "not-found"
        for path in (f"/v1/token/{job}", f"/v1/project/{job}", f"/v1/datastore/{job}"):
            url = URL(f"{yard.url}{path}", encoded=job != "é")
            async with yard.http.get(url, headers=headers) as answer:
                assert answer.status == 404


BAD_ADMINISTRATION: list[tuple[str, str, Any, str]] = [
        ("POST", "/v1/token", {"name": "x"}, "role"),
        ("POST", "/v1/token", {"name": "x", "role": "root"}, "role"),
        ("POST", "/v1/token", {"name": "", "role": ADMIN}, "name"),
        ("POST", "/v1/token", {"name": "a\0", "role": ADMIN}, "name"),
        ("POST", "/v1/token", {"name": "x", "role": ADMIN, "labelSelector": "a in b"}, "labelSelector"),
        ("POST", "/v1/token", {"name": "x", "role": ADMIN, "labelSelector": ""}, "labelSelector"),
        ("POST", "/v1/token", {"name": "x", "rol": ADMIN}, "rol"),
        ("POST", "/v1/token", {"name": "x", "role": ADMIN, "labelSelector": "a=b,"}, "labelSelector"),
        ("POST", "/v1/project", {"id": "Bad Name"}, "id"),
        ("POST", "/v1/project", {"id": "x", "cpu": -1}, "cpu"),
        ("POST", "/v1/project", {"id": "x\0"}, "id"),
        ("PUT", "/v1/project/other/quota", {"cpu": -1}, "cpu"),
        ("PUT", "/v1/project/other/quota", {"cpu": 10**9}, "cpu"),
        ("PUT", "/v1/project/other/quota", {"gpu": 10**40}, "gpu"),
        ("PUT", "/v1/project/other/quota", {}, "cpu"),
    ]  # fmt: skip


async def test_bad_administration_is_named(yard: Yard, still: None) -> None:
    for method, path, body, field in BAD_ADMINISTRATION:
        answer = await yard.call(method, path, body, token=ADMIN)
        _refused(answer, 400, field, "")


#: A parameter, and what the message says may stand there.
BAD_BILL_QUERIES: list[tuple[str, str]] = [
    ("job=x", "job: 'x' is not allowed; it must be a UUID such as"),
    ("job=", "job: '' is not allowed; it must be a UUID such as"),
    ("policy=2020-01", "'2020-01' is not allowed; it must be one of 2021-05, 2023-12, 2026-01"),
    ("from=now", "'now' is not allowed; it must be a time such as"),
    ("from=2026", "'2026' is not allowed; it must be a time such as"),
    ("to=2026-01-01", "'2026-01-01' is not allowed; it must be a time such as"),
]


async def test_bad_queries_of_a_bill_are_named(yard: Yard) -> None:
    for query, says in BAD_BILL_QUERIES:
        _refused(await yard.call("GET", f"/v1/billing?{query}"), 400, query.partition("=")[0], says)


def test_a_parameter_or_a_field_that_nobody_could_explain_is_no_part_of_the_api() -> None:
    class Asked(Query, frozen=True):
        share: Decimal = Decimal(1)

    class Body(msgspec.Struct):
        inner: list[Annotated[int, msgspec.Meta(ge=1)]]

    with pytest.raises(TypeError, match="no words for DecimalType"):
        QueryReader(Asked)
    with pytest.raises(TypeError, match="no words for IntType"):
        BodyReader(Body)


async def test_a_transfer_that_breaks_off_records_nothing(yard: Yard, still: None) -> None:
    host, _, port = yard.url.removeprefix("http://").partition(":")
    for ending in (b'5\r\n{"ima\r\n', b"zz\r\n"):
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /v1/job HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {yard.tokens[ADMIN]}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(head.encode() + ending)
        writer.write_eof()
        assert not (await reader.read()).startswith(b"HTTP/1.1 5")
        writer.close()
        await writer.wait_closed()
