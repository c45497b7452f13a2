"""What a request for events asks: which, and from where on. All of it is refused before anything is sent."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from aiohttp import web
from msgspec import Meta

from service.api import scope
from service.api.query import Query
from service.api.scope import Level
from service.domain.cloudevents import TYPE_PREFIX
from service.domain.directory import Token
from service.domain.events import BODIES
from service.domain.filters import EventFilter
from service.domain.nearest import hint
from service.domain.selectors import parse_selector
from service.domain.states import State
from service.errors import Invalid
from service.ledger.read import Head

NOW = "now"
LAST_EVENT_ID = "Last-Event-ID"
MOST_JOBS = 100
MOST_LIMIT = 1000
_POSITION = f"a position (a whole number from 0), or {NOW}"
_MOST_DIGITS = 19
#: One for all: each of thousands of streams would else have three of its own.
_ALL: frozenset[Any] = frozenset()


class EventsAsked(Query, frozen=True):
    """`after`: a position, for all events that follow it (0, the default, for all there are), or `now`. The
    others narrow: `job`, `type` and `state` may stand more than once each; `state` wants the events by which
    a job came into one of these; `labelSelector` goes by the labels that the job had right after the event.
    `limit` is for a page as JSON."""

    after: str = "0"
    job: Annotated[tuple[UUID, ...], Meta(max_length=MOST_JOBS)] = ()
    type: tuple[str, ...] = ()
    state: tuple[State, ...] = ()
    label_selector: str | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_LIMIT)] = 100


def filter_of(asked: EventsAsked, token: Token) -> EventFilter:
    """What is wanted, within what the token may see. Raises `Invalid`."""
    selector = None if not asked.label_selector else parse_selector("labelSelector", asked.label_selector)
    return EventFilter(
        project=token.project,
        jobs=frozenset(asked.job) if asked.job else _ALL,
        types=frozenset(map(_type, asked.type)) if asked.type else _ALL,
        states=frozenset(asked.state) if asked.state else _ALL,
        selector=selector,
        scope=scope.selector_of(token),
        tokens=scope.level_of(token) >= Level.ADMINISTER,
    )


def cursor_of(request: web.Request, asked: EventsAsked, head: Head, *, resumes: bool = False) -> int:
    """The position to begin after. Raises `Invalid` for what is none, and for one from the future.

    `resumes`: a browser that connects again says where it was in a header of its own, beside the old query.
    """
    last = request.headers.get(LAST_EVENT_ID) if resumes else None
    field, text = ("after", asked.after) if last is None else (LAST_EVENT_ID, last)
    if text == NOW:
        return head.position
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise Invalid(field, text, _POSITION)
    position = int(text)
    if position > head.position:
        raise Invalid(
            field,
            position,
            f"the ledger ends at {head.position}; if it was there once, the ledger was restored from a "
            f"backup since (its epoch is {head.epoch}): read again what you had, or begin with {NOW}",
        )
    return position


def _type(text: str) -> str:
    name = text.removeprefix(TYPE_PREFIX)
    if name in BODIES:
        return name
    asked = hint(name, BODIES)
    meant = "" if asked is None else f"{asked} "
    raise Invalid("type", text, f"{meant}the types are {', '.join(sorted(BODIES))}")
