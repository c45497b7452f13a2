"""`POST /v1/whatif`: the history of this very ledger with other limits, told to those who may see it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.api import whatif
from service.domain import commands as cmd
from service.domain.flavors import GIB
from tests.api.test_why import begins, place, submitted
from tests.api.yard import OPERATOR, READER, SPEC, Supervision, Yard


async def asked(yard: Yard, token: str = READER, **body: Any) -> Any:
    since = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    answer = await yard.call("POST", "/v1/whatif", {"from": since} | body, token=token)
    assert answer.status == 200, answer.raw
    return answer.json


async def a_morning(yard: Yard, supervision: Supervision) -> tuple[str, str, str]:
    """On 4 CPUs: a job that ran and one behind it, and one that was refused and never taken."""
    await begins(yard)
    await yard.ledger.submit(cmd.SetQuota(project="default", cpu=6, gpu=0), actor="test")
    first = await submitted(yard, 4, name="first")
    await supervision.running(first)
    second = await submitted(yard, 2, name="second")
    refused = await yard.call("POST", "/v1/job", SPEC | {"name": "third", "resources": {"cpu": 3}})
    assert refused.status == 403
    await supervision.ended(first)
    await supervision.running(second)
    await supervision.ended(second)
    (recorded,) = [event for event in await yard.ledger.events(0) if event.type == "SubmissionRefused"]
    return first, second, recorded.body.wanted


async def test_with_nothing_changed_it_says_how_exact_it_is(yard: Yard, supervision: Supervision) -> None:
    await a_morning(yard, supervision)
    found = await asked(yard)
    assert (found["modelError"]["otherwise"], found["modelError"]["runs"]) == (0, 2)
    assert float(found["modelError"]["mostSeconds"]) < 0.05
    assert (found["totals"]["changed"], found["totals"]["runs"]) == (0, 3)
    assert (found["totals"]["costDifference"], found["totals"]["currency"]) == ("0.000000", "EUR")
    assert (found["others"]["costDifference"], found["others"]["currency"]) == (None, "")


async def test_a_larger_quota_and_node(yard: Yard, supervision: Supervision) -> None:
    """The refused one is taken, and costs about what its kin does."""
    _, _, third = await a_morning(yard, supervision)
    found = await asked(yard, quota={"cpu": 9}, capacity={"cpus": 16, "memory": 64 * GIB})
    runs = {item["name"]: item for item in found["items"]}
    assert runs["third"]["job"] == third
    assert [runs["third"][when]["outcome"] for when in ("actual", "baseline", "whatIf")] == [
        *("refused", "refused", "placed")
    ]
    assert (runs["third"]["estimated"], runs["second"]["estimated"]) == (True, False)
    assert runs["third"]["whatIf"]["cost"] == "0.001500", "3 CPUs for a minute"
    assert found["totals"]["taken"] == 1
    assert (found["totals"]["costDifference"], found["totals"]["currency"]) == ("0.001500", "EUR")
    assert float(runs["second"]["whatIf"]["waitSeconds"]) < float(runs["second"]["actual"]["waitSeconds"])


async def test_another_policy_bills_both(yard: Yard, supervision: Supervision) -> None:
    await a_morning(yard, supervision)
    found = await asked(yard, policy="2023-12", capacity={"cpus": 1})
    runs = {item["name"]: item for item in found["items"]}
    assert runs["first"]["whatIf"]["outcome"] == "never-fits"
    assert runs["first"]["costDifference"] == "-0.002000"
    assert found["totals"]["lost"] == 2


async def test_others_are_sums_without_names(yard: Yard, supervision: Supervision) -> None:
    await begins(yard)
    theirs = await submitted(yard, 4, "other", name="secret-plan")
    await place(yard, theirs, "other")
    ours = await submitted(yard, 2, name="ours")
    since = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    answer = await yard.call("POST", "/v1/whatif", {"from": since, "capacity": {"cpus": 2}}, token=READER)
    assert [item["job"] for item in answer.json["items"]] == [ours]
    assert (answer.json["others"]["runs"], answer.json["others"]["lost"]) == (1, 1)
    assert answer.json["others"]["costDifference"] is None
    assert theirs.encode() not in answer.raw and b"secret-plan" not in answer.raw


async def test_a_scoped_token_sees_its_jobs_alone(yard: Yard, supervision: Supervision) -> None:
    """Of what was taken and of what was refused."""
    await begins(yard)
    await yard.token("scoped", OPERATOR, selector="team=vision")
    await submitted(yard, 1, name="hidden")
    await submitted(yard, 1, name="seen", labels={"team": "vision"})
    for name, team in (("hidden-too", "other"), ("seen-too", "vision")):
        body = SPEC | {"name": name, "resources": {"cpu": 12}, "labels": {"team": team}}
        assert (await yard.call("POST", "/v1/job", body)).status == 403
    found = await asked(yard, "scoped")
    assert {item["name"] for item in found["items"]} == {"seen", "seen-too"}
    assert found["others"]["runs"] == 2
    assert {item["name"] for item in (await asked(yard))["items"]} == {
        "hidden",
        "seen",
        "hidden-too",
        "seen-too",
    }


async def test_a_window_that_begins_in_the_middle(yard: Yard, supervision: Supervision) -> None:
    """What had its place before it is no run of it, and still holds its place."""
    await begins(yard)
    first = await submitted(yard, 4, name="first")
    await supervision.running(first)
    since = (await yard.ledger.now()).isoformat()
    second = await submitted(yard, 2, name="second")
    found = await asked(yard, **{"from": since})
    assert [item["job"] for item in found["items"]] == [second]
    assert found["items"][0]["baseline"]["outcome"] == "waiting"


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00-14:00"])
async def test_a_window_may_begin_with_the_calendar(yard: Yard, supervision: Supervision, since: str) -> None:
    await a_morning(yard, supervision)
    found = await asked(yard, **{"from": since})
    assert found["totals"]["runs"] == 3
    assert found["from"].endswith("Z"), "in UTC"


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        ({"from": "yesterday"}, "from", "a time such as"),
        ({"from": "2026-01-01"}, "from", "a time such as"),
        ({"from": "2026-01-01T00:00:00"}, "from", "say which zone it is in, such as 2026-01-01T00:00:00Z"),
        ({"from": "2026-02-30T00:00:00Z"}, "from", "a time such as"),
        ({"from": "0001-01-01T00:00:00+14:00"}, "from", "a time such as"),
        ({"to": "9999-12-31T23:59:59-14:00"}, "to", "a time such as"),
        ({"from": "2999-01-01T00:00:00Z"}, "from", "before the window's end"),
        ({"to": "2999-01-01T00:00:00Z"}, "to", "must be over"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "from", "before the window's end"),
        ({"quota": {"tpu": 1}}, "quota.tpu", "did you mean"),
        ({"quota": {"gpu": -1}}, "quota.gpu", "from 0 to"),
        ({"quota": {"gpu": "8"}}, "quota.gpu", "whole number"),
        ({"quota": {"gpu": 10**15}}, "quota.gpu", "from 0 to"),
        ({"capacity": {"cpus": 0}}, "capacity.cpus", "from 1 to"),
        ({"capacity": {"gpus": 1001}}, "capacity.gpus", "from 0 to 1000"),
        ({"capacity": {"memory": 0}}, "capacity.memory", "from 1 to"),
        ({"policy": "2020-01"}, "policy", "2021-05"),
    ],
)
async def test_bad_input_names_the_field(yard: Yard, body: dict[str, Any], field: str, text: str) -> None:
    answer = await yard.call("POST", "/v1/whatif", {"from": "2026-01-01T00:00:00Z"} | body, token=READER)
    assert (answer.status, answer.json["field"]) == (400, field), answer.raw
    assert text in answer.json["message"]


async def test_without_a_beginning(yard: Yard) -> None:
    answer = await yard.call("POST", "/v1/whatif", {}, token=READER)
    assert (answer.status, answer.json["field"]) == (400, "from")


async def test_a_window_with_too_much_in_it(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whatif, "MOST_MOVES", 3)
    await a_morning(yard, supervision)
    since = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    answer = await yard.call("POST", "/v1/whatif", {"from": since}, token=READER)
    assert (answer.status, answer.json["field"]) == (400, "from")
    assert "3 moves of jobs" in answer.json["message"] and "shorter" in answer.json["message"]


async def test_a_window_with_too_many_refusals(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is refused can have one recorded each minute, for ever, and others' what-ifs go through all."""
    monkeypatch.setattr(whatif, "MOST_REFUSALS", 0)
    await a_morning(yard, supervision)
    since = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    answer = await yard.call("POST", "/v1/whatif", {"from": since}, token=READER)
    assert (answer.status, answer.json["field"]) == (400, "from")
    assert "0 refusals" in answer.json["message"] and "shorter" in answer.json["message"]


async def test_the_service_answers_others_meanwhile(yard: Yard, supervision: Supervision) -> None:
    """One is at work at a time, each in a thread of its own beside the loop."""
    await a_morning(yard, supervision)
    several = [asyncio.create_task(asked(yard, capacity={"cpus": cpus})) for cpus in (1, 2, 8)]
    assert (await yard.call("GET", "/v1/me", token=READER)).status == 200
    assert [found["modelError"]["otherwise"] for found in await asyncio.gather(*several)] == [0, 0, 0]
