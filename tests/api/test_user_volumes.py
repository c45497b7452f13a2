"""/v1/volume: made, listed, read, named by jobs, deleted; never across projects."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.api.yard import ADMIN, READER, Yard

GIT = {"publicGit": {"url": "https://example.org/r.git#main"}}
SOURCES: list[dict[str, Any]] = [
    GIT,
    {"publicSwift": {"url": "https://example.org/a.tar.gz?x=1"}},
    {"standalone": {}},
]


async def make(yard: Yard, asked: dict[str, Any], **more: Any) -> Any:
    answer = await yard.call("POST", "/v1/volume", asked, **more)
    assert answer.status == 200, answer.raw
    return answer.json


@pytest.mark.parametrize("source", SOURCES)
async def test_one_is_made_read_and_deleted(yard: Yard, source: dict[str, Any]) -> None:
    made = await make(yard, source)
    assert made == source | {
        "id": made["id"],
        "cache": "publicSwift" in source,
        "createdAt": made["createdAt"],
        "updatedAt": made["createdAt"],
    }
    path = f"/v1/volume/{made['id']}"
    assert (await yard.call("GET", path, token=READER)).json == made
    assert (await yard.call("GET", "/v1/volume", token=READER)).json["items"] == [made]
    again = await make(yard, made)
    assert again["id"] != made["id"]
    assert (await yard.call("DELETE", path, token=READER)).status == 403
    assert (await yard.call("DELETE", path)).status == 204
    assert (await yard.call("GET", path)).status == 404
    assert (await yard.call("DELETE", path)).status == 404


async def test_a_repeat_makes_no_second(yard: Yard) -> None:
    key = {"headers": {"Idempotency-Key": "one"}}
    assert await make(yard, GIT, **key) == await make(yard, GIT, **key)
    assert (await yard.call("GET", "/v1/volume")).json["metadata"]["total"] == 1


async def test_lists_in_pages_and_orders(yard: Yard) -> None:
    made = [(await make(yard, source))["id"] for source in SOURCES]
    page = (await yard.call("GET", "/v1/volume?size=2")).json
    assert [item["id"] for item in page["items"]] == made[:0:-1]
    assert page["metadata"]["pageCount"] == 2
    assert [
        i["id"] for i in (await yard.call("GET", page["metadata"]["links"]["next"])).json["items"]
    ] == made[:1]
    by_id = (await yard.call("GET", "/v1/volume?sort=id&order=asc&ReadLock=true")).json["items"]
    assert [item["id"] for item in by_id] == sorted(made)
    for query, total in (("updatedAfter=1", 3), ("updatedBefore=1", 0), ("updatedAfter=9999999999", 0)):
        assert (await yard.call("GET", f"/v1/volume?{query}")).json["metadata"]["total"] == total


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "dataStore"),
        (GIT | {"standalone": {}}, "dataStore"),
        (GIT | {"cache": True}, "cache"),
        ({"standalone": {}, "cache": True}, "cache"),
        ({"publicGit": {"url": "https://u:p@example.org/r"}}, "publicGit.url"),
        ({"dataStore": {"alias": "none", "container": "box"}}, "dataStore.alias"),
        ({"standalone": {}, "mountPath": "/x"}, "mountPath"),
    ],
)
async def test_bad_input(yard: Yard, asked: dict[str, Any], field: str) -> None:
    answer = await yard.call("POST", "/v1/volume", asked)
    assert (answer.status, answer.json["field"]) == (400, field)
    assert b"u:p" not in answer.raw


@pytest.mark.parametrize("query", ["page=0", "size=501", "order=up", "sort=name", "updatedAfter=-1"])
async def test_bad_lists(yard: Yard, query: str) -> None:
    assert (await yard.call("GET", f"/v1/volume?{query}")).status == 400


async def test_jobs_name_it_and_hold_it(yard: Yard) -> None:
    made = await make(yard, {"standalone": {}})
    asked = {"mountPath": "/data", "permission": "RW", "userVolumeId": made["id"]}
    job = await yard.submit(volumes=[asked])
    assert job["spec"]["volumes"] == [asked | {"cache": False}]
    assert job["status"]["volumes"][0]["userVolumeId"] == made["id"]
    again = await yard.call("POST", "/v1/job", job["spec"])
    assert again.status == 200, again.raw
    path = f"/v1/volume/{made['id']}"
    refused = await yard.call("DELETE", path)
    assert (refused.status, job["id"] in refused.raw.decode()) == (400, False)
    for each in (job, again.json):
        assert (await yard.call("PUT", f"/v1/job/{each['id']}/kill")).status == 204
    assert (await yard.call("DELETE", path)).status == 204
    started = await yard.call("PUT", f"/v1/job/{job['id']}/start")
    assert (started.status, "was deleted" in started.json["message"]) == (400, True)


async def test_it_is_of_its_project_alone(yard: Yard) -> None:
    made = await make(yard, {"standalone": {}})
    await yard.token("stranger", ADMIN, project="other")
    path = f"/v1/volume/{made['id']}"
    assert (await yard.call("GET", path, token="stranger")).status == 404
    assert (await yard.call("DELETE", path, token="stranger")).status == 404
    assert (await yard.call("GET", "/v1/volume", token="stranger")).json["items"] == []
    volume = {"mountPath": "/data", "permission": "RO", "userVolumeId": made["id"]}
    spec = {"image": "busybox", "resources": {"cpu": 1}, "volumes": [volume]}
    answer = await yard.call("POST", "/v1/job", spec, token="stranger")
    assert (answer.status, answer.json["field"]) == (400, "volumes[0].userVolumeId")
    assert (await yard.call("GET", f"/v1/volume/{uuid4()}")).status == 404
    assert (await yard.call("GET", "/v1/volume/x")).status == 404


async def test_the_command_line_has_a_word_for_it(yard: Yard) -> None:
    made = str(uuid4())
    volume = {"mountPath": "/data", "permission": "RO", "userVolumeId": made}
    answer = await yard.call("POST", "/v1/job/command", {"image": "busybox", "volumes": [volume]})
    assert answer.json["command"] == f"jobyard job run --volume {made}:/data:ro busybox"
