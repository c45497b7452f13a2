"""Statements, as somebody asks for them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from service.domain import commands as cmd
from service.domain.events import Info
from tests.api.bills import LINE, order, ran, replay, statement
from tests.api.yard import ADMIN, OPERATOR, READER, Supervision, Yard


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
