"""Estimates: checked as a submit is, answered without anything being recorded."""

from __future__ import annotations

from typing import Any

import pytest

from service.domain import commands as cmd
from tests.api.yard import ADMIN, ENGINE, OPERATOR, READER, SPEC, Supervision, Yard


async def estimate(yard: Yard, spec: Any = SPEC, token: str = OPERATOR) -> Any:
    before = await yard.head()
    answer = await yard.call("POST", "/v1/job/estimate", spec, token=token)
    assert answer.status == 200, answer.raw
    assert await yard.head() == before, "nothing is recorded"
    return answer.json


async def test_what_a_job_would_cost(yard: Yard) -> None:
    found = await estimate(yard, SPEC | {"resources": {"gpu": 2}, "timeout": 18_000})
    assert (found["flavor"], found["kind"], found["units"]) == ("ai1-1-gpu", "gpu", 2)
    assert (found["hourlyPrice"], found["currency"], found["policy"]) == ("1.93", "EUR", "2021-05")
    assert (found["costPerMinute"], found["costPerHour"]) == ("0.064333", "3.860000")
    assert (found["minutesAtTimeout"], found["costAtTimeout"]) == (300, "19.300000")
    assert found["restarts"] is False
    listed = (await yard.ledger.prices()).entries[-1]
    assert found["priceList"]["position"] == listed.position
    assert found["quota"] == {"allows": True, "used": 0, "limit": 4}
    assert (found["budget"], found["earlier"], found["wouldBeRefused"]) == (None, None, None)
    assert (await estimate(yard, SPEC | {"timeoutAutoRestart": True}, token=READER))["restarts"] is True


@pytest.mark.parametrize(
    "spec",
    [
        {"image": "Not An Image"},
        {"image": "busybox", "resources": {"cpu": 13}},
        {"image": "busybox", "resources": {"cpu": 1, "flavor": "none"}},
        {"image": "busybox", "timeout": 0},
        {"image": "busybox", "labels": {"ovh/x": "y"}},
        {"image": "busybox", "tiemout": 5},
        {
            "image": "busybox",
            "resources": {"cpu": 1},
            "volumes": [
                {"mountPath": "/d", "permission": "RO", "dataStore": {"alias": "no", "container": "c"}}
            ],
        },
        {
            "image": "busybox",
            "resources": {"cpu": 1},
            "volumes": [{"mountPath": "/d", "permission": "RO", "userVolumeId": "no"}],
        },
    ],
)
async def test_what_cannot_run_is_refused_in_the_words_of_a_submit(yard: Yard, spec: Any) -> None:
    submitted = await yard.call("POST", "/v1/job", spec)
    estimated = await yard.call("POST", "/v1/job/estimate", spec)
    assert (submitted.status, estimated.status) == (400, 400)
    same = {"message", "code", "field"}
    assert {k: v for k, v in submitted.json.items() if k in same} == {
        k: v for k, v in estimated.json.items() if k in same
    }


async def test_quota_and_budget_are_told_as_a_submit_would_tell_them(
    yard: Yard, supervision: Supervision
) -> None:
    job = await yard.submit(resources={"cpu": 2})
    await supervision.running(job["id"])
    nine = SPEC | {"resources": {"cpu": 9}}
    found = await estimate(yard, nine)
    assert found["quota"] == {"allows": False, "used": 2, "limit": 10}
    refused = await yard.call("POST", "/v1/job", nine)
    wanted = {"status": 403, "code": "quota-exceeded", "message": refused.json["message"]}
    assert found["wouldBeRefused"] == wanted
    await yard.call("PUT", "/v1/project/default/budget", {"amount": "0.001"}, token=ADMIN)
    found = await estimate(yard)
    budget = found["budget"]
    assert (budget["allows"], budget["amount"], budget["spent"]) == (False, "0.001", "0.001000")
    refused = await yard.call("POST", "/v1/job", SPEC)
    wanted = {"status": 402, "code": "budget-exceeded", "message": refused.json["message"]}
    assert found["wouldBeRefused"] == wanted
    await yard.token("scoped", OPERATOR, selector="team=a")
    found = await estimate(yard, token="scoped")
    assert (found["budget"]["allows"], found["budget"]["spent"]) == (False, None)
    assert "0.001" not in found["wouldBeRefused"]["message"]


async def test_earlier_runs_of_the_same_image_command_and_units_are_cited(
    yard: Yard, supervision: Supervision
) -> None:
    same = {"command": ["train", "--epochs", "3"]}
    jobs = [await yard.submit(**same, labels={"team": team}) for team in ("a", "a", "b")]
    others = [await yard.submit(command=["train"]), await yard.submit(**same, resources={"cpu": 2})]
    for job in (*jobs, *others):
        await supervision.running(job["id"])
        await supervision.ended(job["id"])
    found = (await estimate(yard, SPEC | same))["earlier"]
    assert found == {
        "runs": 3,
        "medianMinutes": 1,
        "p90Minutes": 1,
        "medianCost": "0.000500",
        "p90Cost": "0.000500",
        "jobs": [job["id"] for job in reversed(jobs)],
    }
    await yard.token("scoped", OPERATOR, selector="team=b")
    scoped = await estimate(yard, SPEC | same, token="scoped")
    assert scoped["earlier"]["jobs"] == [jobs[2]["id"]]
    assert (await estimate(yard, SPEC | same, token="other"))["earlier"] is None


async def test_which_node_could_hold_it(yard: Yard, supervision: Supervision) -> None:

    node = cmd.StartSupervisor(engine=ENGINE, epoch=1, node="rack-1", cpus=8, memory=64 * 2**30, gpus=0)
    await yard.ledger.submit(node, actor="test")
    assert (await estimate(yard))["nodes"] == [{"name": "rack-1", "holds": True, "lacks": None}]
    (found,) = (await estimate(yard, SPEC | {"resources": {"gpu": 1}}))["nodes"]
    assert (found["holds"], found["lacks"]) == (False, "1 GPUs, and it has 0")
