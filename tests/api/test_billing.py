"""Statements, replays, explanations, credits and corrections, as somebody asks for them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from service.domain import commands as cmd
from service.domain.events import Info
from service.ledger import bills
from tests.api.yard import ADMIN, OPERATOR, READER, Supervision, Yard

LINE = {"minutes": 1, "amount": "0.000500", "currency": "EUR", "hourlyPrice": "0.03", "units": 1}


async def ran(yard: Yard, supervision: Supervision, **changed: Any) -> str:
    """A job that has ended; its id."""
    job: str = (await yard.submit(**changed))["id"]
    await supervision.running(job)
    await supervision.ended(job)
    return job


async def statement(yard: Yard, query: str = "", token: str = OPERATOR) -> Any:
    answer = await yard.call("GET", f"/v1/billing/statement{query}", token=token)
    assert answer.status == 200, answer.raw
    return answer.json


async def replay(yard: Yard, token: str = READER, **asked: Any) -> Any:
    answer = await yard.call("POST", "/v1/billing/replay", asked, token=token)
    assert answer.status == 200, answer.raw
    return answer.json


async def order(yard: Yard, what: str, **asked: Any) -> Any:
    answer = await yard.call("POST", f"/v1/{what}", {"reason": "so it is"} | asked, token=ADMIN)
    assert answer.status == 200, answer.raw
    return answer.json


# -- statements -------------------------------------------------------------------------------------


async def test_a_statement_has_a_line_a_run_and_what_still_runs_apart(
    yard: Yard, supervision: Supervision
) -> None:
    job = await ran(yard, supervision)
    on = (await yard.submit(resources={"cpu": 2}))["id"]
    await supervision.running(on)
    await yard.submit()  # was never placed
    found = await statement(yard, f"?month={datetime.now(UTC):%Y-%m}")
    (line,) = found["lines"]
    assert {name: line[name] for name in LINE} == LINE
    assert (line["job"], line["run"], line["outcome"], line["net"]) == (job, 1, "DONE", "0.000500")
    assert len(line["positions"]) == 6
    assert line["windowStart"] < line["windowEnd"]
    (still,) = found["open"]
    assert (still["job"], still["minutes"], still["amount"]) == (on, 1, "0.001000")
    (total,) = found["totals"]
    assert (total["total"], total["toPay"], total["currency"]) == ("0.000500", "0.00", "EUR")
    assert (found["over"], found["policy"], found["project"]) == (False, "2021-05", "default")
    assert found["asOf"]["position"] == await yard.head()
    assert (await statement(yard))["lines"] == found["lines"]
    other = await statement(yard, "?month=2001-01")
    assert (other["lines"], other["totals"], other["over"]) == ([], [], True)
    assert (await statement(yard, "?policy=2023-12"))["policy"] == "2023-12"


async def test_the_same_as_of_gives_the_same_statement_for_ever(yard: Yard, supervision: Supervision) -> None:
    """Whatever comes after: a run goes on and ends, another begins, a credit and a correction are ordered."""
    first, second = await ran(yard, supervision), (await yard.submit())["id"]
    await supervision.running(second)
    at = await yard.head()
    then = await statement(yard, f"?asOf={at}")
    assert (len(then["lines"]), len(then["open"])) == (1, 1)
    await supervision.ended(second)
    await ran(yard, supervision)
    await order(yard, "billing/credit", job=first, run=1, amount="0.0001")
    await order(yard, "billing/correction", job=first, run=1, minutes=3)
    await order(yard, "billing/credit", amount="2")
    assert await statement(yard, f"?asOf={at}") == then
    now = await statement(yard)
    assert (len(now["lines"]), len(now["adjustments"])) == (3, 3)
    again = await statement(yard, f"?asOf={now['asOf']['position']}")
    assert again | {"asOf": now["asOf"]} == now


async def test_a_token_with_a_selector_sees_its_own_lines_alone(yard: Yard, supervision: Supervision) -> None:
    ours, theirs = [await ran(yard, supervision, labels={"team": team}) for team in ("a", "b")]
    on = (await yard.submit(labels={"team": "b"}))["id"]
    await supervision.running(on)
    await order(yard, "billing/credit", amount="2")
    await yard.token("scoped", OPERATOR, selector="team=a")
    found = await statement(yard, token="scoped")
    assert [line["job"] for line in found["lines"]] == [ours]
    assert (found["open"], found["adjustments"]) == ([], [])
    again = await replay(yard, token="scoped")
    assert [line["job"] for line in again["lines"]] == [ours]
    for job, status in ((ours, 200), (theirs, 404)):
        assert (await yard.call("GET", f"/v1/billing/explain/{job}/1", token="scoped")).status == status


async def test_only_who_looks_after_the_yard_sees_another_project(
    yard: Yard, supervision: Supervision
) -> None:
    job = await ran(yard, supervision)
    for path in ("/v1/billing/statement?project=default", f"/v1/billing/explain/{job}/1"):
        assert (await yard.call("GET", path, token="other")).status in (403, 404)
    assert (
        await yard.call("POST", "/v1/billing/replay", {"project": "default"}, token="other")
    ).status == 403
    assert (await statement(yard, "?project=other", token=ADMIN))["lines"] == []
    missing = await yard.call("GET", "/v1/billing/statement?project=none", token=ADMIN)
    assert (missing.status, missing.json["message"]) == (404, "project: there is no project 'none'")
    for path in ("billing/credit", "billing/correction", "prices"):
        for token in ("other", OPERATOR, READER):
            assert (await yard.call("POST", f"/v1/{path}", {}, token=token)).status == 403


async def test_our_fault_is_a_credit_beside_the_line(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.submit())["id"]
    await supervision.running(job)
    await supervision._say(cmd.FailRun, job, 1, info=Info("lost", "The container is gone."))
    found = await statement(yard)
    (line,) = found["lines"]
    assert (line["amount"], line["net"]) == ("0.000500", "0.000000")
    (credit,) = line["adjustments"]
    assert (credit["rule"], credit["amount"], credit["cites"]) == (
        "platform-fault",
        "-0.000500",
        [await yard.head()],
    )
    assert found["totals"][0]["total"] == "0.000000"
    (listed,) = (await yard.call("GET", "/v1/billing")).json["items"]
    assert (listed["credited"], listed["original"], listed["amount"]) == (True, "0.000500", "0.000000")
    assert listed["adjustments"] == [credit]


async def test_of_then_a_token_sees_what_it_would_have_seen(yard: Yard, supervision: Supervision) -> None:
    job = await ran(yard, supervision, labels={"team": "a"})
    at = await yard.head()
    assert (await yard.call("PUT", f"/v1/job/{job}/label", {"name": "team", "value": "b"})).status == 204
    now = await yard.head()
    for team, position, sees in (("a", at, True), ("a", now, False), ("b", at, False), ("b", now, True)):
        await yard.token(team, OPERATOR, selector=f"team={team}")
        found = await statement(yard, f"?asOf={position}", token=team)
        assert [line["job"] for line in found["lines"]] == ([job] if sees else [])
        explained = await yard.call("GET", f"/v1/billing/explain/{job}/1?asOf={position}", token=team)
        assert explained.status == (200 if sees else 404)


# -- orders -----------------------------------------------------------------------------------------


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
    ("correction", {"job": "nobody", "run": 1, "amount": "1"}, 404, "an id is a UUID"),
    ("correction", {"job": "{job}", "run": 1, "amonut": "1"}, 400, "did you mean amount?"),
]


async def test_an_order_that_is_refused_leaves_nothing(yard: Yard, supervision: Supervision) -> None:
    job = await ran(yard, supervision)
    on = (await yard.submit())["id"]
    await supervision.running(on)
    head = await yard.head()
    for what, asked, status, text in REFUSED_ORDERS:
        filled = json.dumps({"reason": "so"} | asked).replace("{job}", job).replace("{on}", on)
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


# -- replays ----------------------------------------------------------------------------------------


async def test_a_replay_bills_the_events_anew_and_compares(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.submit(resources={"cpu": 4}))["id"]
    await supervision.running(job)
    await supervision.ended(job)
    failed = (await yard.submit())["id"]
    await supervision.running(failed)
    await supervision._say(cmd.FailRun, failed, 1, info=Info("lost", "The container is gone."))
    on = (await yard.submit())["id"]
    await supervision.running(on)
    same = await replay(yard)
    assert (same["runs"], same["differ"], same["unpriced"]) == (2, 0, 0)
    assert same["asOf"]["position"] == await yard.head()
    assert same["totals"] == [
        {"currency": "EUR", "live": "0.002000", "replayed": "0.002000"}
        | {"difference": "0.000000", "differenceToPay": "0.00"}
    ]
    dearer = [{"flavor": "ai1-1-cpu", "hourlyPrice": "6", "validFrom": "2020-01-01"}]
    found = await replay(yard, policy="2023-12", priceBook=dearer)
    lines = {line["job"]: line for line in found["lines"]}
    assert set(lines) == {job, failed}
    assert lines[job]["live"]["amount"] == "0.002000"
    assert lines[job]["replayed"]["amount"] == "0.400000"
    assert (lines[job]["difference"], lines[job]["why"]) == (
        "0.398000",
        ["the price is 6 EUR and was 0.03 EUR"],
    )
    assert lines[failed]["difference"] == "0.000000"
    assert len(lines[job]["positions"]) == 6
    assert found["totals"][0]["differenceToPay"] == "0.40"
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert (await replay(yard, **{"from": later}))["runs"] == 0
    assert (await replay(yard, to=later))["runs"] == 2
    assert (await replay(yard, differing=True))["lines"] == []


async def test_runs_without_a_price_are_told_and_in_no_sum(yard: Yard, supervision: Supervision) -> None:
    job = await ran(yard, supervision)
    book = [
        {"flavor": "ai1-1-cpu", "hourlyPrice": "1", "validFrom": "2020-01-01", "validTo": "2020-02-01"},
        {"flavor": "ai1-1-gpu", "hourlyPrice": "1", "validFrom": "2020-01-01T00:00:00+01:00"},
    ]
    found = await replay(yard, priceBook=book)
    (line,) = found["lines"]
    assert (line["job"], line["replayed"], line["difference"]) == (job, None, None)
    assert line["why"][0].startswith("the price book has no price for ai1-1-cpu at ")
    assert (found["unpriced"], found["totals"]) == (1, [])


def entry(**changed: Any) -> dict[str, Any]:
    return {"flavor": "f", "hourlyPrice": "1", "validFrom": "2026-01-01"} | changed


IMPOSSIBLE_REPLAYS: list[tuple[dict[str, Any], str, str]] = [
    ({"policy": "2022-02"}, "policy", "it must be 2021-05 or 2023-12 or 2026-01"),
    ({"priceBook": []}, "priceBook", "1 to 10000"),
    ({"priceBook": [entry(), entry()]}, "priceBook[1]", "priceBook[0] holds from 2026-01-01T00:00:00Z"),
    (
        {"priceBook": [entry(validFrom="2026-02-01"), entry(validTo="2026-02-02")]},
        "priceBook[0]",
        "priceBook[1] holds from 2026-01-01T00:00:00Z to 2026-02-02T00:00:00Z",
    ),
    ({"priceBook": [entry(hourlyPrice="-1")]}, "priceBook[0].hourlyPrice", "in decimal digits"),
    ({"priceBook": [entry(hourlyPrice="1e3")]}, "priceBook[0].hourlyPrice", "in decimal digits"),
    ({"priceBook": [entry(hourlyPrice="NaN")]}, "priceBook[0].hourlyPrice", "in decimal digits"),
    ({"priceBook": [entry(hourlyPrice=0.03)]}, "priceBook[0].hourlyPrice", "it must be text"),
    ({"priceBook": [entry(validFrom="yesterday")]}, "priceBook[0].validFrom", "a time such as"),
    ({"priceBook": [entry(validFrom="2026-01-01T00:00:00")]}, "priceBook[0].validFrom", "a time such as"),
    ({"priceBook": [entry(validFrom="2026-02-30")]}, "priceBook[0].validFrom", "a time such as"),
    (
        {"priceBook": [entry(validTo="2026-01-01")]},
        "priceBook[0].validTo",
        "later than validFrom, 2026-01-01T00:00:00Z",
    ),
    ({"priceBook": [entry(currency="€")]}, "priceBook[0].currency", "a currency such as EUR"),
    ({"priceBook": [entry(vaildTo="2026-01-02")]}, "priceBook[0].vaildTo", "did you mean validTo?"),
    ({"priceBook": [entry(currency="")]}, "priceBook[0].currency", "a currency such as EUR"),
    *(
        ({"priceBook": [entry(flavor=bad)]}, "priceBook[0].flavor", "1 to 64 printable characters")
        for bad in ("", "a\0b", "a" * 65, "a" * 5000, " a", "a\n")
    ),
    ({"priceBook": [entry()], "ledgerPrices": True}, "ledgerPrices", "name one of"),
    ({"from": "2026-02-01", "to": "2026-02-01"}, "to", "a time later than from"),
    ({"from": "0001-01-01T00:00:00+23:00"}, "from", "a time such as"),
    ({"polcy": "2021-05"}, "polcy", "did you mean policy?"),
]


async def test_a_replay_that_cannot_be(yard: Yard) -> None:
    for asked, field, text in IMPOSSIBLE_REPLAYS:
        answer = await yard.call("POST", "/v1/billing/replay", asked)
        assert answer.status == 400, (asked, answer.raw)
        assert (answer.json["field"], text in answer.json["message"]) == (field, True), answer.raw


async def test_a_replay_reads_in_pages(yard: Yard, supervision: Supervision) -> None:
    """However small they are: a run is one, whatever page its events are on."""
    jobs = {await ran(yard, supervision) for _ in range(4)}
    found = []
    async for page in bills.replayed(yard.ledger.pool, "default", await yard.head(), page=3):
        found += [live.job for live, again in page if live == again]
    assert sorted(found) == sorted(jobs)


# -- prices -----------------------------------------------------------------------------------------


async def test_a_run_is_priced_by_the_book_in_force_at_its_placing(
    yard: Yard, supervision: Supervision
) -> None:
    """Not by what comes later, though it was set before; nor by what was set again for the same moment."""
    now = datetime.now(UTC)
    for price, days in (("7", 1), ("2", -2), ("3", -1), ("4", -1)):
        valid_from = (now + timedelta(days=days)).isoformat()
        asked = {"prices": {"ai1-1-cpu": price}, "validFrom": valid_from}
        assert (await yard.call("POST", "/v1/prices", asked, token=ADMIN)).status == 200
    job = await ran(yard, supervision)
    # The yard's own price of 0.03 was set for now when it opened, later than all of these.
    (line,) = (await statement(yard))["lines"]
    assert (line["job"], line["hourlyPrice"]) == (job, "0.03")
    await yard.call("POST", "/v1/prices", {"prices": {"ai1-1-cpu": "5"}}, token=ADMIN)
    assert (await statement(yard))["lines"] == [line]
    await ran(yard, supervision)
    assert [each["hourlyPrice"] for each in (await statement(yard))["lines"]] == ["0.03", "5"]
    listed = (await yard.call("GET", "/v1/prices?flavor=ai1-1-cpu", token=READER)).json["items"]
    assert [(each["hourlyPrice"], each["inForce"], each["source"]) for each in listed] == [
        ("2", False, "order"),
        *(("3", False, "order"), ("4", False, "order")),
        ("0.03", False, "catalogue"),
        ("5", True, "order"),
        ("7", False, "order"),
    ]
    assert listed[-1]["validTo"] is None
    assert listed[0]["validTo"] < listed[1]["validTo"] or listed[1]["validTo"] == listed[1]["validFrom"]


async def test_a_price_of_the_past_changes_no_run_until_it_is_corrected(
    yard: Yard, supervision: Supervision
) -> None:
    job = await ran(yard, supervision)
    placed = (await statement(yard))["lines"][0]["windowStart"]
    asked = {"prices": {"ai1-1-cpu": "0.06"}, "validFrom": placed}
    (price,) = (await yard.call("POST", "/v1/prices", asked, token=ADMIN)).json["items"]
    assert (await replay(yard))["differ"] == 0
    (line,) = (await replay(yard, ledgerPrices=True))["lines"]
    assert (line["difference"], line["why"]) == ("0.000500", ["the price is 0.06 EUR and was 0.03 EUR"])
    await order(yard, "billing/correction", job=job, run=1, hourlyPrice="0.06", cites=[price["position"]])
    found = await replay(yard, ledgerPrices=True)
    assert (found["lines"][0]["difference"], found["totals"][0]["difference"]) == ("0.000000", "0.000000")
    (back,) = (await replay(yard))["lines"]
    assert back["difference"] == "-0.000500"
    assert "the live line was corrected by 0.000500" in back["why"][0]


REFUSED_PRICES: list[tuple[dict[str, Any], str, str]] = [
    ({"prices": {}}, "prices", "at least one flavor"),
    ({"prices": {"ai1-1-cpuu": "1"}}, "prices.ai1-1-cpuu", "did you mean ai1-1-cpu?"),
    ({"prices": {"ai1-1-cpu": "-1"}}, "prices.ai1-1-cpu", "in decimal digits"),
    ({"prices": {"ai1-1-cpu": "0.0000000001"}}, "prices.ai1-1-cpu", "at most 9 of them"),
    ({"prices": {"ai1-1-cpu": "1000001"}}, "prices.ai1-1-cpu", "0 to 1000000"),
    ({"prices": {"ai1-1-cpu": 1}}, "prices.ai1-1-cpu", "it must be text"),
    ({"prices": {"ai1-1-cpu": "1"}, "validFrom": "soon"}, "validFrom", "a time such as"),
    *(
        ({"prices": {"ai1-1-cpu": "1"}, "validFrom": at}, "validFrom", "a time of the years 2000 to 2200")
        for at in ("1999-12-31T23:59:59Z", "0001-01-01", "2201-01-01", "9999-12-31")
    ),
    ({"prices": {"ai1-1-cpu": "NaN"}}, "prices.ai1-1-cpu", "'NaN' is not allowed; a price per hour"),
    ({"prices": {"ai1-1-cpu": "１"}}, "prices.ai1-1-cpu", "in decimal digits"),
    ({"prices": {"ai1-1-cpu": "1"}, "currency": "eur"}, "currency", "a currency such as EUR"),
    ({"prices": {"ai1-1-cpu": "1"}, "currency": ""}, "currency", "a currency such as EUR"),
    ({"prices": {"": "1"}}, "prices.", "the flavors are"),
    ({"prices": {"ai1-1-cpu": "1"}, "valid_from": "x"}, "valid_from", "did you mean validFrom?"),
]


async def test_prices_that_are_refused(yard: Yard) -> None:
    head = await yard.head()
    for asked, field, text in REFUSED_PRICES:
        answer = await yard.call("POST", "/v1/prices", asked, token=ADMIN)
        assert answer.status == 400, (asked, answer.raw)
        assert (answer.json["field"], text in answer.json["message"]) == (field, True), answer.raw
    assert await yard.head() == head


# -- explanations -----------------------------------------------------------------------------------


async def test_a_run_is_explained_step_by_step(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.submit(resources={"cpu": 2}))["id"]
    await supervision.running(job, absent=True)
    at = await yard.head()
    open_yet = (await yard.call("GET", f"/v1/billing/explain/{job}/1")).json
    assert open_yet["sentences"][2]["text"].startswith("The run is not over and stands on no total; ")
    (listed,) = (await statement(yard))["open"]
    assert not open_yet["over"]
    assert (
        (open_yet["minutes"], open_yet["amount"]) == (listed["minutes"], listed["amount"]) == (1, "0.001000")
    )
    await supervision.ended(job)
    await order(yard, "billing/credit", job=job, run=1, amount="0.0004", cites=[at])
    found = (await yard.call("GET", f"/v1/billing/explain/{job}/1", token=READER)).json
    line = (await statement(yard))["lines"][0]
    texts = [each["text"] for each in found["sentences"]]
    assert "with 2 units of ai1-1-cpu, at 0.03 EUR per hour and unit: the price book's entry" in texts[0]
    assert texts[1].startswith("It was INITIALIZING from ")
    assert texts[2].startswith("Policy 2021-05 bills from INITIALIZING to FINALIZING: from ")
    assert texts[3].startswith("Nobody looked after the run from ")
    assert texts[4].endswith("of another, which counts whole: 1 begun minute.")
    assert texts[5] == "1 minute x 2 units x 0.03 EUR / 60 = 0.001000 EUR."
    assert "a credit of 0.0004 EUR was ordered: so it is." in texts[6]
    assert texts[7].startswith("The run costs 0.000600 EUR, and stands on the statement of 20")
    cited = {position for each in found["sentences"] for position in each["positions"]}
    assert {*line["positions"][2:], at} <= cited
    assert (found["net"], found["minutes"], found["amount"]) == (line["net"], 1, "0.001000")
    then = (await yard.call("GET", f"/v1/billing/explain/{job}/1?asOf={at}")).json
    assert (then["over"], then["minutes"], then["amount"]) == (False, 1, "0.001000")
    other = (await yard.call("GET", f"/v1/billing/explain/{job}/1?policy=2026-01")).json
    assert "Policy 2026-01 bills from PENDING to the end of RUNNING" in other["sentences"][2]["text"]


async def test_why_a_run_is_not_billed(yard: Yard, supervision: Supervision) -> None:
    job = (await yard.submit())["id"]
    await supervision._say(cmd.PlaceRun, job, 1, node="local")
    await supervision._say(cmd.AbortRun, job, 1, info=Info("no-image", "It cannot be pulled."))
    await supervision._say(cmd.FinalizeRun, job, 1)
    found = (await yard.call("GET", f"/v1/billing/explain/{job}/1")).json
    assert any(each["text"].startswith("It never was RUNNING") for each in found["sentences"])
    assert (found["minutes"], found["net"]) == (0, "0.000000")
    never = (await yard.submit())["id"]
    assert (await yard.call("PUT", f"/v1/job/{never}/kill")).status == 204
    found = (await yard.call("GET", f"/v1/billing/explain/{never}/1")).json
    assert found["sentences"][0]["text"] == "The run was never placed on a node."


async def test_runs_that_are_not_there(yard: Yard, supervision: Supervision) -> None:
    job = await ran(yard, supervision)
    runs = [f"{job}/{number}" for number in ("2", "0", "x", "99999999999", "%31%00")]
    for path in (*runs, "nobody/1", f"{UUID(int=7)}/1"):
        assert (await yard.call("GET", f"/v1/billing/explain/{path}")).status == 404


IMPOSSIBLE_STATEMENTS = [
    ("?month=2026-13", "month"),
    ("?month=november", "month"),
    ("?policy=2022-01", "policy"),
    ("?asOf=999999", "asOf"),
    ("?asOf=tomorrow", "asOf"),
]


async def test_statements_that_cannot_be(yard: Yard) -> None:
    for query, field in IMPOSSIBLE_STATEMENTS:
        answer = await yard.call("GET", f"/v1/billing/statement{query}")
        assert (answer.status, answer.json["field"]) == (400, field), answer.raw


async def test_all_the_months_amount_to_the_bill(yard: Yard, supervision: Supervision) -> None:
    for _ in range(3):
        await ran(yard, supervision)
    bill = (await yard.call("GET", "/v1/billing")).json
    found = await statement(yard)
    assert found["totals"][0]["total"] == bill["total"]
    assert Decimal(bill["total"]) == sum(Decimal(line["net"]) for line in found["lines"])
