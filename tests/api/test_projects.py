"""Projects, quotas and bills."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.api.yard import ADMIN, QUOTA_CPU, SPEC, Supervision, Yard, gathered, opened


async def test_a_new_project_comes_with_its_administrator(yard: Yard) -> None:
    made = await yard.call("POST", "/v1/project", {"id": "vision", "name": "Vision", "cpu": 2}, token=ADMIN)
    assert made.status == 200, made.raw
    assert made.json["project"] | {"createdAt": ""} == {
        "id": "vision", "name": "Vision", "createdAt": "", "cpu": 2, "gpu": 4,
    }  # fmt: skip
    value = made.json["token"]["status"]["value"]
    me = (await yard.call("GET", "/v1/me", token=value)).json
    assert (me["tenant"], me["role"], me["quotas"]["resources"]) == ("vision", ADMIN, {"CPU": 2, "GPU": 4})
    assert (await yard.call("POST", "/v1/token", {"name": "t", "role": ADMIN}, token=value)).status == 200
    assert (await yard.call("GET", "/v1/project", token=value)).status == 403
    assert (await yard.call("POST", "/v1/project", {"id": "vision"}, token=ADMIN)).status == 409
    listed = (await yard.call("GET", "/v1/project", token=ADMIN)).json["items"]
    assert [each["id"] for each in listed] == ["default", "other", "vision"]


async def test_a_quota_is_set_and_holds(yard: Yard) -> None:
    assert (await yard.call("PUT", "/v1/project/default/quota", {"cpu": 1}, token=ADMIN)).status == 204
    await yard.submit()
    refused = await yard.call("POST", "/v1/job", SPEC)
    assert (refused.status, refused.json["code"]) == (403, "quota-exceeded")
    assert "uses 1 of its quota of 1 CPU" in refused.json["message"]
    quota = (await yard.call("GET", "/v1/quota")).json
    assert quota == {"project": "default", "cpu": 1, "gpu": 4, "cpuUsed": 1, "gpuUsed": 0}
    assert (await yard.call("PUT", "/v1/project/none/quota", {"cpu": 1}, token=ADMIN)).status == 404


async def test_two_hundred_submits_at_once_through_two_processes_take_exactly_the_quota(
    yard: Yard, tmp_path: Path
) -> None:
    async with opened(yard.database, tmp_path / "second", yard.tokens) as second:

        async def send(index: int) -> Any:
            return await (yard, second)[index % 2].call("POST", "/v1/job", SPEC)

        answers = await gathered(200, send)
    assert sorted(answer.status for answer in answers) == [200] * QUOTA_CPU + [403] * (200 - QUOTA_CPU)
    assert (await yard.call("GET", "/v1/job")).json["metadata"]["total"] == QUOTA_CPU


async def test_a_bill_says_what_each_run_cost_and_why(yard: Yard, supervision: Supervision) -> None:
    job = await yard.submit(resources={"cpu": 2})
    await supervision.running(job["id"])
    await supervision.ended(job["id"])
    bill = (await yard.call("GET", f"/v1/billing?job={job['id']}")).json
    (line,) = bill["items"]
    assert (line["run"], line["flavor"], line["units"], line["hourlyPrice"]) == (1, "ai1-1-cpu", 2, "0.03")
    assert (line["minutes"], line["amount"], line["currency"], line["policy"]) == (
        1,
        "0.001000",
        "EUR",
        "2021-05",
    )
    assert line["windowStart"] < line["windowEnd"]
    assert len(line["positions"]) == 6
    assert line["absentSeconds"] == "0"
    assert (bill["total"], bill["currency"]) == ("0.001000", "EUR")
    assert (await yard.call("GET", "/v1/billing")).json == bill
    assert (await yard.call("GET", "/v1/billing?policy=2026-01")).json["items"][0]["policy"] == "2026-01"
    assert (await yard.call("GET", "/v1/billing?from=2020-01-01T00:00:00Z")).json == bill
    assert (await yard.call("GET", "/v1/billing?to=2020-01-01T00:00:00Z")).json["items"] == []
    assert (await yard.call("GET", f"/v1/billing?job={job['id']}", token="other")).status == 404
    assert (await yard.call("GET", "/v1/billing", token="other")).json["items"] == []
    assert (await yard.call("DELETE", f"/v1/job/{job['id']}")).status == 204
    assert (await yard.call("GET", f"/v1/billing?job={job['id']}")).json == bill


async def test_a_bill_says_how_much_of_its_window_is_left_out(yard: Yard, supervision: Supervision) -> None:
    job = await yard.submit()
    await supervision.running(job["id"], absent=True)
    await supervision.ended(job["id"])
    (line,) = (await yard.call("GET", f"/v1/billing?job={job['id']}")).json["items"]
    lasted = datetime.fromisoformat(line["windowEnd"]) - datetime.fromisoformat(line["windowStart"])
    absent = Decimal(line["absentSeconds"])
    assert 0 < absent < Decimal(str(lasted.total_seconds()))
