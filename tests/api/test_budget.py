"""Budgets through the API: who may see and set one, 402 at the limit, and no race past it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.events import Event
from tests.api.yard import (
    ADMIN,
    ENGINE,
    OPERATOR,
    QUOTA_CPU,
    READER,
    SPEC,
    Supervision,
    Yard,
    gathered,
    opened,
)

BUDGET = "/v1/project/default/budget"


async def events(yard: Yard, kind: type[ev.Body]) -> list[Event]:
    return [event for event in await yard.ledger.events(limit=10_000) if isinstance(event.body, kind)]


async def put(yard: Yard, amount: Any, **more: Any) -> Any:
    answer = await yard.call("PUT", BUDGET, {"amount": amount, **more}, token=ADMIN)
    assert answer.status == 200, answer.raw
    return answer.json


async def test_a_budget_is_set_by_overseers_and_seen_by_all_who_see_all_jobs(yard: Yard) -> None:
    nothing = (await yard.call("GET", "/v1/budget")).json
    assert (nothing["amount"], nothing["spent"], nothing["remaining"]) == (None, "0.000000", None)
    made = await put(yard, "12.50", warnAt=["1", "0.5", "0.50"])
    assert (made["amount"], made["currency"], made["warnAt"]) == ("12.50", "EUR", ["0.5", "1"])
    for token in (ADMIN, OPERATOR, READER):
        seen = (await yard.call("GET", "/v1/budget", token=token)).json
        assert seen | {"asOf": ""} == made | {"asOf": ""}
    for token in (OPERATOR, READER, "other"):
        assert (await yard.call("PUT", BUDGET, {"amount": "1"}, token=token)).status == 403
        assert (await yard.call("GET", BUDGET, token=token)).status == 403
    await yard.token("scoped", OPERATOR, selector="team=a")
    refused = await yard.call("GET", "/v1/budget", token="scoped")
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert (await yard.call("GET", "/v1/budget", token="other")).json["amount"] is None
    assert (await yard.call("PUT", "/v1/project/none/budget", {"amount": "1"}, token=ADMIN)).status == 404
    assert (await put(yard, None))["amount"] is None


@pytest.mark.parametrize(
    ("body", "field", "text"),
    [
        ({}, "amount", "it is missing; it must be text"),
        ({"amount": 1}, "amount", "1 is not allowed; it must be text"),
        ({"amount": 12.5}, "amount", "12.5 is not allowed; it must be text"),
        ({"amount": True}, "amount", "it must be text"),
        ({"amount": [1]}, "amount", "it must be text"),
        *(
            (
                {"amount": text},
                "amount",
                f"{text!r} is not allowed; an amount in decimal digits, 0 to 10000000",
            )
            for text in (
                "much",
                "-1",
                "NaN",
                "Infinity",
                "1e3",
                "1E2",
                "１２",
                "1_000",
                " 1",
                "+1",
                "1.0000001",
            )
        ),
        ({"amount": "1", "warnAt": ["0.5", "0"]}, "warnAt[1]", "a share of the budget"),
        ({"amount": "1", "warnAt": ["1e-1"]}, "warnAt[0]", "a share of the budget in decimal digits"),
        ({"amount": "1", "warnAt": [0.5]}, "warnAt[0]", "it must be text"),
        ({"amount": "1", "warnAt": 0.5}, "warnAt", "it must be a list"),
        ({"amount": "1", "currency": "euro"}, "currency", "ISO 4217"),
        *(
            ({"amount": of, "currency": bad}, "currency", "EUR")
            for of in ("1", None)
            for bad in ("", "eur", "€")
        ),
        ({"amount": "1", "currenzy": "EUR"}, "currenzy", "did you mean currency?"),
    ],
)
async def test_bad_budgets_name_the_field(yard: Yard, body: Any, field: str, text: str) -> None:
    refused = await yard.call("PUT", BUDGET, body, token=ADMIN)
    assert (refused.status, refused.json["field"]) == (400, field)
    assert text in refused.json["message"]
    assert await events(yard, ev.BudgetSet) == []


async def test_at_the_limit_new_jobs_are_402_and_those_that_run_go_on(
    yard: Yard, supervision: Supervision
) -> None:
    first, second = await yard.submit(), await yard.submit()
    await supervision.running(first["id"])
    await supervision.running(second["id"])
    await supervision.ended(second["id"])
    await put(yard, "0.001", warnAt=["0.5", "1"])
    budget = (await yard.call("GET", "/v1/budget")).json
    assert (budget["spent"], budget["remaining"], budget["liveRuns"]) == ("0.001000", "0.000000", 1)
    assert budget["warned"] == ["0.5", "1"], "the order itself found both shares reached"
    refused = await yard.call("POST", "/v1/job", SPEC)
    assert (refused.status, refused.json["code"]) == (402, "budget-exceeded")
    assert "0.001000 of 0.001 EUR were spent" in refused.json["message"]
    assert budget["periodEnd"] in refused.json["message"]
    (recorded,) = await events(yard, ev.SubmissionRefused)
    assert "used up; new jobs" in recorded.body.info.message, "who reads it may see few of the jobs"
    again = await yard.call("PUT", f"/v1/job/{second['id']}/start")
    assert (again.status, again.json["code"]) == (402, "budget-exceeded")
    assert (await yard.call("GET", f"/v1/job/{first['id']}")).json["status"]["state"] == "RUNNING"
    await put(yard, "1")
    assert (await yard.call("PUT", f"/v1/job/{second['id']}/start")).status == 204
    assert (await yard.call("POST", "/v1/job", SPEC)).status == 200


async def test_no_submit_of_two_processes_gets_past_a_limit_that_is_reached_meanwhile(
    yard: Yard, tmp_path: Path
) -> None:
    async with opened(yard.database, tmp_path / "second", yard.tokens) as second:
        yards = (yard, second)

        async def send(index: int) -> int:
            if index == 30:
                await put(yard, "0")
                return 0
            return (await yards[index % 2].call("POST", "/v1/job", SPEC)).status

        await yard.ledger.submit(cmd.SetQuota(project="default", cpu=1000, gpu=0), actor="test")
        answers = await gathered(100, send)
    (limit,) = await events(yard, ev.BudgetSet)
    taken = await events(yard, ev.JobSubmitted)
    assert all(event.position < limit.position for event in taken)
    assert sorted(answers) == [0, *([200] * len(taken)), *([402] * (99 - len(taken)))]
    assert (await yard.call("POST", "/v1/job", SPEC)).status == 402


async def test_shares_that_are_reached_through_two_processes_at_once_are_warned_of_once_each(
    yard: Yard, supervision: Supervision, tmp_path: Path
) -> None:
    """Ten runs start at once, each of a begun minute; with every other one comes a look."""
    shares = [f"0.{number}" for number in range(1, 10)] + ["1"]
    await put(yard, "0.005", warnAt=shares)
    jobs = [(await yard.submit())["id"] for _ in range(QUOTA_CPU)]
    of: list[dict[str, Any]] = [
        {"project": "default", "engine": ENGINE, "epoch": 1, "job": UUID(job), "run": 1} for job in jobs
    ]
    for fields in of:
        await yard.ledger.submit(cmd.PlaceRun(**fields, node="local"), actor="test")
        await yard.ledger.submit(cmd.ReportPrepared(**fields), actor="test")
    look = cmd.CheckBudget(project="default", engine=ENGINE, epoch=1)
    async with opened(yard.database, tmp_path / "second", yard.tokens) as second:
        ledgers = (yard.ledger, second.ledger)

        async def start(index: int) -> None:
            started = cmd.ReportStarted(
                **of[index], started_at=datetime.now(UTC), container_id="c", image_id="sha256:1"
            )
            await ledgers[index % 2].submit(started, actor="test")
            await ledgers[(index + 1) % 2].submit(look, actor="test")

        await gathered(len(jobs), start)
    warned = [str(event.body.share) for event in await events(yard, ev.BudgetWarned)]
    assert sorted(warned) == sorted(shares)
    assert (await yard.call("GET", "/v1/budget")).json["spent"] == "0.005000"


async def test_a_warning_is_no_part_of_what_its_command_is_answered(
    yard: Yard, supervision: Supervision
) -> None:
    """Nor of the answer to a repeat, which is read from the ledger."""
    job = await yard.submit()
    await supervision.running(job["id"])
    budget = cmd.SetBudget(project="default", amount=Decimal("0.0005"))
    first = await yard.ledger.submit(budget, actor="test", command_id=UUID(int=1), digest=b"1")
    again = await yard.ledger.submit(budget, actor="test", command_id=UUID(int=1), digest=b"1")
    assert [event.type for event in first.events] == [event.type for event in again.events] == ["BudgetSet"]
    warned = await events(yard, ev.BudgetWarned)
    assert {event.command_id for event in warned} == {UUID(int=1)}
    assert len(warned) == 3
