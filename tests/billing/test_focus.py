"""FOCUS 1.2: rows of many runs, as CSV, Parquet and JSON lines, against the specification's own rules."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pyarrow
import pytest
from msgspec.structs import replace
from pyarrow import parquet

from projections import spend
from projections.replay import Replay
from service.api.focus_files import FILES, GROUP_ROWS, Format
from service.domain.bills.focus import COLUMNS, Account, Charged, row_of_credit, rows_of
from service.domain.bills.run import Adjustment, Run
from service.domain.bills.statement import AsOf, Month, statement
from service.domain.budget import Spend
from tests.billing import focus_rules
from tests.billing.focus_rules import check, from_text
from tests.billing.histories import BEGINNING, PROJECT, History

NOVEMBER = Month(2026, 11)
ACCOUNT = Account(PROJECT, "Vision")
LABELS = {"ovh/type": "job", "team": "a", "note": '=cmd|"x", y'}
NAMES = [column.name for column in COLUMNS]
Row = Mapping[str, Any]


@lru_cache
def runs() -> list[Run]:
    """Runs of several months, each in some way of its own; some with credits and corrections."""
    replay, found = Replay(), []
    for page in History(1500, seed=12).pages():
        found += replay.feed(page)
    return [_adjusted(number, run) for number, run in enumerate(found) if run.flavor]


def _adjusted(number: int, run: Run) -> Run:
    """Every seventh has something ordered, of its own month or of a later one."""
    if number % 7:
        return run
    given = Adjustment(
        kind="credit" if number % 2 else "correction",
        rule="order",
        amount=Decimal(-number) / 1000,
        currency=run.currency,
        reason='=HYPERLINK("x")\r\nand, a second line',
        at=(run.marks.ended_at or BEGINNING) + timedelta(days=number % 3 * 20),
        position=10_000 + number,
        cites=run.positions[:1],
    )
    return replace(run, ordered=(given,))


def months() -> list[Month]:
    ends = {run.marks.ended_at for run in runs() if run.marks.ended_at}
    given = {each.at for run in runs() for each in run.adjustments}
    return sorted({Month.of(at) for at in ends | given})


def charges(month: Month) -> list[Row]:
    found = [Charged(run, "train", "busybox:latest", LABELS) for run in runs()]
    return [row for each in found for row in rows_of(each, ACCOUNT, month)]


def written(format: Format, parts: Iterable[list[Row]]) -> io.BytesIO:
    file = io.BytesIO()
    made = FILES[format](file, {"BillingPeriod": "2026-01"})
    for part in parts:
        made.write(part)
    made.close()
    file.seek(0)
    return file


def read_csv(file: io.BytesIO) -> tuple[list[str], list[Row]]:
    names, *cells = csv.reader(io.StringIO(file.getvalue().decode(), newline=""), strict=True)
    return names, [from_text(dict(zip(names, each, strict=True))) for each in cells]


def read_parquet(file: io.BytesIO) -> tuple[list[str], list[Row]]:
    table = parquet.read_table(file)
    return table.column_names, table.to_pylist()


@pytest.fixture(scope="module")
def month() -> Month:
    return max(months(), key=lambda each: len(charges(each)))


def test_the_histories_have_what_is_to_be_checked() -> None:
    rows = [row for each in months() for row in charges(each)]
    seen = {(row["ChargeCategory"], row["ChargeClass"], row["x_AdjustmentRule"]) for row in rows}
    assert seen == {
        ("Usage", None, None),
        ("Credit", None, "platform-fault"),
        ("Credit", None, "order"),
        ("Usage", "Correction", "order"),
        ("Adjustment", None, "order"),
    }


def test_csv_keeps_every_rule(month: Month) -> None:
    names, rows = read_csv(written("csv", [charges(month)]))
    assert check(names, rows) == []
    assert len(rows) > 100


def test_parquet_keeps_every_rule_and_holds_decimals_and_utc(month: Month) -> None:
    file = written("parquet", [charges(month)])
    names, rows = read_parquet(file)
    assert check(names, rows) == []
    schema = parquet.read_schema(file)
    assert schema.metadata[b"FocusVersion"] == b"1.2"
    assert schema.metadata[b"BillingPeriod"] == b"2026-01"
    kinds = {column.name: column.kind for column in COLUMNS}
    for field in schema:
        if kinds[field.name] == "decimal":
            assert pyarrow.types.is_decimal128(field.type), field
        if kinds[field.name] == "datetime":
            assert (pyarrow.types.is_timestamp(field.type), field.type.tz) == (True, "UTC"), field
    nullable = {field.name for field in schema if field.nullable}
    assert nullable == {column.name for column in COLUMNS if not column.required}


def test_all_formats_say_the_same(month: Month) -> None:
    _, of_csv = read_csv(written("csv", [charges(month)]))
    _, of_parquet = read_parquet(written("parquet", [charges(month)]))
    custom = {column.name for column in COLUMNS if column.name.startswith("x_") and column.kind == "decimal"}
    typed = [
        dict(row) | {name: None if row[name] is None else Decimal(row[name]) for name in custom}
        for row in of_csv
    ]
    assert typed == of_parquet
    lines = [json.loads(line) for line in written("jsonl", [charges(month)])]
    assert [from_text({name: value or "" for name, value in line.items()}) for line in lines] == of_csv


def test_the_rows_of_each_month_add_up_to_its_statement() -> None:
    for each in months():
        bill = statement(PROJECT, each, runs(), [], AsOf(1, each.end))
        billed = sum((row["BilledCost"] for row in charges(each)), Decimal(0))
        assert [total.total for total in bill.totals] == [billed]
        usage = [row for row in charges(each) if row["ChargeCategory"] == "Usage" and not row["ChargeClass"]]
        lines = [line for line in bill.lines if line.window_end is not None]
        assert len(usage) == len(lines)
        assert sum(row["BilledCost"] for row in usage) == bill.totals[0].amount


def test_what_a_project_has_spent_by_month_is_its_statements() -> None:
    """The fold that budgets are decided on, over the same events."""
    row: Spend | None = None
    replay = Replay()
    over: list[Run] = []
    for page in History(1500, seed=12).pages():
        over += replay.feed(page)
        for event in page:
            if spend.key(event) == PROJECT:
                row = spend.evolve(row, event)
    assert row is not None
    for each in {Month.of(run.marks.ended_at) for run in over if run.marks.ended_at}:
        bill = statement(PROJECT, each, [*over, *replay.open], [], AsOf(1, each.end))
        total = sum((total.total for total in bill.totals), Decimal(0))
        assert row.spent(each, "EUR", each.end) == total


def test_no_text_of_others_begins_a_cell_as_a_formula() -> None:
    run = replace(next(run for run in runs() if run.minutes), ordered=(), fault=None)
    at = run.marks.finalizing_at or BEGINNING
    for text in ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1"):
        row = next(iter(rows_of(Charged(run, text, text, {text: text}), Account("p", text), Month.of(at))))
        credit = Adjustment(
            kind="credit", rule="order", amount=-Decimal(1), currency="EUR", reason=text, at=at, position=1
        )
        beside = row_of_credit(credit, Account("p", text), Month.of(at))
        names, *cells = csv.reader(
            io.StringIO(written("csv", [[row, beside]]).getvalue().decode(), newline=""), strict=True
        )
        numbers = {column.name for column in COLUMNS if column.kind == "decimal"}
        for cell in (cell for line in cells for cell in zip(names, line, strict=True)):
            assert cell[0] in numbers or not cell[1].startswith(("=", "+", "-", "@", "\t", "\r", "\n")), cell
        assert check(names, [from_text(dict(zip(names, line, strict=True))) for line in cells]) == []


def test_periods_are_whole_seconds_that_hold_the_window() -> None:
    for run in runs():
        for row in rows_of(Charged(run, "n", "i", {}), ACCOUNT, NOVEMBER):
            assert row["ChargePeriodStart"] < row["ChargePeriodEnd"]  # type: ignore[operator]
    at = datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC)
    run = next(run for run in runs() if run.minutes)
    run = replace(run, marks=replace(run.marks, initializing_at=at, running_at=at))
    run = replace(run, marks=replace(run.marks, left_running_at=at, finalizing_at=at), ordered=(), fault=None)
    (row,) = rows_of(Charged(run, "n", "i", {}), ACCOUNT, NOVEMBER)
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == (
        datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
    )
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == (NOVEMBER.start, NOVEMBER.end)


def test_a_hundred_thousand_rows_are_written_in_parts(month: Month) -> None:
    part = charges(month)[:100]
    parts = [part] * 1000
    groups = parquet.ParquetFile(written("parquet", parts)).metadata
    assert groups.num_rows == 100_000
    assert {groups.row_group(at).num_rows for at in range(groups.num_row_groups)} == {GROUP_ROWS}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"BilledCost": None}, "BilledCost MUST NOT be null"),
        ({"BilledCost": 1.5}, "BilledCost MUST be of type decimal"),
        ({"ListUnitPrice": Decimal(9)}, "ListUnitPrice and PricingQuantity MUST match the ListCost"),
        ({"ListUnitPrice": Decimal(-1)}, "MUST be a non-negative"),
        ({"ChargeCategory": "usage"}, "allowed values"),
        ({"ChargeCategory": "Tax"}, 'MUST be null when ChargeCategory is "Tax"'),
        ({"PricingQuantity": None}, "MUST NOT be null when ChargeCategory"),
        ({"ConsumedUnit": None}, "ConsumedUnit MUST be null when ConsumedQuantity is, and only then"),
        ({"BillingCurrency": "Euro"}, "ISO 4217"),
        ({"ChargePeriodEnd": BEGINNING}, "exclusive end bound"),
        ({"Tags": '{"a":1,"a":2}'}, "unique keys"),
        ({"Tags": '{"a":[1]}'}, "MUST NOT be an object"),
        ({"ServiceSubcategory": "Containers"}, "parent"),
        ({"PricingUnit": "hours"}, "UnitFormat"),
    ],
)
def test_the_rules_find_what_is_wrong(month: Month, change: dict[str, Any], text: str) -> None:
    """A check that passes everything would prove nothing."""
    usage = next(row for row in charges(month) if row["ChargeCategory"] == "Usage" and row["BilledCost"])
    assert any(text in problem for problem in focus_rules.problems({**usage, **change}))


def test_the_rules_find_wrong_columns() -> None:
    assert focus_rules.problems_of_header(NAMES) == []
    assert focus_rules.problems_of_header(NAMES[1:]) == ["BilledCost MUST be present"]
    assert focus_rules.problems_of_header([*NAMES, "extra"]) != []
    assert focus_rules.problems_of_header([NAMES[-1], *NAMES[:-1]]) != []
    for text in ("1,5", "+1", "1e5", "", "1.", "€1"):
        with pytest.raises(ValueError, match="NumericFormat"):
            focus_rules.read("decimal", text)
    for text in ("2026-11-01", "2026-11-01T00:00:00+00:00", "2026-11-01T00:00:00.5Z"):
        with pytest.raises(ValueError, match="YYYY"):
            focus_rules.read("datetime", text)


def test_a_charge_is_described_in_good_english(month: Month) -> None:
    lines = [row for row in charges(month) if row["ListUnitPrice"] is not None]
    said = {row["x_BilledMinutes"] == 1: row["ChargeDescription"] for row in lines}
    assert ": 1 begun minute of " in said[True]
    assert " begun minutes of " in said[False]
