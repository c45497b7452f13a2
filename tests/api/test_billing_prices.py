"""Prices, and which of them a run is billed by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.api.bills import order, ran, replay, statement
from tests.api.yard import ADMIN, READER, Supervision, Yard


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
