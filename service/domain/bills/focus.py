"""A project's month as FOCUS has it: the FinOps Open Cost and Usage Specification, version 1.2.

One row a charge: the line of each run, and each credit and correction beside it, so that the rows' BilledCost
adds up to the statement's total. Columns, their order, and what is null where follow the specification's
column rules; what it does not know stands in columns that begin with `x_`. A run that is not over is no
charge yet; a run that was never RUNNING is none at all.

Text that others wrote never begins a value, so that no spreadsheet takes one for a formula (`_text`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Literal, NamedTuple

from service.domain.bills.run import Adjustment, Run
from service.domain.bills.statement import Month, ended_at
from service.domain.pricing import absent, seconds, window

VERSION = "1.2"

Kind = Literal["string", "decimal", "datetime", "json"]
Value = str | Decimal | datetime | None

_PROVIDER = "Jobyard"
_SERVICE = "Jobyard AI Training"
_QUANTITY_STEP = Decimal("1e-15")
#: Characters with which a spreadsheet begins a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Column(NamedTuple):
    """A column of the file: its id, what is in it, and whether it always has a value."""

    name: str
    kind: Kind
    required: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("BilledCost", "decimal", True),
    Column("BillingAccountId", "string", True),
    Column("BillingAccountName", "string", True),
    Column("BillingCurrency", "string", True),
    Column("BillingPeriodEnd", "datetime", True),
    Column("BillingPeriodStart", "datetime", True),
    Column("ChargeCategory", "string", True),
    Column("ChargeClass", "string"),
    Column("ChargeDescription", "string", True),
    Column("ChargeFrequency", "string", True),
    Column("ChargePeriodEnd", "datetime", True),
    Column("ChargePeriodStart", "datetime", True),
    Column("ConsumedQuantity", "decimal"),
    Column("ConsumedUnit", "string"),
    Column("ContractedCost", "decimal", True),
    Column("EffectiveCost", "decimal", True),
    Column("InvoiceId", "string"),
    Column("InvoiceIssuerName", "string", True),
    Column("ListCost", "decimal", True),
    Column("ListUnitPrice", "decimal"),
    Column("PricingCategory", "string"),
    Column("PricingQuantity", "decimal"),
    Column("PricingUnit", "string"),
    Column("ProviderName", "string", True),
    Column("PublisherName", "string", True),
    Column("ResourceId", "string"),
    Column("ResourceName", "string"),
    Column("ResourceType", "string"),
    Column("ServiceCategory", "string", True),
    Column("ServiceName", "string", True),
    Column("ServiceSubcategory", "string", True),
    Column("SkuId", "string"),
    Column("SkuMeter", "string"),
    Column("SkuPriceDetails", "json"),
    Column("SkuPriceId", "string"),
    Column("Tags", "json"),
    Column("x_AbsentSeconds", "decimal"),
    Column("x_AdjustmentRule", "string"),
    Column("x_BilledMinutes", "decimal"),
    Column("x_Image", "string"),
    Column("x_Outcome", "string"),
    Column("x_Policy", "string"),
    Column("x_Positions", "json"),
    Column("x_Run", "decimal"),
    Column("x_Units", "decimal"),
    Column("x_WindowEnd", "string"),
    Column("x_WindowStart", "string"),
)


class Account(NamedTuple):
    """Whose bill it is."""

    project: str
    name: str


class Charged(NamedTuple):
    """A run with what is known of its job now: its name, image and labels."""

    run: Run
    name: str
    image: str
    labels: dict[str, str]


def rows_of(charged: Charged, account: Account, month: Month) -> Iterator[dict[str, Value]]:
    """The charges of a run in a month: its line, if its window ended in it, and what was given in it."""
    run = charged.run
    billed = window(run.marks, run.policy)
    over = ended_at(run)
    if billed is not None and Month.of(billed.end) == month:
        yield _line(charged, account, month, billed.start, billed.end)
    for each in run.adjustments:
        if Month.of(each.at) == month:
            earlier = over is not None and Month.of(over) < month
            yield _beside(charged, account, month, each, earlier=earlier)


def row_of_credit(credit: Adjustment, account: Account, month: Month) -> dict[str, Value]:
    """A credit that is the project's and no run's."""
    return _common(account, month, credit.currency, credit.amount) | {
        "ChargeCategory": "Credit",
        "ChargeDescription": f"Credit: {credit.reason}",
        "ChargeFrequency": "One-Time",
        "ChargePeriodStart": month.start,
        "ChargePeriodEnd": month.end,
        "x_AdjustmentRule": credit.rule,
        "x_Positions": _positions(credit),
    }


def _common(account: Account, month: Month, currency: str, amount: Decimal) -> dict[str, Value]:
    """There are no discounts, no commitments and no taxes: all four costs are one."""
    return dict.fromkeys((column.name for column in COLUMNS), None) | {
        "BilledCost": amount,
        "ContractedCost": amount,
        "EffectiveCost": amount,
        "ListCost": amount,
        "BillingAccountId": account.project,
        "BillingAccountName": _text(account.name, account.project),
        "BillingCurrency": currency,
        "BillingPeriodStart": month.start,
        "BillingPeriodEnd": month.end,
        "InvoiceIssuerName": _PROVIDER,
        "ProviderName": _PROVIDER,
        "PublisherName": _PROVIDER,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": _SERVICE,
        "ServiceSubcategory": "Machine Learning",
    }


def _line(
    charged: Charged, account: Account, month: Month, start: datetime, end: datetime
) -> dict[str, Value]:
    run = charged.run
    kind, minutes = run.kind.upper(), Decimal(run.minutes)
    begun = "begun minute" if run.minutes == 1 else "begun minutes"
    return (
        _common(account, month, run.currency, run.amount)
        | _resource(charged)
        | {
            "ChargeCategory": "Usage",
            "ChargeDescription": f"Run {run.run} of job {run.job}: {run.minutes} {begun} of {run.units}"
            f" {kind} ({run.flavor}) at {run.hourly_price} {run.currency} an hour and unit",
            "ChargeFrequency": "Usage-Based",
            **_period(start, end),
            "ConsumedQuantity": minutes * run.units,
            "ConsumedUnit": f"{kind}-Minutes",
            "ListUnitPrice": run.hourly_price,
            "PricingCategory": "Standard",
            "PricingQuantity": (minutes * run.units / 60).quantize(_QUANTITY_STEP, ROUND_HALF_EVEN),
            "PricingUnit": f"{kind}-Hours",
            "SkuId": run.flavor,
            "SkuMeter": f"{kind} Time",
            "SkuPriceId": run.flavor,
            "x_AbsentSeconds": seconds(absent(run.marks, run.absences, run.policy)),
            "x_BilledMinutes": minutes,
            "x_Positions": _json(run.positions),
            "x_WindowStart": _exact(start),
            "x_WindowEnd": _exact(end),
        }
    )


def _beside(
    charged: Charged, account: Account, month: Month, given: Adjustment, *, earlier: bool
) -> dict[str, Value]:
    """A credit, or a correction: of an earlier month's line as the specification calls one, of this month's
    line as an adjustment."""
    run = charged.run
    corrects = given.kind == "correction"
    what = "Correction" if corrects else "Credit"
    billed = window(run.marks, run.policy)
    period = (month.start, month.end) if billed is None else (billed.start, billed.end)
    return (
        _common(account, month, given.currency, given.amount)
        | _resource(charged)
        | {
            "ChargeCategory": ("Usage" if earlier else "Adjustment") if corrects else "Credit",
            "ChargeClass": "Correction" if corrects and earlier else None,
            "ChargeDescription": f"{what} for run {run.run} of job {run.job}: {given.reason}",
            "ChargeFrequency": "One-Time",
            **_period(*period),
            "x_AdjustmentRule": given.rule,
            "x_Positions": _positions(given),
        }
    )


def _resource(charged: Charged) -> dict[str, Value]:
    run = charged.run
    return {
        "ResourceId": run.job,
        "ResourceName": _text(charged.name, "job"),
        "ResourceType": "Job",
        "Tags": _json(charged.labels),
        "x_Image": _text(charged.image, "image"),
        "x_Outcome": None if run.marks.outcome is None else str(run.marks.outcome),
        "x_Policy": run.policy,
        "x_Run": Decimal(run.run),
        "x_Units": Decimal(run.units),
    }


def _period(start: datetime, end: datetime) -> dict[str, Value]:
    """In whole seconds, as the specification writes times; the end is the first one after."""
    first = start.replace(microsecond=0)
    last = end.replace(microsecond=0)
    if last < end or last == first:
        last += timedelta(seconds=1)
    return {"ChargePeriodStart": first, "ChargePeriodEnd": last}


def _text(written: str, kind: str) -> str:
    """What somebody wrote, where it would be a value of its own."""
    return f"{kind}: {written}" if not written.strip() or written.startswith(_FORMULA) else written


def _positions(given: Adjustment) -> str:
    return _json(list(dict.fromkeys((given.position, *given.cites))))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _exact(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
