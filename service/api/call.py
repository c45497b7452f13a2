"""One request on its way: what a handler is given, and how a route becomes an aiohttp handler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from aiohttp import web

from service.api import body as bodies
from service.api import scope
from service.api.auth import Tokens
from service.api.checkpoints import Checkpoints
from service.api.events.feed import Feed
from service.api.idempotency import CommandId, command_id
from service.api.limits import Limits, wants_stream
from service.api.metrics import Metrics
from service.api.ports import ApiParts
from service.api.query import Query, QueryReader, is_garbled
from service.api.readiness import Readiness
from service.api.scope import Level
from service.api.shown import Shown
from service.api.turns import Turns
from service.api.watch import Watch
from service.domain.commands import Command
from service.domain.directory import Token
from service.domain.ids import text_of
from service.errors import NotFound
from service.ledger.commit import Receipt
from service.ledger.ledger import Ledger

JSON = "application/json"


@dataclass(frozen=True)
class Service:
    """What all requests of one application share."""

    parts: ApiParts
    tokens: Tokens
    watch: Watch
    metrics: Metrics
    readiness: Readiness
    checkpoints: Checkpoints
    feed: Feed
    limits: Limits
    #: Answers about jobs that are still good.
    shown: Shown = field(default_factory=Shown)
    #: Whoever plans a past of many runs again takes a whole core meanwhile: one at a time.
    planning: Turns = field(default_factory=lambda: Turns(1))
    #: Bills take one for each of their runs; most have few.
    bills: Turns = field(default_factory=lambda: Turns(2, most_of_project=16))
    #: Replays take a processor for themselves: one at a time.
    replays: Turns = field(default_factory=lambda: Turns(1))
    #: How many exports are being made at a time: each holds a connection to the database.
    exports: Turns = field(default_factory=lambda: Turns(2))
    #: How many files each project has in the making, or on their way to its clients.
    exporting: Counter[str] = field(default_factory=Counter)


class Edge(NamedTuple):
    """What the edge knows of a request before its route does: its id, and the fields of its log line."""

    request_id: str
    line: dict[str, Any]


SERVICE: web.AppKey[Service] = web.AppKey("service", Service)
EDGE: web.RequestKey[Edge] = web.RequestKey("edge", Edge)

#: The answer is a job's: the names of the headers that it has, in lower case. None of ours are to be its.
PROXIED: web.RequestKey[frozenset[str]] = web.RequestKey("proxied", frozenset[str])

#: A struct or a list as the JSON that it is answered as.
encoded = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Call:
    """A request that was let in and read. `token` is there on every route but the public ones."""

    service: Service
    request: web.Request
    token: Token
    query: Any = None
    body: Any = None
    raw: bytes = b""
    #: What the answer says beside its body.
    headers: dict[str, str] = field(default_factory=dict)
    _id: CommandId | None = field(default=None, repr=False)

    @property
    def ledger(self) -> Ledger:
        return self.service.parts.ledger

    @property
    def project(self) -> str:
        return self.token.project

    def path(self, name: str) -> str:
        return self.request.match_info[name]

    def path_id(self, what: str) -> UUID:
        """The id in the path. Raises `NotFound` when it is no UUID in its plain form: nothing is there."""
        text = self.request.match_info["id"]
        try:
            found = UUID(text)
        except ValueError:
            found = None
        if found is None or text_of(found) != text.lower():
            raise NotFound(f"there is no {what} {text[:64]!r}; an id is a UUID")
        return found

    async def command_id(self) -> CommandId:
        """The id of this request's command: from its Idempotency-Key, if it has one."""
        if self._id is None:
            self._id = await command_id(self.request, self.raw, self.token, self.ledger)
        return self._id

    async def recalled(self, identity: CommandId | None = None) -> Receipt | None:
        """What became of this very request, when its Idempotency-Key says that it was carried out before.

        To be asked in front of what a repeat must not fail on: who is asked outside may not answer any more,
        and what the request was about may be gone. Raises `Conflict` when the key was another request's.
        """
        identity = identity or await self.command_id()
        if identity.digest is None:
            return None
        receipt = await self.ledger.recalled(identity.id, identity.digest)
        if receipt is not None:
            line = self.request[EDGE].line
            line["command_id"], line["repeated"] = str(identity.id), True
            line["positions"] = [event.position for event in receipt.events]
        return receipt

    async def submit(self, command: Command, identity: CommandId | None = None) -> Receipt:
        """Carry out a command in the caller's name. Raises the `Rejected` that refused it."""
        edge = self.request[EDGE]
        identity = identity or await self.command_id()
        edge.line["command_id"] = str(identity.id)
        receipt = await self.ledger.submit(
            command,
            actor=f"token:{self.token.id}",
            command_id=identity.id,
            request_id=edge.request_id,
            client_address=self.request.remote,
            digest=identity.digest,
        )
        edge.line["positions"] = [event.position for event in receipt.events]
        if receipt.repeated:
            edge.line["repeated"] = True
        else:
            self.service.metrics.events.inc(len(receipt.events))
        return receipt


Handler = Callable[[Call], Awaitable[Any]]


class Route(NamedTuple):
    """One line of the table. `answers`: a struct, or a list of them; None: 204, or a stream (`media`).

    `follows`: whoever asks for it gets an answer that goes on, and that counts among a token's streams.
    """

    method: str
    path: str
    handler: Handler
    level: Level
    summary: str
    takes: type[msgspec.Struct] | None = None
    answers: Any = None
    query: type[Query] | None = None
    media: str = JSON
    follows: bool = False


#: Stands for the caller of a public route.
_NOBODY: Any = None


Sent = Callable[[Call, web.StreamResponse, str | None], Awaitable[web.StreamResponse]]


async def left_to_aiohttp(
    _call: Call, response: web.StreamResponse, _holder: str | None
) -> web.StreamResponse:
    return response


def endpoint(
    route: Route, sent: Sent = left_to_aiohttp
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of a route: let in, read, handle, answer. What is large is `sent` before its
    request counts as done."""
    reader = bodies.BodyReader(route.takes) if route.takes else None
    query = QueryReader(route.query) if route.query else None
    # A part with a pattern is whatever follows, and for its handler to read.
    parts = route.path.partition(":")[0].count("/") if ":" in route.path else None

    #: Whose repeat has the same answer whatever there is by now: that it was done.
    changes = route.answers is None and route.media == JSON and route.method in ("PUT", "POST", "DELETE")

    async def handle(request: web.Request) -> web.StreamResponse:
        service = request.app[SERVICE]
        call = Call(service, request, _NOBODY)
        if route.level is Level.PUBLIC:
            return await sent(call, await answer(call), None)
        call.token = await service.tokens.caller(request)
        line = request[EDGE].line
        line["token"], line["project"] = call.token.id, call.token.project
        with service.limits.admitted(call.token.id, stream=route.follows and wants_stream(request)):
            scope.require(call.token, route.level)
            return await sent(call, await answer(call), call.project)

    async def answer(call: Call) -> web.StreamResponse:
        request = call.request
        _refuse_garbled(request, parts)
        if query is not None:
            call.query = query.read(request)
        if reader is not None:
            call.raw = await bodies.read(request, call.service.parts.settings.max_body_bytes)
            call.body = reader.decode(call.raw)
        if changes and await call.recalled() is not None:
            return web.Response(status=204)
        response = answered(await route.handler(call))
        if call.headers:
            response.headers.update(call.headers)
        return response

    return handle


def _refuse_garbled(request: web.Request, parts: int | None) -> None:
    """Nothing has a name that is no text. Raises `NotFound` for one in the path, or in its first `parts`."""
    path = request.rel_url.raw_path
    if "%" not in path and path.isascii():
        return
    sent = path.split("/")[:parts]
    if any(is_garbled(part) for part in sent):
        raise NotFound("there is nothing at this path: what stands in it percent-encoded is not UTF-8")


def json_response(body: bytes) -> web.Response:
    """An answer of JSON that was encoded before."""
    return web.Response(body=body, content_type=JSON)


def answered(value: Any) -> web.StreamResponse:
    """What a handler returned, as a response: a struct or list as JSON, None as 204, a response as it is."""
    if isinstance(value, web.StreamResponse):
        return value
    if value is None:
        return web.Response(status=204)
    return json_response(encoded(value))
