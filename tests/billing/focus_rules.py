"""The column rules of FOCUS 1.2, written down from the specification, and a check of rows against them.

It knows nothing of how the service makes its rows. A row is a mapping of column to value: text as a CSV file
has it (nothing for null), or what a Parquet file holds. The specification is at
https://focus.finops.org/focus-specification/v1-2/; each rule here is in the words of its column's page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

MUST, CONDITIONAL, RECOMMENDED = "mandatory", "conditional", "recommended"


class Rule(NamedTuple):
    """Of one column: its data type, whether it may be null, its feature level, and its allowed values."""

    kind: str
    nulls: bool
    level: str
    allowed: frozenset[str] | None = None


def _one_of(*values: str) -> frozenset[str]:
    return frozenset(values)


RULES: dict[str, Rule] = {
    "AvailabilityZone": Rule("string", True, RECOMMENDED),
    "BilledCost": Rule("decimal", False, MUST),
    "BillingAccountId": Rule("string", False, MUST),
    "BillingAccountName": Rule("string", True, MUST),
    "BillingAccountType": Rule("string", True, CONDITIONAL),
    "BillingCurrency": Rule("string", False, MUST),
    "BillingPeriodEnd": Rule("datetime", False, MUST),
    "BillingPeriodStart": Rule("datetime", False, MUST),
    "CapacityReservationId": Rule("string", True, CONDITIONAL),
    "CapacityReservationStatus": Rule("string", True, CONDITIONAL, _one_of("Used", "Unused")),
    "ChargeCategory": Rule(
        "string", False, MUST, _one_of("Usage", "Purchase", "Tax", "Credit", "Adjustment")
    ),
    "ChargeClass": Rule("string", True, MUST, _one_of("Correction")),
    "ChargeDescription": Rule("string", True, MUST),
    "ChargeFrequency": Rule("string", False, RECOMMENDED, _one_of("One-Time", "Recurring", "Usage-Based")),
    "ChargePeriodEnd": Rule("datetime", False, MUST),
    "ChargePeriodStart": Rule("datetime", False, MUST),
    "CommitmentDiscountCategory": Rule("string", True, CONDITIONAL, _one_of("Spend", "Usage")),
    "CommitmentDiscountId": Rule("string", True, CONDITIONAL),
    "CommitmentDiscountName": Rule("string", True, CONDITIONAL),
    "CommitmentDiscountQuantity": Rule("decimal", True, CONDITIONAL),
    "CommitmentDiscountStatus": Rule("string", True, CONDITIONAL, _one_of("Used", "Unused")),
    "CommitmentDiscountType": Rule("string", True, CONDITIONAL),
    "CommitmentDiscountUnit": Rule("string", True, CONDITIONAL),
    "ConsumedQuantity": Rule("decimal", True, CONDITIONAL),
    "ConsumedUnit": Rule("string", True, CONDITIONAL),
    "ContractedCost": Rule("decimal", False, MUST),
    "ContractedUnitPrice": Rule("decimal", True, CONDITIONAL),
    "EffectiveCost": Rule("decimal", False, MUST),
    "InvoiceId": Rule("string", True, RECOMMENDED),
    "InvoiceIssuerName": Rule("string", False, MUST),
    "ListCost": Rule("decimal", False, MUST),
    "ListUnitPrice": Rule("decimal", True, CONDITIONAL),
    "PricingCategory": Rule(
        "string", True, CONDITIONAL, _one_of("Standard", "Dynamic", "Committed", "Other")
    ),
    "PricingCurrency": Rule("string", False, CONDITIONAL),
    "PricingCurrencyContractedUnitPrice": Rule("decimal", True, CONDITIONAL),
    "PricingCurrencyEffectiveCost": Rule("decimal", False, CONDITIONAL),
    "PricingCurrencyListUnitPrice": Rule("decimal", True, CONDITIONAL),
    "PricingQuantity": Rule("decimal", True, MUST),
    "PricingUnit": Rule("string", True, MUST),
    "ProviderName": Rule("string", False, MUST),
    "PublisherName": Rule("string", False, MUST),
    "RegionId": Rule("string", True, CONDITIONAL),
    "RegionName": Rule("string", True, CONDITIONAL),
    "ResourceId": Rule("string", True, CONDITIONAL),
    "ResourceName": Rule("string", True, CONDITIONAL),
    "ResourceType": Rule("string", True, CONDITIONAL),
    "ServiceCategory": Rule(
        "string",
        False,
        MUST,
        _one_of(
            *("AI and Machine Learning", "Analytics", "Business Applications", "Compute", "Databases"),
            *("Developer Tools", "Multicloud", "Identity", "Integration", "Internet of Things"),
            *("Management and Governance", "Media", "Migration", "Mobile", "Networking", "Security"),
            *("Storage", "Web", "Other"),
        ),
    ),
    "ServiceName": Rule("string", False, MUST),
    "ServiceSubcategory": Rule("string", False, RECOMMENDED),
    "SkuId": Rule("string", True, CONDITIONAL),
    "SkuMeter": Rule("string", True, CONDITIONAL),
    "SkuPriceDetails": Rule("json", True, CONDITIONAL),
    "SkuPriceId": Rule("string", True, CONDITIONAL),
    "SubAccountId": Rule("string", True, CONDITIONAL),
    "SubAccountName": Rule("string", True, CONDITIONAL),
    "SubAccountType": Rule("string", True, CONDITIONAL),
    "Tags": Rule("json", True, CONDITIONAL),
}
#: Subcategories of the one category that is looked at here.
AI = _one_of(
    *("AI Platforms", "Bots", "Generative AI", "Machine Learning", "Natural Language Processing"),
    "Other (AI and Machine Learning)",
)
#: Present, because what they depend on is so here: a published price list, measured usage, resources, tags.
PRESENT_HERE = _one_of(
    *("ListUnitPrice", "ConsumedQuantity", "ConsumedUnit", "ResourceId", "ResourceName", "ResourceType"),
    *("SkuId", "SkuMeter", "SkuPriceId", "SkuPriceDetails", "Tags"),
)
COSTS = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")
#: Half of the last digit that a cost has, and a little for the last one of a quantity.
TOLERANCE = Decimal("0.0000005001")

_NUMBER = re.compile(r"\A-?(0|[1-9][0-9]*)(\.[0-9]+)?(E-?[0-9]+)?\Z")
_TIME = re.compile(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")
_UNIT = re.compile(r"\A[A-Z][A-Za-z]*(-(Seconds|Minutes|Hours|Days|Months|Years))?\Z")
_CUSTOM = re.compile(r"\Ax_[A-Z][A-Za-z0-9]*\Z")


def problems_of_header(names: Sequence[str]) -> list[str]:
    """What is wrong with the columns of a dataset."""
    needed = {name for name, rule in RULES.items() if rule.level == MUST} | PRESENT_HERE
    found = [f"{name} MUST be present" for name in sorted(needed - set(names))]
    found += [f"{name} stands twice" for name in sorted({n for n in names if names.count(n) > 1})]
    custom = [name for name in names if name not in RULES]
    found += [f"{name} is neither of FOCUS nor x_PascalCase" for name in custom if not _CUSTOM.match(name)]
    found += [f"{name} has more than 50 characters" for name in names if len(name) > 50]
    if [name for name in names if name in RULES] + custom != list(names):
        found.append("custom columns SHOULD be listed after all FOCUS columns")
    return found


def read(kind: str, text: str) -> Any:
    """A cell of a CSV file. Raises `ValueError` for one that is not in the column's format."""
    if kind == "decimal":
        if not _NUMBER.match(text):
            raise ValueError(f"{text!r} is no number of NumericFormat")
        return Decimal(text)
    if kind == "datetime":
        if not _TIME.match(text):
            raise ValueError(f"{text!r} is not YYYY-MM-DDTHH:mm:ssZ")
        return datetime.fromisoformat(text)
    return text


def from_text(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of a CSV file, typed: an empty cell is null."""
    typed: dict[str, Any] = {}
    for name, text in row.items():
        kind = RULES[name].kind if name in RULES else "string"
        typed[name] = None if text == "" else read(kind, text)
    return typed


def problems(row: Mapping[str, Any]) -> list[str]:
    """What is wrong with a typed row."""
    found = [problem for name, rule in RULES.items() if name in row for problem in _cell(name, rule, row)]
    return found or [*_kinds(row), *_pricing(row), *_together(row)]


def _cell(name: str, rule: Rule, row: Mapping[str, Any]) -> Iterable[str]:
    value = row[name]
    if value is None:
        if not rule.nulls:
            yield f"{name} MUST NOT be null"
        return
    wanted = {"decimal": Decimal, "datetime": datetime}.get(rule.kind, str)
    if not isinstance(value, wanted):
        yield f"{name} MUST be of type {rule.kind}, not {type(value).__name__}"
        return
    if isinstance(value, str) and not value.strip():
        yield f"{name} MUST NOT use empty strings"
    if isinstance(value, datetime) and (value.utcoffset() is None or value.microsecond):
        yield f"{name} MUST be in UTC, to the second"
    if rule.allowed is not None and value not in rule.allowed:
        yield f"{name} MUST be one of the allowed values, not {value!r}"
    if rule.kind == "json":
        yield from _key_values(name, value)
    if name.endswith("Currency") and not re.match(r"\A[A-Z]{3}\Z", value):
        yield f"{name} MUST be an ISO 4217 code"
    if name.endswith("Unit") and not _UNIT.match(value):
        yield f"{name} SHOULD conform to UnitFormat: {value!r}"
    if name.endswith("UnitPrice") and value < 0:
        yield f"{name} MUST be a non-negative decimal value"


def _key_values(name: str, text: str) -> Iterable[str]:
    pairs: list[str] = []

    def noting(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs.extend(key for key, _ in found)
        return dict(found)

    value = json.loads(text, object_pairs_hook=noting)
    if not isinstance(value, dict) or len(pairs) != len(set(pairs)):
        yield f"{name} MUST be one JSON object with unique keys"
    elif any(isinstance(each, dict | list) for each in value.values()):
        yield f"{name}: values MUST NOT be an object or an array"


def _kinds(row: Mapping[str, Any]) -> Iterable[str]:
    """What depends on the charge's category and class."""
    category, corrects = row["ChargeCategory"], row["ChargeClass"] == "Correction"
    if category == "Purchase" and row["ChargeFrequency"] == "Usage-Based":
        yield 'ChargeFrequency MUST NOT be "Usage-Based" when ChargeCategory is "Purchase"'
    named = ("ListUnitPrice", "PricingQuantity", "PricingCategory", "SkuId", "SkuPriceId")
    if category == "Tax":
        yield from (f'{name} MUST be null when ChargeCategory is "Tax"' for name in named if row[name])
    if category in ("Usage", "Purchase") and not corrects:
        yield from (
            f'{name} MUST NOT be null when ChargeCategory is "{category}" and ChargeClass is not "Correction"'
            for name in named
            if row[name] is None
        )
    if category != "Usage" and row["ConsumedQuantity"] is not None:
        yield 'ConsumedQuantity MUST be null when ChargeCategory is not "Usage"'
    if category == "Usage" and not corrects and row["ConsumedQuantity"] is None:
        yield 'ConsumedQuantity MUST NOT be null when ChargeClass is not "Correction"'
    if category == "Credit":
        for cost in COSTS[1:]:
            if row[cost] != row["BilledCost"]:
                yield f"{cost} of a credit MUST match the BilledCost"
    if row["ServiceCategory"] == "AI and Machine Learning" and row["ServiceSubcategory"] not in AI:
        yield "ServiceSubcategory MUST have its parent ServiceCategory"


def _pricing(row: Mapping[str, Any]) -> Iterable[str]:
    """Costs are the product of unit prices and the quantity."""
    quantity = row["PricingQuantity"]
    for price, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
        unit = row.get(price)
        if unit is None:
            if row[cost] != row["BilledCost"]:
                yield f"{cost} of a charge unrelated to other charges MUST match the BilledCost"
        elif (
            quantity is not None
            and row["ChargeClass"] is None
            and abs(unit * quantity - row[cost]) > TOLERANCE
        ):
            yield f"the product of {price} and PricingQuantity MUST match the {cost}"
    if row["ProviderName"] != row["InvoiceIssuerName"] and row["BilledCost"]:
        yield "BilledCost MUST be 0 for charges where payments are received by a third party"


#: Null with another column, and not null with it.
_PAIRS = (
    ("ConsumedUnit", "ConsumedQuantity"),
    ("PricingUnit", "PricingQuantity"),
    ("ResourceType", "ResourceId"),
)
#: Null when another column is.
_FOLLOWS = (
    ("ResourceName", "ResourceId"),
    ("SkuMeter", "SkuId"),
    ("SkuPriceDetails", "SkuPriceId"),
    ("ListUnitPrice", "SkuPriceId"),
    ("PricingQuantity", "SkuPriceId"),
    ("PricingCategory", "SkuPriceId"),
    ("ConsumedQuantity", "SkuPriceId"),
)


def _together(row: Mapping[str, Any]) -> Iterable[str]:
    for one, other in _PAIRS:
        if (row[one] is None) != (row[other] is None):
            yield f"{one} MUST be null when {other} is, and only then"
    for one, other in _FOLLOWS:
        if row[other] is None and row[one] is not None:
            yield f"{one} MUST be null when {other} is null"
    for period in ("BillingPeriod", "ChargePeriod"):
        if not row[f"{period}Start"] < row[f"{period}End"]:
            yield f"{period}End MUST be the exclusive end bound"
    start, end = row["BillingPeriodStart"].astimezone(UTC), row["BillingPeriodEnd"].astimezone(UTC)
    if (start.day, end.day) != (1, 1) or (end - start).days not in (28, 29, 30, 31):
        yield "the billing period is one calendar month here"
    if row["ResourceName"] is not None and row["ResourceName"] == row["ResourceId"]:
        yield "ResourceName MUST NOT duplicate ResourceId"


def check(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """All that is wrong with a dataset, by line."""
    found = problems_of_header(names)
    skus: dict[str, str | None] = {}
    for line, row in enumerate(rows, start=2):
        found += [f"line {line}: {problem}" for problem in problems(row)]
        price, sku = row.get("SkuPriceId"), row.get("SkuId")
        if price is not None and skus.setdefault(price, sku) != sku:
            found.append(f"line {line}: SkuPriceId MUST have one and only one parent SkuId")
    return found
