"""/v1/audit: who did what, when, from where, and why; and what proves it to those who believe nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

import structlog
from aiohttp import web
from msgspec import UNSET, Meta, Raw, field

from service.api import projects, scope, wire
from service.api.call import JSON, Call
from service.api.query import Query
from service.api.scope import Level
from service.api.stream import cut_off, pump, while_wanted
from service.audit import export as exporting
from service.audit import proofs, reading
from service.audit.proofs import Proof
from service.audit.reading import Wanted
from service.domain.causes import Step, causes, chain
from service.domain.checkpoint import Checkpoint, PublicKey, origin_of, read_note
from service.domain.events import BODIES, Event
from service.domain.sentences import sentence
from service.domain.times import with_zone
from service.errors import Forbidden, Invalid, NotFound, StoreMissing, Unavailable
from service.ledger.chain import canonical, sealing_of
from service.ledger.read import END

MOST_ENTRIES = 500
LINES = "application/x-ndjson"
CHUNK_BYTES = 64 * 1024
_TOKEN = "token:"  # noqa: S105 (what an actor begins with)
_Text = Annotated[str, Meta(min_length=1, max_length=200)]
_log = structlog.get_logger()
_Position = Annotated[int, Meta(ge=0, le=END)]


class EventsAsked(Query, frozen=True):
    """Each narrows it down. `from` and `to` are times of recording, or positions; both are among what is
    asked for. Overseers may name another `project`, or `projects`: `all`, or `none` for those of no project.
    """

    job: UUID | None = None
    actor: _Text | None = None
    type: tuple[_Text, ...] = ()
    since: _Text | None = field(default=None, name="from")
    until: _Text | None = field(default=None, name="to")
    request_id: _Text | None = None
    command_id: UUID | None = None
    project: _Text | None = None
    projects: Literal["own", "all", "none"] = "own"


class LogAsked(EventsAsked, frozen=True):
    """`after` is the position to go on from: in the order asked for, `asc` or `desc`."""

    after: _Position | None = None
    size: Annotated[int, Meta(ge=1, le=MOST_ENTRIES)] = 100
    order: Literal["asc", "desc"] = "asc"


async def find(call: Call) -> wire.AuditList:
    asked: LogAsked = call.query
    wanted, down = await _wanted(call, asked), asked.order == "desc"
    if asked.after is not None:
        if down:
            wanted = wanted._replace(upto=min(wanted.upto, asked.after - 1))
        else:
            wanted = wanted._replace(after=max(wanted.after, asked.after))
    shown, more = await reading.page(call.ledger.pool, wanted, asked.size, down=down)
    following = None
    if more:
        following = str(call.request.rel_url.update_query(after=shown[-1].position))
    links = wire.Links(next=UNSET if following is None else following)
    return wire.AuditList(items=await _entries(call, shown), metadata=wire.Metadata(links=links))


async def _wanted(call: Call, asked: EventsAsked) -> Wanted:
    """Which events are asked for: of those that the caller may see."""
    unknown = next((each for each in asked.type if each not in BODIES), None)
    if unknown is not None:
        raise Invalid("type", unknown, "the name of a type of event, such as JobSubmitted")
    project, yard = await _whose(call, asked)
    since = None if asked.since is None else _moment("from", asked.since)
    until = None if asked.until is None else _moment("to", asked.until)
    if (isinstance(since, int) and isinstance(until, int) and until < since) or (
        isinstance(since, datetime) and isinstance(until, datetime) and until < since
    ):
        raise Invalid("to", asked.until, f"it must not be before from, which is {asked.since}")
    return Wanted(
        project=project,
        yard=yard,
        job=asked.job,
        actor=asked.actor,
        types=asked.type,
        request_id=asked.request_id,
        command_id=asked.command_id,
        selector=scope.selector_of(call.token),
        after=await _from(call, since),
        upto=await _to(call, until),
    )


async def _whose(call: Call, asked: EventsAsked) -> tuple[str | None, bool]:
    """The project, or None for all; and whether it is the events of none."""
    if asked.project is not None and asked.projects != "own":
        raise Invalid("projects", asked.projects, "name one project, or projects, not both")
    if asked.projects == "own" and asked.project in (None, call.project):
        return call.project, False
    if scope.level_of(call.token) < Level.OVERSEE:
        raise Forbidden(
            "projects beside your own are for administrators of the project "
            f"{scope.ROOT_PROJECT} without a label selector"
        )
    if asked.project is not None:
        await projects.known(call, asked.project)
    return asked.project, asked.projects == "none"


async def _from(call: Call, at: int | datetime | None) -> int:
    """The position before the first that is wanted."""
    if at is None:
        return 0
    return max(0, at - 1) if isinstance(at, int) else await reading.before(call.ledger.pool, at)


async def _to(call: Call, at: int | datetime | None) -> int:
    """The position of the last that is wanted: none beyond the head, as what may lie there is no history."""
    if at is not None and not isinstance(at, int):
        return await reading.before(call.ledger.pool, at, including=True)
    return min(END if at is None else at, (await call.ledger.head()).position)


def _moment(name: str, text: str) -> int | datetime:
    """A position, or a time with its zone."""
    wanted = "it must be a time such as 2026-01-31T12:00:00Z, or a position"
    if text.isascii() and text.isdecimal():
        if len(text) > 18:
            raise Invalid(name, text, wanted)
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(name, text, wanted) from None
    if at.tzinfo is None or "T" not in text.upper():
        raise Invalid(name, text, "; ".join(filter(None, (wanted, with_zone(text)))))
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise Invalid(name, text, wanted) from None


async def _entries(call: Call, events: Sequence[Event]) -> list[wire.AuditEntry]:
    pool = call.ledger.pool
    known = {step.position: step for step in await reading.leading_to(pool, events)}
    caused = causes(known.values())
    names = await reading.token_names(pool, {each for each in map(_token_of, events) if each})
    return [_entry(event, chain(event.position, caused), known, names) for event in events]


def _token_of(event: Event) -> str | None:
    return event.actor.removeprefix(_TOKEN) if event.actor.startswith(_TOKEN) else None


def _entry(event: Event, led: list[int], known: dict[int, Step], names: dict[str, str]) -> wire.AuditEntry:
    request = known[led[0]].request_id if led else event.request_id
    token = _token_of(event)
    return wire.AuditEntry(
        position=event.position,
        recorded_at=event.recorded_at,
        occurred_at=event.occurred_at,
        type=event.type,
        what=sentence(event),
        actor=event.actor,
        command_id=str(event.command_id),
        cause=wire.AuditCause(position=led[-1] if led else None, chain=led, request_id=request),
        project=UNSET if event.project is None else event.project,
        job=UNSET if event.job is None else str(event.job),
        run=UNSET if event.run is None else event.run,
        token_id=UNSET if token is None else token,
        token_name=UNSET if token is None or token not in names else names[token],
        client_address=UNSET if event.client_address is None else event.client_address,
        request_id=UNSET if event.request_id is None else event.request_id,
    )


# -- what proves it ---------------------------------------------------------------------------------


async def key(call: Call) -> wire.AuditKey:
    head = await call.ledger.head()
    public = PublicKey(origin_of(head.ledger_id), call.service.checkpoints.signs)
    return wire.AuditKey(origin=public.name, key=public.text)


async def checkpoint(call: Call) -> wire.AuditCheckpoint:
    note, found = await _newest(call)
    return wire.AuditCheckpoint(
        note=note,
        origin=found.origin,
        size=found.size,
        root=found.root.hex(),
        hash=found.chain.hex(),
        epoch=found.epoch,
        signed_at=found.at,
    )


async def _newest(call: Call) -> tuple[str, Checkpoint]:
    note = await reading.newest_note(call.ledger.pool)
    if note is None:
        raise Unavailable("no checkpoint has been signed yet: the first comes as the service begins")
    return note, read_note(note).checkpoint


async def proof(call: Call) -> web.Response:
    """Of an event of the caller's; of any, for who looks after the yard."""
    text = call.path("position")
    at = int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0
    over = scope.level_of(call.token) >= Level.OVERSEE
    selector = scope.selector_of(call.token)
    wanted = Wanted(project=None if over else call.project, selector=selector, after=at - 1, upto=at)
    record = await anext(reading.rows(call.ledger.pool, wanted), None) if at else None
    if record is None:
        raise NotFound(f"there is no event {text[:32]!r}")
    note, signed = await _newest(call)
    if at > signed.size:
        within = f"{call.service.parts.settings.checkpoint_s:g} s"
        raise NotFound(
            f"event {at} is under no checkpoint yet: the newest is of size {signed.size}, the next comes "
            f"within {within}"
        )
    with _tiles():
        log = await call.service.checkpoints.log(call.ledger)
        path = await log.path(at - 1, signed.size)
    made = Proof(
        position=at,
        event=Raw(canonical(sealing_of(record))),
        previous=record["previous"].hex(),
        hash=record["hash"].hex(),
        proof=[each.hex() for each in path],
        checkpoint=note,
    )
    return web.Response(body=proofs.written(made), content_type=JSON)


class ExportAsked(EventsAsked, frozen=True):
    __doc__ = EventsAsked.__doc__


async def export(call: Call) -> web.StreamResponse:
    """What is asked for, as far as the newest checkpoint goes."""
    wanted = await _wanted(call, call.query)
    note, signed = await _newest(call)
    upto = min(wanted.upto, signed.size)
    wanted = wanted._replace(after=min(wanted.after, upto), upto=upto)
    log = await call.service.checkpoints.log(call.ledger)
    if upto:
        with _tiles():
            await log.path(upto - 1, signed.size)
    response = web.StreamResponse()
    response.content_type = LINES
    if call.request.method == "HEAD":
        return response
    await response.prepare(call.request)
    head = await call.ledger.head()
    lines = exporting.exported(call.ledger.pool, log, note, signed, head.ledger_id, wanted)
    async with aclosing(lines):
        with call.service.watch.followed(None, 0, call.token) as follower:
            await while_wanted(call.request, follower, pump(call.request, response, _gathered(lines)))
        if follower.cut.is_set():
            cut_off(call.request)  # what came so far must not be taken for all of it
    return response


async def _gathered(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in fewer pieces."""
    held = bytearray()
    async for line in lines:
        held += line
        if len(held) >= CHUNK_BYTES:
            yield bytes(held)
            held.clear()
    yield bytes(held)


@contextmanager
def _tiles() -> Iterator[None]:
    """Tiles that are not where they are kept are ours to look after, and no word about the event."""
    try:
        yield
    except StoreMissing as error:
        _log.error("tiles are missing", error=error.message)
        raise Unavailable("the tiles of the checkpoints cannot be read; the log tells more") from error
