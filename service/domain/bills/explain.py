"""Why a run has these minutes and this amount, in sentences, each with the events that it stands on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from service.domain import events as ev
from service.domain.bills.book import stamp
from service.domain.bills.compare import BILLS
from service.domain.bills.faults import RULE
from service.domain.bills.run import Run
from service.domain.bills.statement import Month, ended_at, so_far
from service.domain.directory import PriceBook
from service.domain.events import Event
from service.domain.pricing import Interval, absent, seconds, window
from service.domain.states import State

_MINUTE = timedelta(minutes=1)


class Sentence(msgspec.Struct, frozen=True, rename="camel"):
    """One step of the reckoning, and the positions of the events that prove it."""

    text: str
    positions: tuple[int, ...] = ()


class Explanation(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The whole reckoning of one run's bill. `net` is what it costs after credits and corrections.

    Of a run that is not `over` it is as if it ended now, as the statement says what it costs so far.
    """

    job: str
    run: int
    policy: str
    minutes: int
    amount: Decimal
    net: Decimal
    currency: str
    over: bool
    sentences: tuple[Sentence, ...]


def explained(known: Run, events: Iterable[Event], book: PriceBook, now: datetime) -> Explanation:
    """`events` are all of the run's own, `book` is the ledger's, `now` is the moment of which `known` is."""
    ours = set(known.positions)
    told = [event for event in events if event.position in ours]
    over = ended_at(known) is not None
    run = known if over else so_far(known, now)
    sentences = [*_placed(run, told, book), *_course(run, told), *_before(told)]
    billed = window(run.marks, run.policy)
    if billed is not None and not over:
        text = f"The run is not over and stands on no total; what follows is as if it ended at {stamp(now)}."
        sentences.append(Sentence(text))
    if billed is not None:
        sentences += [_rule(run, billed, told), *_left_out(run, told), _begun(run, billed), _reckoned(run)]
    else:
        sentences.append(_unbilled(run, told))
    sentences += [*_beside(run), _end(run, over=over)]
    return Explanation(
        job=run.job,
        run=run.run,
        policy=run.policy,
        minutes=run.minutes,
        amount=run.amount,
        net=run.net,
        currency=run.currency,
        over=over,
        sentences=tuple(sentences),
    )


def _placed(run: Run, told: Sequence[Event], book: PriceBook) -> list[Sentence]:
    event = next((each for each in told if isinstance(each.body, ev.RunPlaced)), None)
    if event is None:
        return [Sentence("The run was never placed on a node.", _positions(told))]
    money = f"{run.hourly_price} {run.currency} per hour and unit"
    text = (
        f"The run was placed at {stamp(event.occurred_at)} with {_count(run.units, 'unit')} of {run.flavor}, "
        f"at {money}"
    )
    entry = book.entry(run.flavor, event.occurred_at, before=event.position)
    if entry is None:
        return [Sentence(f"{text}.", (event.position,))]
    since = f"the price book's entry of that moment, valid from {stamp(entry.valid_from)}"
    return [Sentence(f"{text}: {since}.", (event.position, entry.position))]


def _course(run: Run, told: Sequence[Event]) -> list[Sentence]:
    """What states it went through, as far as any policy looks at them."""
    moves = [event for event in told if isinstance(event.body, ev.Move) and event.body.target not in _EARLY]
    seen: list[Event] = []
    for event in moves:
        if not seen or seen[-1].body.target is not event.body.target:
            seen.append(event)
    if not seen:
        return []
    steps = ", ".join(f"{event.body.target} from {stamp(event.occurred_at)} on" for event in seen)
    return [Sentence(f"It was {steps}.", _positions(seen))]


def _before(told: Sequence[Event]) -> list[Sentence]:
    """That its process had ended before what the states say."""
    return [
        Sentence(
            f"Its process had ended by itself at {stamp(event.body.ended_at)}, before it was told to stop; "
            "it is billed until then.",
            (event.position,),
        )
        for event in told
        if isinstance(event.body, ev.RunExited) and event.body.ended_at is not None
    ]


#: States before anything that a policy bills.
_EARLY = frozenset({State.QUEUED})


def _rule(run: Run, billed: Interval, told: Sequence[Event]) -> Sentence:
    at = (billed.start, billed.end)
    proofs = [event for event in told if isinstance(event.body, ev.Move) and _happened(event) in at]
    text = (
        f"Policy {run.policy} bills {BILLS[run.policy]}: from {stamp(billed.start)} to {stamp(billed.end)}, "
        f"which is {_lasted(billed.end - billed.start)}."
    )
    return Sentence(text, _positions(proofs))


def _happened(event: Event) -> datetime:
    """When what is billed by an event happened."""
    return getattr(event.body, "ended_at", None) or event.occurred_at


def _left_out(run: Run, told: Sequence[Event]) -> list[Sentence]:
    """Each absence, and what all of them leave out together."""
    adopted = [event for event in told if isinstance(event.body, ev.RunAdopted)]
    found = []
    for event in adopted:
        gap = Interval(event.body.absent_since, event.occurred_at)
        out = absent(run.marks, (gap,), run.policy)
        said = f"{_lasted(out)} of it are left out" if out else "nothing of it is left out"
        text = f"Nobody looked after the run from {stamp(gap.start)} to {stamp(gap.end)}; {said}"
        why = "a container that runs is worth its price, and what is not billed anyway is not left out twice"
        found.append(Sentence(f"{text}." if out else f"{text}: {why}.", (event.position,)))
    if len(adopted) > 1:
        lost = absent(run.marks, run.absences, run.policy)
        text = f"Each moment counts once, so together that leaves {_lasted(lost)} out."
        found.append(Sentence(text, _positions(adopted)))
    return found


def _begun(run: Run, billed: Interval) -> Sentence:
    rest = billed.end - billed.start - absent(run.marks, run.absences, run.policy)
    whole, more = divmod(rest, _MINUTE)
    if not more:
        return Sentence(f"{_lasted(rest)} are exactly {_count(whole, 'minute')}.")
    begun = f"{_count(whole, 'full minute')} and {_lasted(more)} of another, which counts whole"
    return Sentence(f"{_lasted(rest)} are {begun}: {_count(run.minutes, 'begun minute')}.")


def _reckoned(run: Run) -> Sentence:
    exact = run.hourly_price * run.units * run.minutes
    text = (
        f"{_count(run.minutes, 'minute')} x {_count(run.units, 'unit')} x {run.hourly_price} {run.currency} "
        f"/ 60 = {run.amount} {run.currency}"
    )
    if exact != run.amount * 60:
        text += ", rounded to a millionth, half to even"
    return Sentence(f"{text}.")


def _unbilled(run: Run, told: Sequence[Event]) -> Sentence:
    if ended_at(run) is None and run.marks.finalizing_at is None:
        return Sentence("The run is not over, and has not been RUNNING: it is billed only if it gets there.")
    text = "It never was RUNNING, and only runs that reach RUNNING are billed: no minutes, no amount."
    return Sentence(text, _positions([event for event in told if isinstance(event.body, ev.Move)][-1:]))


def _beside(run: Run) -> list[Sentence]:
    found = []
    if run.fault is not None:
        whole = f"the whole amount, {run.amount} {run.currency}, is credited"
        given = whole if run.amount else "the run is credited, and there is no amount"
        text = f"By the rule {RULE} {given}: {run.fault.reason}."
        found.append(Sentence(text, (run.fault.position,)))
    for each in run.ordered:
        what = "a credit of" if each.kind == "credit" else "a correction by"
        amount = -each.amount if each.kind == "credit" else each.amount
        text = f"At {stamp(each.at)} {what} {amount} {each.currency} was ordered: {each.reason}"
        found.append(Sentence(f"{text.rstrip('.')}.", (each.position, *each.cites)))
    return found


def _end(run: Run, *, over: bool) -> Sentence:
    at = ended_at(run)
    listed = over and at is not None and run.marks.initializing_at is not None
    where = f", and stands on the statement of {Month.of(at)}" if at is not None and listed else ""
    costs = f"The run costs {run.net} {run.currency}{'' if over else ' so far'}{where}."
    return Sentence(costs.replace("  ", " "))


def _positions(events: Iterable[Event]) -> tuple[int, ...]:
    return tuple(event.position for event in events)


def _count(many: int, what: str) -> str:
    return f"{many} {what}" if many == 1 else f"{many} {what}s"


def _lasted(time: timedelta) -> str:
    """Exactly, in words: `1 d 2 h 3 min 4.5 s`."""
    rest = time
    words = []
    for unit, name in ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (_MINUTE, "min")):
        count, rest = divmod(rest, unit)
        words += [f"{count} {name}"] if count else []
    if rest or not words:
        words.append(f"{seconds(rest).normalize():f} s")
    return " ".join(words)
