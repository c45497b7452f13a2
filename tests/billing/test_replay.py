"""Every policy over very many runs, against a calculator that shares nothing with the product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from uuid import UUID

import pytest

from projections import prices
from projections.replay import Replay
from service.domain import events as ev
from service.domain.bills.book import PriceAsked, read_book
from service.domain.bills.compare import compared, sums
from service.domain.bills.run import Run
from service.domain.bills.statement import AsOf, Month, ended_at, statement
from service.domain.directory import PriceBook
from service.domain.pricing import POLICIES, amount, to_cents
from tests.billing import calculator
from tests.billing.calculator import Facts, Result, microseconds, note
from tests.billing.histories import BEGINNING, FLAVORS, MINUTE, History, lasting, moment, price_of

RUNS = 40_000
MILLION = 1_000_000

Known = dict[tuple[int, int], Facts]


def replayed(history: History) -> Iterator[tuple[Run, Facts]]:
    """Every run whose window is over, by the product's fold, with what the calculator noted of it."""
    replay = Replay()
    known: Known = {}
    for page in history.pages():
        for event in page:
            if event.job is not None and event.run is not None:
                facts = known.setdefault((event.job.int, event.run), Facts())
                note(facts, event.body, microseconds(event.occurred_at, BEGINNING), BEGINNING)
        for run in replay.feed(page):
            yield run, known.pop((UUID(run.job).int, run.run))
    for run in replay.open:
        if ended_at(run) is not None:
            yield run, known[UUID(run.job).int, run.run]


@pytest.fixture(scope="module")
def some() -> list[tuple[Run, Facts]]:
    return [(run, facts) for run, facts in replayed(History(10_000, seed=1)) if facts.flavor]


def test_every_policy_over_very_many_runs_equals_the_calculator() -> None:
    seen: Counter[str] = Counter()
    for run, facts in replayed(History(RUNS, seed=20210518)):
        expectations = {policy: calculator.result(facts, policy) for policy in POLICIES}
        first = expectations["2021-05"]
        assert Result(run.minutes, int(run.amount * MILLION), run.credited) == first, run
        for policy in POLICIES[1:]:
            line, expected = compared(run, run, policy, None), expectations[policy]
            due = 0 if expected.credited else expected.amount
            assert line.replayed is not None
            assert line.replayed.minutes == expected.minutes, run
            assert line.replayed.amount * MILLION == due, run
            seen[f"billed by {policy}"] += expected.minutes > 0
        seen["billed by 2021-05"] += first.minutes > 0
        seen["runs"] += 1
        seen["credited"] += first.credited
        seen["absent"] += bool(facts.gaps)
        seen["never ran"] += not facts.ran
    assert seen["runs"] >= RUNS
    assert min(seen.values()) > RUNS / 50, seen


def test_a_replay_keeps_only_what_is_not_over() -> None:
    """Also of a job that restarts at its timeout: its run before has no other end than the next one."""
    replay = Replay()
    over: set[tuple[str, int]] = set()
    last: dict[str, int] = {}
    for page in History(5_000, seed=11).pages():
        over |= {(run.job, run.run) for run in replay.feed(page)}
        last |= {str(event.job): event.run or 0 for event in page if event.job is not None}
        assert all(last[run.job] == run.run for run in replay.open)
    assert over.isdisjoint((run.job, run.run) for run in replay.open)
    assert len(over) + len(replay.open) == sum(last.values())


def test_totals_to_the_cent(some: list[tuple[Run, Facts]]) -> None:
    """All months together are what the calculator adds up, and so are the sums of a replay."""
    runs = [run for run, _ in some]
    as_of = AsOf(0, moment(MINUTE * 10**7))
    for policy in POLICIES:
        results = [calculator.result(facts, policy) for _, facts in some]
        whole = sum(each.amount for each in results)
        given = sum(each.amount for each in results if each.credited)
        months = {Month.of(at) for run in runs if (at := ended_at(run)) is not None}
        months |= {Month.of(run.marks.ended_at) for run in runs if run.marks.ended_at is not None}
        totals = [t for m in months for t in statement("vision", m, runs, (), as_of, policy).totals]
        assert sum(total.amount for total in totals) * MILLION == whole
        assert sum(total.credits for total in totals) * MILLION == -given
        (summed,) = sums(compared(run, run, policy, None) for run in runs)
        assert summed.replayed * MILLION == whole - given
        assert to_cents(summed.replayed) * 100 == round(Decimal(whole - given) / 10_000)


def test_another_price_book_over_many_runs_equals_the_calculator(some: list[tuple[Run, Facts]]) -> None:
    """Also where it has a gap: such runs have no price, and are in no sum."""
    random = Random(7)
    spans: dict[str, list[tuple[int, int, Decimal]]] = {}
    for flavor in FLAVORS[:2]:
        at, found = 0, []
        while at < 40_000 * MINUTE:
            end = at + 1000 * MINUTE + lasting(random)
            found.append((at, end, price_of(random)))
            at = end + random.choice((0, 0, 500 * MINUTE))
        spans[flavor] = found
    book = read_book("priceBook", _asked(spans, random), "EUR")
    unpriced = priced = 0
    for run, facts in some:
        line = compared(run, run, "2023-12", book)
        price = next((p for a, b, p in spans.get(facts.flavor, []) if a <= facts.placed_at < b), None)
        if price is None:
            assert line.replayed is None and line.difference is None
            assert line.why[0].startswith(f"the price book has no price for {facts.flavor} at ")
            unpriced += 1
            continue
        expected = calculator.result(facts, "2023-12", price)
        due = 0 if expected.credited else expected.amount
        assert line.replayed is not None
        assert line.replayed.minutes == expected.minutes
        assert line.replayed.amount * MILLION == due
        priced += 1
    assert min(unpriced, priced) > 1000


def _asked(spans: dict[str, list[tuple[int, int, Decimal]]], random: Random) -> list[PriceAsked]:
    """As somebody writes it, in any order."""
    entries = [
        PriceAsked(
            flavor=flavor,
            hourly_price=f"{price:f}",
            valid_from=moment(start).isoformat(),
            valid_to=moment(end).isoformat(),
        )
        for flavor, found in spans.items()
        for start, end, price in found
    ]
    random.shuffle(entries)
    return entries


def test_a_run_has_the_price_in_force_when_it_was_placed() -> None:
    """By the ledger's own book as it was then: what is set later changes nothing, whatever its validity."""
    book: PriceBook | None = None
    placed = lists = 0
    for page in History(4000, seed=3).pages():
        for event in page:
            if isinstance(event.body, ev.PricesSet):
                book = prices.evolve(book, event)
                lists += 1
    assert book is not None
    for page in History(4000, seed=3).pages():
        for event in page:
            if isinstance(event.body, ev.RunPlaced):
                then = PriceBook(tuple(e for e in book.entries if e.position < event.position))
                assert then.price(event.body.flavor, event.occurred_at) == (event.body.hourly_price, "EUR")
                placed += 1
    assert placed > 3000 and lists > 3


def test_the_published_examples_by_both() -> None:
    for minutes, units, price, cents in ((10 * 24 * 60, 2, "0.03", "14.40"), (5 * 60, 2, "1.93", "19.30")):
        assert to_cents(amount(minutes, units, Decimal(price))) == Decimal(cents)
        assert calculator.millionths(minutes, units, Decimal(price)) == Decimal(cents) * MILLION


def test_the_calculator_knows_a_wrong_bill() -> None:
    """It would be worth nothing if it agreed with everything."""
    facts = Facts()
    facts.phases = [
        (0, "INITIALIZING"),
        (MINUTE, "PENDING"),
        (2 * MINUTE, "RUNNING"),
        (3 * MINUTE + 1, "over"),
    ]
    facts.ran = facts.over = True
    facts.units, facts.price = 3, Decimal("0.5")
    assert calculator.result(facts, "2021-05") == Result(4, 100_000, False)
    assert calculator.result(facts, "2023-12") == Result(2, 50_000, False)
    assert calculator.result(facts, "2026-01") == Result(3, 75_000, False)
    facts.gaps = [(0, MINUTE // 2), (MINUTE // 4, MINUTE), (2 * MINUTE, 3 * MINUTE)]
    assert calculator.result(facts, "2021-05") == Result(3, 75_000, False)
