"""Credits and corrections, as somebody orders them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from service.domain import commands as cmd
from service.domain.events import Info
from tests.api.bills import order, ran, statement
from tests.api.yard import ADMIN, Supervision, Yard


async def test_credits_and_corrections_stand_beside_the_line(yard: Yard, supervision: Supervision) -> None:
    job = await ran(yard, supervision)
    corrected = await order(yard, "billing/correction", job=job, run=1, hourlyPrice="0.06", cites=[3])
    assert (corrected["amount"], corrected["position"]) == ("0.000500", await yard.head())
    credited = await order(yard, "billing/credit", job=job, run=1, amount="0.0003", project="default")
    assert (credited["amount"], credited["currency"], credited["run"]) == ("-0.0003", "EUR", 1)
    found = await statement(yard)
    (line,) = found["lines"]
    assert (line["amount"], line["net"]) == ("0.000500", "0.000700")
    assert [(each["kind"], each["reason"]) for each in line["adjustments"]] == [
        ("correction", "so it is"),
        ("credit", "so it is"),
    ]
    (total,) = found["totals"]
    assert (total["amount"], total["corrections"], total["credits"], total["total"]) == (
        *("0.000500", "0.000500"),
        *("-0.000300", "0.000700"),
    )
    (listed,) = (await yard.call("GET", "/v1/billing")).json["items"]
    assert (listed["minutes"], listed["original"], listed["amount"]) == (1, "0.000500", "0.000700")
    assert listed["adjustments"] == line["adjustments"]


async def test_no_policy_is_said_to_bill_what_a_correction_made_of_a_line(
    yard: Yard, supervision: Supervision
) -> None:
    job = await ran(yard, supervision)
    before = await yard.head()
    await order(yard, "billing/correction", job=job, run=1, minutes=600)
    for policy in ("2021-05", "2023-12", "2026-01"):
        (line,) = (await yard.call("GET", f"/v1/billing?policy={policy}")).json["items"]
        assert (line["minutes"], line["original"], line["amount"]) == (1, "0.000500", "0.300000")
        assert [each["amount"] for each in line["adjustments"]] == ["0.299500"]
        bill = (await yard.call("GET", f"/v1/billing?policy={policy}&asOf={before}")).json
        assert (bill["items"][0]["adjustments"], bill["total"]) == ([], "0.000500")


async def test_a_run_that_waits_has_no_price_yet(yard: Yard) -> None:
    await yard.submit()
    (line,) = (await yard.call("GET", "/v1/billing")).json["items"]
    assert (line["flavor"], line["hourlyPrice"], line["amount"]) == ("", None, "0.000000")


async def test_a_second_correction_takes_up_what_the_first_left(yard: Yard, supervision: Supervision) -> None:
    job = await ran(yard, supervision, resources={"cpu": 2})
    first = await order(yard, "billing/correction", job=job, run=1, minutes=5)
    told = {"corrected": "0.005000", "minutes": 5, "units": 2, "hourlyPrice": "0.03"}
    assert first == first | told
    second = await order(yard, "billing/correction", job=job, run=1, hourlyPrice="0.2")
    told = {"amount": "0.028333", "corrected": "0.033333", "minutes": 5, "hourlyPrice": "0.2"}
    assert second == second | told
    third = await order(yard, "billing/correction", job=job, run=1, amount="0.01")
    told = {"amount": "-0.023333", "corrected": "0.01", "minutes": None, "hourlyPrice": None}
    assert third == third | told
    assert (await statement(yard))["lines"][0]["net"] == "0.010000"


async def test_an_order_that_is_repeated_is_carried_out_once(yard: Yard, supervision: Supervision) -> None:
    job = await ran(yard, supervision)
    asked = {"job": job, "run": 1, "amount": "0.0001", "reason": "once"}
    key = {"Idempotency-Key": str(uuid4())}
    for _ in range(2):
        answer = await yard.call("POST", "/v1/billing/credit", asked, token=ADMIN, headers=key)
        assert answer.status == 200
    assert (await statement(yard))["lines"][0]["net"] == "0.000400"


REFUSED_ORDERS: list[tuple[str, dict[str, Any], int, str]] = [
    ("credit", {"amount": "0"}, 400, "a credit is more than nothing"),
    ("credit", {"amount": "-1"}, 400, "amount: '-1' is not allowed; an amount in decimal digits"),
    ("credit", {"amount": "1e3"}, 400, "in decimal digits"),
    ("credit", {"amount": "0.0000001"}, 400, "at most 6 of them after the point"),
    ("credit", {"amount": 1}, 400, "amount: 1 is not allowed; it must be text"),
    ("credit", {"amount": "1", "currency": "euro"}, 400, "a currency such as EUR"),
    ("credit", {"amount": "1", "currency": "USD"}, 400, "prices are in EUR"),
    ("credit", {"amount": "1", "reason": " "}, 400, "1 to 500 characters"),
    ("credit", {"amount": "1", "reason": "a\nb"}, 400, "in one line"),
    ("credit", {"amount": "1", "cites": [0]}, 400, "the position of an event, 1 or more"),
    ("credit", {"amount": "1", "cites": [2**70]}, 400, "cites"),
    ("credit", {"amount": "1", "cites": [999]}, 400, "of project default or of the yard"),
    ("credit", {"amount": "1", "cites": [1, 1]}, 400, "each once"),
    ("credit", {"amount": "1", "job": "{job}"}, 400, "name job and run, or neither"),
    ("credit", {"amount": "1", "job": "", "run": 1}, 400, "job: '' is not allowed; the id of a job"),
    ("credit", {"amount": "1", "job": ""}, 400, "name job and run, or neither"),
    ("correction", {"amount": "1", "job": "", "run": 1}, 400, "job: '' is not allowed; the id of a job"),
    ("credit", {"amount": "1", "project": ""}, 404, "there is no project ''"),
    ("credit", {"amount": "1", "project": "x\0"}, 404, "there is no project"),
    ("credit", {"amount": "0.000501", "job": "{job}", "run": 1}, 400, "the run costs 0.000500"),
    ("credit", {"amount": "0.0001", "job": "{job}", "run": 2}, 404, "there is no run 2"),
    ("credit", {"amount": "0.0001", "job": "{job}", "run": 0}, 404, "runs are counted from 1"),
    ("credit", {"amount": "0.0001", "job": "{on}", "run": 1}, 400, "its amount is not known yet"),
    (
        "credit",
        {"amount": "0.0001", "job": "{job}", "run": 1, "project": "other"},
        404,
        "is not in project",
    ),
    (
        "credit",
        {"amount": "0.0001", "job": "{job}", "run": 1, "currency": "USD"},
        400,
        "is billed in EUR",
    ),
    ("correction", {"job": "{job}", "run": 1}, 400, "amount: it is missing; name amount, or minutes"),
    (
        "correction",
        {"job": "{job}", "run": 1, "amount": "1", "minutes": 2},
        400,
        "or what it follows from",
    ),
    ("correction", {"job": "{job}", "run": 1, "minutes": -1}, 400, "minutes: -1 is not allowed"),
    ("correction", {"job": "{job}", "run": 1, "minutes": 10**9}, 400, "minutes: 1000000000"),
    ("correction", {"job": "{job}", "run": 1, "hourlyPrice": "-1"}, 400, "hourlyPrice: '-1'"),
    ("correction", {"job": "{job}", "run": 1, "amount": "0.0005"}, 409, "comes to 0.000500 EUR already"),
    ("correction", {"job": "{on}", "run": 1, "amount": "1"}, 400, "is not over"),
    ("correction", {"job": "{pushing}", "run": 1, "amount": "1"}, 400, "final when its volumes are pushed"),
    ("credit", {"job": "{pushing}", "run": 1, "amount": "0.0001"}, 400, "final when its volumes are pushed"),
    ("correction", {"job": "{never}", "run": 1, "amount": "1"}, 400, "was never placed"),
    ("correction", {"job": "nobody", "run": 1, "amount": "1"}, 404, "an id is a UUID"),
    ("correction", {"job": "{job}", "run": 1, "amonut": "1"}, 400, "did you mean amount?"),
]


async def test_an_order_that_is_refused_leaves_nothing(yard: Yard, supervision: Supervision) -> None:
    job = await ran(yard, supervision)
    on = (await yard.submit())["id"]
    await supervision.running(on)
    pushing = (await yard.submit())["id"]
    await supervision.running(pushing)
    exited = {"finished_at": datetime.now(UTC), "exit_code": 0, "oom_killed": False}
    await supervision._say(cmd.ReportExited, pushing, 1, **exited)
    never = (await yard.submit())["id"]
    await yard.ledger.submit(cmd.KillJob(project="default", job=UUID(never)), actor="test")
    ids = {"{job}": job, "{on}": on, "{pushing}": pushing, "{never}": never}
    head = await yard.head()
    for what, asked, status, text in REFUSED_ORDERS:
        filled = json.dumps({"reason": "so"} | asked)
        for name, known in ids.items():
            filled = filled.replace(name, known)
        answer = await yard.call("POST", f"/v1/billing/{what}", json.loads(filled), token=ADMIN)
        assert (answer.status, text in answer.json["message"]) == (status, True), (asked, answer.raw)
    assert await yard.head() == head


async def test_what_was_credited_in_full_is_not_corrected(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.submit())["id"]
    await supervision.running(job)
    await supervision._say(cmd.FailRun, job, 1, info=Info("lost", "The container is gone."))
    asked = {"job": job, "run": 1, "amount": "1", "reason": "so"}
    answer = await yard.call("POST", "/v1/billing/correction", asked, token=ADMIN)
    assert (answer.status, "credited in full: the run ended in ERROR" in answer.json["message"]) == (
        400,
        True,
    )


async def test_a_correction_leaves_room_for_the_credits(yard: Yard, supervision: Supervision) -> None:
    job = await ran(yard, supervision)
    await order(yard, "billing/credit", job=job, run=1, amount="0.0004")
    asked = {"job": job, "run": 1, "amount": "0.0003", "reason": "so"}
    answer = await yard.call("POST", "/v1/billing/correction", asked, token=ADMIN)
    assert (answer.status, "would cost less than nothing" in answer.json["message"]) == (400, True)
