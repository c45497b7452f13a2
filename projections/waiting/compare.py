"""What a simulation says beside what happened: whose wait is another, by how much, and at what cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from statistics import median

from msgspec.structs import replace

from projections import prices
from projections.waiting.pieces import History, Piece, RunKey
from projections.waiting.simulate import Change, Fate, Simulation
from service.domain.bills.run import ZERO, under
from service.domain.directory import PriceBook
from service.domain.events import Event
from service.domain.pricing import Marks, PolicyName

#: Waits that differ by less are the same: the model's own grain.
GRAIN = timedelta(seconds=1)


@dataclass(frozen=True)
class Told:
    """What became of a run in one of the three. `wait`: from when it was first asked for to its place, or to
    the end of the window, or to when it was given up; None when it was refused or not asked for.

    `cost`: what it costs from its place to its end, as far as that is known; nothing for one without a place.
    """

    fate: Fate
    wait: timedelta | None
    cost: Decimal | None


@dataclass(frozen=True)
class Compared:
    """One run, as it was, as the model has it when nothing changes, and as it would be."""

    piece: Piece
    actual: Told
    baseline: Told
    whatif: Told
    currency: str = ""

    @property
    def difference(self) -> timedelta | None:
        """Of the waits, model against model; None where one of them is none."""
        if self.whatif.wait is None or self.baseline.wait is None:
            return None
        return self.whatif.wait - self.baseline.wait

    @property
    def moved(self) -> timedelta | None:
        """Of the places."""
        before, after = self.baseline.fate.placed_at, self.whatif.fate.placed_at
        return None if before is None or after is None else after - before

    @property
    def cost_difference(self) -> Decimal | None:
        if self.whatif.cost is None or self.baseline.cost is None:
            return None
        return self.whatif.cost - self.baseline.cost

    @property
    def changed(self) -> bool:
        difference = self.difference
        other = self.whatif.fate.outcome != self.baseline.fate.outcome
        return other or (difference is not None and abs(difference) >= GRAIN)


@dataclass(frozen=True)
class ModelError:
    """How far the model is from what happened, when nothing is changed: of `runs` that got their place in
    both, half are off by `median` or less and all by `most`; of `otherwise` runs another end came out."""

    runs: int
    median: timedelta
    most: timedelta
    otherwise: int


def compared(history: History, change: Change, policy: PolicyName | None = None) -> list[Compared]:
    """Every run that waited, or was asked for, from the change on."""
    nothing = Change(change.since)
    baseline = Simulation(history, nothing).run()
    whatif = Simulation(history, change).run()
    book = _Books(history.prices)
    found = []
    for key, piece in history.pieces.items():
        placed = piece.placed_at
        if placed is not None and placed < change.since:
            continue
        fates = (_actual(history, piece, baseline[key]), baseline[key], whatif[key])
        was, same, other = (
            Told(fate, _wait(history, fate), _cost(piece, fate, book, policy)) for fate in fates
        )
        found.append(Compared(piece, was, same, other, _currency(piece, book, change.since)))
    return found


def model_error(found: Iterable[Compared]) -> ModelError:
    off, otherwise = [], 0
    for each in found:
        before, after = each.actual.fate, each.baseline.fate
        if before.outcome != after.outcome:
            otherwise += 1
        elif before.placed_at is not None and after.placed_at is not None:
            off.append(abs(after.placed_at - before.placed_at))
    middle = timedelta(seconds=median(each.total_seconds() for each in off)) if off else timedelta()
    return ModelError(len(off), middle, max(off, default=timedelta()), otherwise)


def _actual(history: History, piece: Piece, same: Fate) -> Fate:
    """What happened; that the node could never hold it is seen by the model's own eyes."""
    first, last, placed = piece.asked[0].at, piece.asked[-1].at, piece.placed_at
    if not piece.taken:
        return Fate("refused", first)
    if placed is not None and placed <= history.end:
        return Fate("placed", first, last, placed)
    if piece.given_up is not None and piece.given_up.at <= history.end:
        return Fate("given-up", first, last)
    return Fate("never-fits" if same.outcome == "never-fits" else "waiting", first, last)


def _wait(history: History, piece_fate: Fate) -> timedelta | None:
    fate = piece_fate
    match fate.outcome:
        case "placed" if fate.placed_at is not None:
            return fate.placed_at - fate.asked_at
        case "waiting" | "never-fits":
            return history.end - fate.asked_at
        case _:
            return None


def _cost(piece: Piece, fate: Fate, book: _Books, policy: PolicyName | None) -> Decimal | None:
    if fate.outcome != "placed" or fate.placed_at is None:
        return ZERO
    course = piece.course
    if course is None or course.over is None:
        return None  # nobody knows yet how long it runs
    marks, gaps = course.shifted(fate.placed_at)
    if fate.cut_at is not None:
        marks = _cut(marks, fate.cut_at)
    hourly = course.bill.hourly_price
    if course.estimated or fate.placed_at != course.placed_at:
        price = book.price(course.bill.flavor, fate.placed_at)
        hourly = hourly if price is None else price[0]
    run = replace(course.bill, marks=marks, absences=gaps, hourly_price=hourly, units=piece.resources.units)
    return under(run, policy).net


def _cut(marks: Marks, at: datetime) -> Marks:
    """Of a run that was stopped then."""
    reached = {
        name: when if when is not None and when <= at else None
        for name, when in (
            ("initializing_at", marks.initializing_at),
            ("pending_at", marks.pending_at),
            ("running_at", marks.running_at),
        )
    }
    left = at if reached["running_at"] is not None else None
    return replace(marks, **reached, left_running_at=left, finalizing_at=at, ended_at=at)


def _currency(piece: Piece, book: _Books, at: datetime) -> str:
    if piece.course is not None and piece.course.bill.currency:
        return piece.course.bill.currency
    price = book.price(piece.resources.flavor, at)
    return price[1] if price else ""


class _Books:
    """The price book as it was known at each moment: a run is priced by the one of its place."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._books: list[tuple[datetime, PriceBook]] = []
        book: PriceBook | None = None
        for event in events:
            book = prices.evolve(book, event)
            self._books.append((event.recorded_at, book))

    def price(self, flavor: str, at: datetime) -> tuple[Decimal, str] | None:
        known = [book for since, book in self._books if since <= at]
        return known[-1].price(flavor, at) if known else None


def by_run(found: Iterable[Compared]) -> dict[RunKey, Compared]:
    return {each.piece.key: each for each in found}
