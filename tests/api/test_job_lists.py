"""Lists of jobs: every order, every filter, by numbers and by cursors, against the same list in Python."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, get_args

import pytest

from service.api import reads
from service.api.reads import Sort
from tests.api.yard import ADMIN, Supervision, Yard

NAMES = ("b", "c", "a", "e", "d", "f")


async def several(yard: Yard, supervision: Supervision) -> list[Any]:
    """Jobs in different states, sizes and images, as they are read now, in the order of their creation."""
    made = []
    for number, name in enumerate(NAMES):
        resources = {"cpu": 1 + number % 2} if number else {"gpu": 1}
        made.append(
            await yard.submit(
                name=name, image=f"image-{number % 3}", resources=resources, timeout=100 + number * 7 % 5
            )
        )
    for job, code in ((made[1], 3), (made[2], 0), (made[3], 0)):
        await supervision.running(job["id"])
        if job is not made[3]:
            await supervision.ended(job["id"], code=code)
    assert (await yard.call("PUT", f"/v1/job/{made[4]['id']}/kill")).status == 204
    return [(await yard.call("GET", f"/v1/job/{job['id']}")).json for job in made]


def _field(job: Any, sort: str) -> Any:
    value = job
    for part in sort.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if sort == "spec.resources.gpu":
        return value or None
    if isinstance(value, str) and sort.endswith(("At", "Date")):
        return datetime.fromisoformat(value)
    return value


async def _pages(yard: Yard, first: str) -> list[str]:
    found, url = [], first
    while url:
        page = (await yard.call("GET", url)).json
        found += [job["id"] for job in page["items"]]
        url = page["metadata"]["links"].get("next")
    return found


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_every_order_by_numbers_and_by_cursor(yard: Yard, supervision: Supervision, order: str) -> None:
    jobs = await several(yard, supervision)
    created = {job["id"]: number for number, job in enumerate(jobs)}
    for sort in get_args(Sort):
        have = [job for job in jobs if _field(job, sort) is not None]
        lack = [job for job in jobs if _field(job, sort) is None]
        have.sort(key=lambda job: (_field(job, sort), created[job["id"]]))
        expected = [job["id"] for job in [*lack, *have]]
        if order == "desc":
            expected.reverse()
        query = f"/v1/job?sort={sort}&order={order}&size="
        assert await _pages(yard, query + "4") == expected, sort
        for size in (1, 2, 4, 6, 7):
            assert await _pages(yard, f"{query}{size}&cursor=") == expected, (sort, size)


async def test_a_cursor_goes_on_where_it_was_whatever_came_before(yard: Yard) -> None:
    old = [(await yard.submit(name=name))["id"] for name in NAMES[:4]]
    first = (await yard.call("GET", "/v1/job?size=2&cursor=")).json
    assert "total" not in first["metadata"]
    await yard.submit(name="z")
    assert (await yard.call("DELETE", f"/v1/job/{old[3]}?force=true")).status == 204
    assert (await yard.call("DELETE", f"/v1/job/{old[2]}?force=true")).status == 204
    rest = await _pages(yard, first["metadata"]["links"]["next"])
    assert rest == [old[1], old[0]]


async def test_a_page_of_large_jobs_is_shorter_and_nothing_is_left_out(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = await several(yard, supervision)
    alike = [
        f"/v1/job?{more}size=100" for more in ("", "labelSelector=!none&", "sort=status.state&order=asc&")
    ]
    whole = [await _pages(yard, f"{url}&cursor=") for url in alike]
    assert [len(each) for each in whole] == [len(jobs)] * 3
    monkeypatch.setattr(reads, "MOST_BYTES", 3000)
    first = (await yard.call("GET", f"{alike[0]}&cursor=")).json
    assert 0 < len(first["items"]) < len(jobs)
    for order in ("asc", "desc"):
        for sort in get_args(Sort):
            found = await _pages(yard, f"/v1/job?sort={sort}&order={order}&size=100&cursor=")
            assert len(found) == len(set(found)) == len(jobs)
    assert [await _pages(yard, f"{url}&cursor=") for url in alike] == whole
    refused = await yard.call("GET", alike[0])
    assert refused.status == 400
    assert refused.json["message"].startswith("size: 100")
    most = int(re.findall(r"at most (\d+) of", refused.json["message"])[0])
    assert (await yard.call("GET", f"/v1/job?size={most}")).status == 200
    monkeypatch.setattr(reads, "MOST_BYTES", 1)
    assert len(await _pages(yard, f"{alike[0]}&cursor=")) == len(jobs), "one at a time"


async def test_so_is_a_page_of_the_past(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rows that are as they were then, and of one that was folded again."""
    jobs = await several(yard, supervision)
    head = await yard.head()
    label = {"name": "stage", "value": "later"}
    assert (await yard.call("PUT", f"/v1/job/{jobs[5]['id']}/label", label)).status == 204
    lists = [
        f"/v1/job?asOf={head}&size=100&sort={sort}&order={order}"
        for sort in ("createdAt", "status.state", "spec.name")
        for order in ("asc", "desc")
    ]
    whole = [await _pages(yard, url) for url in lists]
    assert {len(each) for each in whole} == {len(jobs)}
    monkeypatch.setattr(reads, "MOST_BYTES", 3000)
    for url, expected in zip(lists, whole, strict=True):
        first = (await yard.call("GET", f"{url}&cursor=")).json
        assert 0 < len(first["items"]) < len(jobs)
        assert await _pages(yard, f"{url}&cursor=") == expected
        refused = await yard.call("GET", url)
        assert (refused.status, refused.json["field"]) == (400, "size")
        most = int(re.findall(r"at most (\d+) of", refused.json["message"])[0])
        fits = await yard.call("GET", url.replace("size=100", f"size={most}"))
        assert [job["id"] for job in fits.json["items"]] == expected[:most]


@pytest.mark.parametrize("past", [False, True], ids=["now", "past"])
async def test_a_page_that_its_last_job_fills_is_whole(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, past: bool
) -> None:
    for name in NAMES[:3]:
        await yard.submit(name=name)
    url = f"/v1/job?size=100{f'&asOf={await yard.head()}' if past else ''}"
    expected = [job["id"] for job in (await yard.call("GET", url)).json["items"]]
    sizes = "SELECT array_agg(octet_length(row::text) ORDER BY position DESC) FROM fold_status"
    bytes_of = await yard.ledger.pool.fetchval(sizes)
    monkeypatch.setattr(reads, "MOST_BYTES", sum(bytes_of) - 1)
    answer = await yard.call("GET", url)
    assert (answer.status, [job["id"] for job in answer.json["items"]]) == (200, expected)
    monkeypatch.setattr(reads, "MOST_BYTES", sum(bytes_of[:-1]))
    answer = await yard.call("GET", url)
    assert (answer.status, answer.json["field"]) == (400, "size")
    assert "at most 2 of these jobs" in answer.json["message"]


async def test_a_cursor_of_another_order_is_refused(yard: Yard) -> None:
    for name in NAMES[:2]:
        await yard.submit(name=name)
    page = (await yard.call("GET", "/v1/job?size=1&cursor=")).json
    following = page["metadata"]["links"]["next"]
    refused = await yard.call("GET", following + "&sort=user")
    assert (refused.status, refused.json["field"]) == (400, "cursor")


async def test_filters_of_time_user_name_and_state(yard: Yard, supervision: Supervision) -> None:
    jobs = await several(yard, supervision)
    await yard.token("second", ADMIN)
    other = (await yard.call("POST", "/v1/job", {"image": "x", "resources": {"cpu": 1}}, token="second")).json

    async def found(query: str) -> set[str]:
        return set(await _pages(yard, f"/v1/job?size=3&{query}"))

    everyone = {job["id"] for job in [*jobs, other]}
    assert await found("userName=second") == {other["id"]}
    assert await found("userName=nobody") == set()
    assert await found("updatedAfter=0&updatedBefore=253402300799") == everyone
    assert await found("updatedAfter=253402300799") == set()
    assert await found("updatedBefore=1") == set()
    at = int(datetime.fromisoformat(other["createdAt"]).timestamp())
    assert other["id"] in await found(f"updatedAfter={at - 1}&updatedBefore={at + 1}")
    assert await found("name=c&statusState=FAILED") == {jobs[1]["id"]}
    assert await found("name=c&statusState=DONE") == set()


async def test_an_edited_job_is_read_as_it_is_now(yard: Yard, supervision: Supervision) -> None:
    job = await yard.submit(timeout=3600)
    path = f"/v1/job/{job['id']}"
    await supervision.running(job["id"])
    before = (await yard.call("GET", path)).json
    assert (await yard.call("PUT", path, {"timeout": 7200, "timeoutAutoRestart": True})).status == 204
    after = (await yard.call("GET", path)).json
    assert (after["spec"]["timeout"], after["spec"]["timeoutAutoRestart"]) == (7200, True)
    moved = datetime.fromisoformat(after["status"]["timeoutAt"]) - datetime.fromisoformat(
        before["status"]["timeoutAt"]
    )
    assert moved.total_seconds() == 3600
    label = f"{path}/label"
    assert (await yard.call("PUT", label, {"name": "stage", "value": "prod"})).status == 204
    assert (await yard.call("GET", path)).json["spec"]["labels"]["stage"] == "prod"
    assert (await yard.call("PUT", label, {"name": "stage", "value": None})).status == 204
    assert "stage" not in (await yard.call("GET", path)).json["spec"]["labels"]


BAD_EDITS: list[tuple[str, Any, str]] = [
    ("", {}, "timeout"),
    ("", {"timeout": None}, "timeout"),
    ("", {"timeout": 0}, "timeout"),
    ("", {"timeout": "60"}, "timeout"),
    ("", {"timeout": 10**18}, "timeout"),
    ("", {"timeoutAutoRestart": 1}, "timeoutAutoRestart"),
    ("", {"timeout": 59, "timeoutAutoRestart": True}, "timeout"),
    ("", {"image": "other"}, "image"),
    ("/label", {}, "name"),
    ("/label", {"name": 1}, "name"),
    ("/label", {"name": ""}, "name"),
    ("/label", {"name": "ovh/id", "value": "x"}, "name"),
    ("/label", {"name": "ovh/anything"}, "name"),
    ("/label", {"name": "a b"}, "name"),
    ("/label", {"name": "a", "value": "b c"}, "value"),
    ("/label", {"name": "a", "value": 1}, "value"),
    ("/datasync", {}, "direction"),
    ("/datasync", {"direction": "up"}, "direction"),
    ("/datasync", {"direction": "push", "volume": 1}, "volume"),
    ("/datasync", {"direction": "push", "volume": "/nowhere"}, "volume"),
]


async def test_bad_edits_are_named_and_change_nothing(yard: Yard, supervision: Supervision) -> None:
    job = await yard.submit()
    await supervision.running(job["id"])
    before = await yard.head()
    for path, body, field in BAD_EDITS:
        method = "POST" if path == "/datasync" else "PUT"
        answer = await yard.call(method, f"/v1/job/{job['id']}{path}", body)
        assert (answer.status, answer.json.get("field")) == (400, field), (body, answer.raw)
    assert await yard.head() == before


async def test_data_is_ordered_by_volume_id_or_path(yard: Yard, supervision: Supervision) -> None:
    volumes = [{"mountPath": f"/v{n}", "permission": "RW", "standalone": {}} for n in range(2)]
    job = await yard.submit(volumes=volumes)
    await supervision.running(job["id"])
    ids = [
        volume["id"] for volume in (await yard.call("GET", f"/v1/job/{job['id']}")).json["status"]["volumes"]
    ]
    for named in (ids[1], "/v1"):
        answer = await yard.call(
            "POST", f"/v1/job/{job['id']}/datasync", {"direction": "push", "volume": named}
        )
        assert (answer.status, answer.json["field"]) == (400, "volume")
        assert "none of it is pushed" in answer.json["message"]


async def test_capabilities_offer_what_a_node_can_hold(yard: Yard, supervision: Supervision) -> None:
    from service.domain import commands as cmd
    from tests.api.yard import ENGINE

    async def offered() -> dict[str, int]:
        answer = await yard.call("GET", "/v1/capabilities/flavor")
        assert answer.status == 200
        return {flavor["id"]: flavor["max"] for flavor in answer.json}

    async def node(cpus: int, gib: int, gpus: int) -> None:
        command = cmd.StartSupervisor(
            engine=ENGINE, epoch=1, node="n", cpus=cpus, memory=gib * 1024**3, gpus=gpus
        )
        await yard.ledger.submit(command, actor="test")

    assert await offered() == {}
    await node(8, 16, 0)
    assert await offered() == {"ai1-1-cpu": 4}
    await node(64, 512, 2)
    assert await offered() == {"ai1-1-cpu": 12, "ai1-1-gpu": 2}
    flavor = (await yard.call("GET", "/v1/capabilities/flavor/ai1-1-gpu")).json
    assert (flavor["hourlyPrice"], flavor["currency"], flavor["type"]) == ("1.93", "EUR", "gpu")
    assert flavor["gpuInformation"]["gpuModel"] == "Tesla V100S"
    assert flavor["resourcesPerUnit"]["cpu"] == 13
    await node(4, 8, 0)
    missing = await yard.call("GET", "/v1/capabilities/flavor/ai1-1-gpu")
    assert (missing.status, missing.json["code"]) == (404, "not-found")
    assert (await yard.call("GET", "/v1/capabilities/job/image")).json == []
    assert (await yard.call("GET", "/v1/capabilities/preset?type=job")).json == []
    assert (await yard.call("GET", "/v1/capabilities/preset/none")).status == 404
    assert (await yard.call("GET", "/v1/capabilities/preset?type=x")).status == 400
    assert (await yard.call("GET", "/v1/capabilities/quota")).json == [
        {"resources": {"CPU": 10, "GPU": 4}, "storage": 0}
    ]
