"""Bills of recorded runs under another policy or other prices."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.domain import commands as cmd
from service.domain.events import Info
from service.ledger import bills
from tests.api.bills import ran, replay
from tests.api.yard import ADMIN, OPERATOR, READER, Supervision, Yard, furnish, opened
from tests.support.waiting import until_no_months_end


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


async def test_a_price_without_a_currency_is_in_the_service_s_own(database: str, tmp_path: Path) -> None:
    await until_no_months_end()
    async with opened(database, tmp_path, {}, currency="CHF") as yard:
        await furnish(yard.ledger)
        for role in (ADMIN, OPERATOR, READER):
            await yard.token(role, role)
        supervision = Supervision(yard)
        await supervision.lease()
        await ran(yard, supervision)
        found = await replay(yard, priceBook=[entry(flavor="ai1-1-cpu", validFrom="2020-01-01")])
    (line,) = found["lines"]
    assert line["replayed"]["currency"] == "CHF" and line["why"] == ["the price is 1 CHF and was 0.03 EUR"]
