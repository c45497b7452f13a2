"""The export of a month: files that keep FOCUS's rules, of what the token may see, and never half of one."""

from __future__ import annotations

import csv
import io
import tempfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import pytest
from pyarrow import parquet

from service.api.call import SERVICE
from service.api.exports import MOST_OF_PROJECT
from service.domain import commands as cmd
from tests.api.yard import ADMIN, OPERATOR, Supervision, Yard
from tests.billing.focus_rules import check, from_text
from tests.support.waiting import until

EXPORT = "/v1/billing/export"


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m}"


async def rows_of(yard: Yard, *, token: str = OPERATOR, month: str = "") -> list[dict[str, Any]]:
    """The rows of the CSV file, typed and checked."""
    path = f"{EXPORT}?month={month or now()}"
    answer = await yard.call("GET", path, token=token)
    assert answer.status == 200, answer.raw
    names, *cells = csv.reader(io.StringIO(answer.raw.decode(), newline=""), strict=True)
    rows = [from_text(dict(zip(names, each, strict=True))) for each in cells]
    assert check(names, rows) == []
    return rows


async def ran(yard: Yard, supervision: Supervision, *, upto: str = "ended", **spec: Any) -> str:
    job: str = (await yard.submit(**spec))["id"]
    await supervision.running(job)
    if upto == "ended":
        await supervision.ended(job)
    return job


async def test_a_row_a_charge_and_the_sum_of_the_statement(yard: Yard, supervision: Supervision) -> None:
    first = await ran(yard, supervision, name="first", resources={"cpu": 2}, labels={"team": "a"})
    second = await ran(yard, supervision)
    await ran(yard, supervision, upto="running")
    a_month, a_run = (
        cmd.GrantCredit(
            project="default",
            amount=Decimal(amount),
            currency="EUR",
            reason=reason,
            job=None if run is None else UUID(second),
            run=run,
        )
        for amount, reason, run in (("0.0002", "=slow", None), ("0.0003", "a day", 1))
    )
    correction = cmd.CorrectBill(
        project="default", job=UUID(first), run=1, amount=Decimal("0.0009"), reason="Too much."
    )
    for order in (a_month, a_run, correction):
        await yard.ledger.submit(order, actor="test")
    rows = await rows_of(yard)
    seen = [(row["ChargeCategory"], row["ResourceName"], row["BilledCost"]) for row in rows]
    name = next(row["ResourceName"] for row in rows if row["ResourceId"] == second)
    assert seen == [
        ("Usage", "first", Decimal("0.001000")),
        ("Adjustment", "first", Decimal("-0.000100")),
        ("Usage", name, Decimal("0.000500")),
        ("Credit", name, Decimal("-0.000300")),
        ("Credit", None, Decimal("-0.000200")),
    ]
    usage = rows[0]
    assert usage["ResourceId"] == first
    assert (usage["PricingUnit"], usage["ConsumedQuantity"], usage["SkuId"]) == ("CPU-Hours", 2, "ai1-1-cpu")
    assert '"team":"a"' in usage["Tags"]
    assert (usage["BillingAccountId"], usage["BillingAccountName"]) == ("default", "Default")
    (bill,) = await yard.ledger.runs(UUID(first))
    assert usage["x_Positions"] == "[" + ",".join(map(str, bill.positions)) + "]"
    assert rows[-1]["ChargeDescription"] == "Credit: =slow"
    budget = (await yard.call("GET", "/v1/budget")).json
    live = Decimal("0.0005")
    assert Decimal(budget["spent"]) - live == sum(row["BilledCost"] for row in rows), (
        "credits count there too"
    )


async def test_the_three_formats(yard: Yard, supervision: Supervision) -> None:
    await ran(yard, supervision)
    answers = {
        form: await yard.call("GET", f"{EXPORT}?format={form}") for form in ("csv", "parquet", "jsonl")
    }
    for form, media in (
        ("csv", "text/csv"),
        ("parquet", "application/vnd.apache.parquet"),
        ("jsonl", "application/jsonl"),
    ):
        headers = answers[form].headers
        assert (answers[form].status, headers["Content-Type"]) == (200, media)
        assert headers["X-Focus-Version"] == "1.2"
        named = f'attachment; filename="focus-1.2-default-{now()}.{form}"'
        assert headers["Content-Disposition"] == named
        assert int(headers["Content-Length"]) == len(answers[form].raw)
    table = parquet.read_table(io.BytesIO(answers["parquet"].raw))
    assert check(table.column_names, table.to_pylist()) == []
    assert table.num_rows == len(answers["jsonl"].raw.splitlines()) == len(await rows_of(yard)) == 1


async def test_a_month_without_charges_is_a_file_without_rows(yard: Yard, supervision: Supervision) -> None:
    await ran(yard, supervision)
    assert await rows_of(yard, month="2020-01") == []
    answer = await yard.call("GET", f"{EXPORT}?format=parquet&month=2020-01")
    assert parquet.read_table(io.BytesIO(answer.raw)).num_rows == 0


async def test_a_token_exports_what_it_sees(yard: Yard, supervision: Supervision) -> None:
    mine = await ran(yard, supervision, labels={"team": "a"})
    await ran(yard, supervision, labels={"team": "b"})
    credit = cmd.GrantCredit(project="default", amount=Decimal("0.0001"), currency="EUR", reason="all")
    await yard.ledger.submit(credit, actor="test")
    await yard.token("scoped", OPERATOR, selector="team=a")
    assert [row["ResourceId"] for row in await rows_of(yard, token="scoped")] == [mine]
    assert len(await rows_of(yard)) == 3
    assert await rows_of(yard, token="other") == []
    await yard.call("DELETE", f"/v1/job/{mine}")
    assert [row["ResourceId"] for row in await rows_of(yard, token="scoped")] == [mine], "a bill stays"


async def test_of_another_project_for_who_looks_after_all(yard: Yard) -> None:
    credit = cmd.GrantCredit(project="other", amount=Decimal(1), currency="EUR", reason="theirs")
    await yard.ledger.submit(credit, actor="test")
    whole = await yard.call("GET", f"{EXPORT}?project=other", token=ADMIN)
    assert (whole.status, b"Credit: theirs" in whole.raw) == (200, True)
    assert "focus-1.2-other-" in whole.headers["Content-Disposition"]
    assert whole.raw == (await yard.call("GET", EXPORT, token="other")).raw
    assert (await yard.call("GET", f"{EXPORT}?project=other")).status == 403
    assert (await yard.call("GET", f"{EXPORT}?project=none", token=ADMIN)).status == 404


async def test_as_of_then_with_the_names_and_labels_of_then(yard: Yard, supervision: Supervision) -> None:
    mine = await ran(yard, supervision, labels={"team": "a"})
    on = await ran(yard, supervision, upto="running")
    at = await yard.head()
    await yard.token("scoped", OPERATOR, selector="team=a")
    before = (await yard.call("GET", EXPORT)).raw
    scoped = (await yard.call("GET", EXPORT, token="scoped")).raw
    assert (mine.encode() in scoped, on.encode() in before) == (True, False)
    await supervision.ended(on)
    await yard.call("PUT", f"/v1/job/{mine}/label", {"name": "team", "value": "b"})
    credit = cmd.GrantCredit(
        project="default", amount=Decimal("0.0001"), currency="EUR", reason="x", job=UUID(mine), run=1
    )
    for each in (credit, cmd.GrantCredit(project="default", amount=Decimal(1), currency="EUR", reason="y")):
        await yard.ledger.submit(each, actor="test")
    answer = await yard.call("GET", f"{EXPORT}?asOf={at}")
    assert (answer.raw, answer.headers["Jobyard-As-Of"]) == (before, str(at))
    assert (await yard.call("GET", EXPORT)).raw != before
    assert (await yard.call("GET", f"{EXPORT}?asOf={at}", token="scoped")).raw == scoped
    assert (await yard.call("GET", f"{EXPORT}?asOf=999999")).json["field"] == "asOf"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("month=2026-13", "month"),
        ("month=november", "month"),
        ("month=", "month"),
        ("format=xml", "format"),
        ("format=parquet&month=2026-1", "month"),
    ],
)
async def test_bad_parameters(yard: Yard, query: str, field: str) -> None:
    refused = await yard.call("GET", f"{EXPORT}?{query}")
    assert (refused.status, refused.json["field"]) == (400, field)


async def test_an_export_that_fails_is_an_error_and_no_half_file(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ran(yard, supervision)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    refused = await yard.call("GET", f"{EXPORT}?format=parquet")
    assert (refused.status, refused.json["code"]) == (503, "unavailable")
    assert "csv and jsonl need nothing" in refused.json["message"]
    assert len(await rows_of(yard)) == 1


async def test_a_run_of_last_month_is_in_last_months_file(yard: Yard, supervision: Supervision) -> None:
    """The window's end decides, as on the statement."""
    await ran(yard, supervision)
    before = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    assert await rows_of(yard, month=before) == []
    assert len(await rows_of(yard)) == 1


@pytest.mark.parametrize("shape", ["csv", "parquet", "jsonl"])
async def test_a_full_disk_is_told_and_leaves_nothing(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    await ran(yard, supervision)
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", _full)
    refused = await yard.call("GET", f"{EXPORT}?format={shape}")
    assert (refused.status, "No space left on device" in refused.json["message"]) == (503, True), refused.raw
    monkeypatch.setattr(tempfile, "TemporaryFile", real)
    assert (await yard.call("GET", f"{EXPORT}?format={shape}")).status == 200


def _full(**_: Any) -> IO[bytes]:
    return Path("/dev/full").open("r+b", buffering=0)


async def test_files_of_a_project_that_are_on_their_way_are_few(yard: Yard) -> None:
    """Each takes room on the disk for as long as its client likes."""
    exporting = yard.app[SERVICE].exporting
    assert (await yard.call("GET", EXPORT)).status == 200
    await until(lambda: exporting["default"] == 0)
    exporting["default"] = MOST_OF_PROJECT
    refused = await yard.call("GET", EXPORT)
    assert (refused.status, "try again" in refused.json["message"]) == (503, True)
    assert exporting["default"] == MOST_OF_PROJECT
    assert (await yard.call("GET", EXPORT, token="other")).status == 200, "another project's are its own"
