"""Deciding credits, corrections and prices. What was billed is never edited: events stand beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.bills.book import stamp
from service.domain.bills.reading import AMOUNT_DIGITS, MAX_AMOUNT, MAX_PRICE, PRICE_DIGITS, digits
from service.domain.bills.run import Run
from service.domain.bills.statement import ended_at
from service.domain.context import Context, Decision
from service.domain.pricing import amount
from service.domain.states import State
from service.errors import Conflict, Invalid, NotFound, WrongState

MAX_MINUTES = 100_000_000
MAX_REASON_CHARS = 500
MAX_CITES = 50
#: A price that is valid from outside of these years is a slip of the pen.
_FIRST, _AFTER_LAST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)


def prices(command: cmd.SetPrices, context: Context) -> ev.Body:
    """The price list as an event. Raises `Invalid`."""
    for flavor, price in command.prices.items():
        _check_price(f"prices.{flavor}", price)
        if command.source == "order" and digits(price) > PRICE_DIGITS:
            raise Invalid(f"prices.{flavor}", str(price), f"at most {PRICE_DIGITS} digits after the point")
    if not command.prices:
        raise Invalid("prices", "an empty list", "at least one flavor and its price")
    if command.valid_from is not None and command.valid_from.utcoffset() is None:
        raise Invalid("validFrom", str(command.valid_from), "a time with its offset from UTC")
    if command.valid_from is not None and not _FIRST <= command.valid_from < _AFTER_LAST:
        raise Invalid("validFrom", stamp(command.valid_from), "a time of the years 2000 to 2200, in UTC")
    return ev.PricesSet(
        prices=command.prices,
        valid_from=command.valid_from or context.now,
        currency=command.currency,
        source=command.source,
    )


def decide(command: cmd.BillCommand, context: Context) -> list[Decision]:
    """Raises `Invalid`, `NotFound` or `WrongState`."""
    if context.project is None:
        raise NotFound(f"there is no project {command.project}")
    _check_words(command)
    match command:
        case cmd.GrantCredit():
            body: ev.Body = _granted(command, context)
        case cmd.CorrectBill():
            body = _corrected(command, context)
        case _:
            raise TypeError(f"no rule for {type(command).__name__}")
    return [
        Decision(
            body=body, occurred_at=context.now, project=command.project, job=command.job, run=command.run
        )
    ]


def _granted(command: cmd.GrantCredit, context: Context) -> ev.CreditGranted:
    _check_amount("amount", command.amount)
    if not command.amount:
        raise Invalid("amount", str(command.amount), "a credit is more than nothing")
    if command.job is None:
        known = sorted({entry.currency for entry in context.prices.entries})
        if command.currency not in known:
            allowed = f"prices are in {', '.join(known) or 'no currency yet'}"
            raise Invalid("currency", command.currency, allowed)
    else:
        run = _over(command, context)
        if command.currency != run.currency:
            raise Invalid("currency", command.currency, f"the run is billed in {run.currency}")
        if command.amount > run.net:
            raise Invalid(
                "amount", str(command.amount), f"after its credits and corrections the run costs {run.net}"
            )
    return ev.CreditGranted(
        amount=command.amount, currency=command.currency, reason=command.reason, cites=command.cites
    )


def _corrected(command: cmd.CorrectBill, context: Context) -> ev.BillCorrected:
    run = _over(command, context)
    if run.credited:
        raise WrongState(f"run {run.run} of job {run.job} is credited in full: {_reason(run)}")
    minutes, price = _named(command, run)
    corrected = _should_be(command, run, minutes, price)
    ordered = [each.amount for each in run.ordered if each.kind == "correction"]
    before = sum(ordered, run.amount)
    difference = corrected - before
    if not difference:
        raise Conflict(f"run {run.run} of job {run.job} comes to {before} {run.currency} already")
    if run.net + difference < 0:
        raise Invalid(
            "amount",
            str(corrected),
            f"with the credits of {run.net - before} the run would cost less than nothing",
        )
    return ev.BillCorrected(
        before=before,
        corrected=corrected,
        difference=difference,
        currency=run.currency,
        reason=command.reason,
        minutes=minutes,
        hourly_price=price,
        cites=command.cites,
    )


def _named(command: cmd.CorrectBill, run: Run) -> tuple[int | None, Decimal | None]:
    """Minutes and price of a correction: what is not named is as the last one left it, else as in the line.
    Neither, of one that names an amount."""
    if command.minutes is None and command.hourly_price is None:
        return None, None
    minutes, price = run.corrected_to
    return (
        minutes if command.minutes is None else command.minutes,
        price if command.hourly_price is None else command.hourly_price,
    )


def _should_be(command: cmd.CorrectBill, run: Run, minutes: int | None, price: Decimal | None) -> Decimal:
    """The amount that is named, or the one that follows."""
    if command.amount is not None:
        if minutes is not None or price is not None:
            raise Invalid("amount", str(command.amount), "name an amount, or what it follows from")
        _check_amount("amount", command.amount)
        return command.amount
    if minutes is None or price is None:
        raise Invalid("amount", None, "name amount, or minutes, hourlyPrice or both")
    if not 0 <= minutes <= MAX_MINUTES:
        raise Invalid("minutes", minutes, f"0 to {MAX_MINUTES}")
    if command.hourly_price is not None:
        _check_price("hourlyPrice", price)
        if digits(price) > PRICE_DIGITS:
            raise Invalid("hourlyPrice", str(price), f"at most {PRICE_DIGITS} digits after the point")
    return amount(minutes, run.units, price)


def _over(command: cmd.GrantCredit | cmd.CorrectBill, context: Context) -> Run:
    """The bill of the run that the command names: of one that was placed, and is over.

    A window that has closed is not enough: a run in FINALIZING may yet end in ERROR, and the rule would give
    back all that it was billed, whatever had been ordered beside it by then. The bill cannot tell, as a run
    that was restarted has no end of its own; so the job is asked.
    """
    run = context.bill
    if run is None or run.project != command.project:
        raise NotFound(f"there is no run {command.run} of job {command.job} in project {command.project}")
    if ended_at(run) is None:
        raise WrongState(f"run {run.run} of job {run.job} is not over: its amount is not known yet")
    if run.marks.initializing_at is None:
        raise WrongState(f"run {run.run} of job {run.job} was never placed: it has no price and no amount")
    job = context.job
    if job is not None and job.run == run.run and job.state is State.FINALIZING:
        raise WrongState(
            f"run {run.run} of job {run.job} is FINALIZING: its bill is final when its volumes are pushed"
        )
    return run


def _reason(run: Run) -> str:
    return run.fault.reason if run.fault else ""


def _check_words(command: cmd.BillCommand) -> None:
    reason = command.reason
    if not reason.strip() or len(reason) > MAX_REASON_CHARS or any(ord(char) < 32 for char in reason):
        raise Invalid("reason", reason, f"1 to {MAX_REASON_CHARS} characters of plain text, in one line")
    if len(command.cites) > MAX_CITES or len(set(command.cites)) != len(command.cites):
        raise Invalid("cites", f"{len(command.cites)} positions", f"at most {MAX_CITES}, each once")
    for position in command.cites:
        if position < 1:
            raise Invalid("cites", position, "the position of an event, 1 or more")


def _check_amount(field: str, value: Decimal) -> None:
    if not value.is_finite() or not 0 <= value <= MAX_AMOUNT:
        raise Invalid(field, str(value), f"an amount, 0 to {MAX_AMOUNT}")
    if digits(value) > AMOUNT_DIGITS:
        raise Invalid(field, str(value), f"at most {AMOUNT_DIGITS} digits after the point")


def _check_price(field: str, value: Decimal) -> None:
    if not value.is_finite() or not 0 <= value <= MAX_PRICE:
        raise Invalid(field, str(value), f"a price per hour and unit, 0 to {MAX_PRICE}")
