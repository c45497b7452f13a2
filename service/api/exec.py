"""/v1/job/{id}/exec: a command in the job's container, over plain HTTP or a websocket (see `exec_socket`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import partial
from uuid import uuid4

import msgspec
from aiohttp import hdrs, web

from service.api import exec_socket, handshake, jobs, scope
from service.api.call import EDGE, Call
from service.api.client import same_origin
from service.api.idempotency import CommandId
from service.api.ports import ExecOutput, RunningExec
from service.api.query import Query
from service.api.stream import cut_off, pump, while_wanted
from service.api.watch import Follower
from service.domain import commands as cmd
from service.domain.job import Job
from service.errors import Invalid, NoSuchContainer, Unavailable, WrongState

MOST_WORDS = 1024
#: Output is held back up to here, so that the exit code can stand in the answer's head.
MOST_HELD_BYTES = 8 * 1024**2
#: What is held is handed to the client's line by this much: all at once it would be held there again.
PIECE_BYTES = 64 * 1024
TOO_MUCH = "all clients hold too much output here, your project's the most, and this one the most of them"
EXIT_CODE = "X-Exit-Code"


class ExecAsked(Query, frozen=True):
    """`command` stands once for each word. `stdin` and `tty` need a websocket.

    The answer's header `X-Exit-Code` is the command's exit code; when there are more than 8 MiB of output
    they are streamed, without it.
    """

    command: tuple[str, ...]
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


async def run(call: Call) -> web.StreamResponse:
    asked: ExecAsked = call.query
    _check(asked)
    socket = handshake.is_socket(call.request)
    if socket:
        same_origin(call.request, "open this socket")
        exec_socket.check(call.request)
    elif asked.stdin or asked.tty:
        field = "stdin" if asked.stdin else "tty"
        raise Invalid(field, True, f"it needs a websocket (sub-protocol {exec_socket.PROTOCOLS[-1]})")
    job, _ = await jobs.seen(call)
    if call.request.method == "HEAD":
        return web.Response(content_type="text/plain")
    with call.service.watch.followed(job.id, job.run, call.token) as follower:
        # Whatever becomes of the token from here on is told to the follower; this is what was before.
        await call.service.tokens.caller(call.request)
        container_id = await _opened(call, job, asked)
        try:
            async with call.service.parts.execs.open(
                container_id,
                asked.command,
                stdin=asked.stdin,
                stdout=asked.stdout,
                stderr=asked.stderr,
                tty=asked.tty,
            ) as running:
                if socket:
                    return await exec_socket.serve(call, running, follower, job.project, stdin=asked.stdin)
                return await _Answer(call, running, job.project).until(follower)
        except NoSuchContainer as error:
            # The ledger hears of a container's end a moment after the engine knows it.
            raise WrongState(f"job {job.id}: its container has ended; run commands while it runs") from error


def _check(asked: ExecAsked) -> None:
    if not asked.command or not asked.command[0]:
        raise Invalid("command", "", "the program to run, then its words, one parameter each")
    if len(asked.command) > MOST_WORDS:
        raise Invalid("command", f"{len(asked.command)} words", f"at most {MOST_WORDS}")
    for word in asked.command:
        if "\0" in word:
            raise Invalid("command", word, "text without NUL")
    if not (asked.stdout or asked.stderr or asked.stdin):
        raise Invalid("stdout", False, "one of stdin, stdout and stderr must be true")


async def _opened(call: Call, job: Job, asked: ExecAsked) -> str:
    """Record who runs what, before it runs; the id of the container."""
    key = await call.ledger.keys.of_job(job.project, job.id)
    command = cmd.OpenExec(
        project=call.project,
        job=job.id,
        scope=scope.selector_of(call.token),
        exec_id=str(uuid4()),
        command=key.seal(msgspec.json.encode(asked.command).decode()),
        tty=asked.tty,
    )
    # An Idempotency-Key makes no two runs one: each has an event of its own.
    receipt = await call.submit(command, CommandId(uuid4()))
    if receipt.events[0].run != job.run:
        raise WrongState(f"job {job.id} was started again meanwhile; try again")
    if job.container_id is None:
        raise WrongState(f"job {job.id} has no container yet; try again")
    return job.container_id


class _Answer:
    """All of the output with the exit code, or a stream when there is too much of it."""

    def __init__(self, call: Call, running: RunningExec, project: str) -> None:
        self._call = call
        self._running = running
        self._begun: web.StreamResponse | None = None
        self._holding = call.service.parts.held.enter(project, partial(cut_off, call.request))

    async def until(self, follower: Follower) -> web.StreamResponse:
        """The answer, unless the client leaves, the token may not go on or too much is held: that ends the
        command."""
        request = self._call.request
        try:
            answer = await while_wanted(request, follower, self._made())
        finally:
            self._holding.leave()
            if self._holding.was_cut:
                request[EDGE].line["cut"] = TOO_MUCH
        if answer is not None:
            return answer
        if self._begun is not None:
            cut_off(request)  # an answer that is cut must not look whole, nor hold another
            return self._begun
        raise Unavailable(f"the command was ended: {follower.why or 'the client left'}")

    async def _made(self) -> web.StreamResponse:
        held = bytearray()
        output = self._running.output()
        async for each in output:
            held += each.data
            self._holding.take(len(each.data))
            if self._holding.was_cut:
                raise Unavailable(TOO_MUCH)
            if len(held) > MOST_HELD_BYTES:
                return await self._streamed(held, output)
        headers = {EXIT_CODE: str(await self._running.exit_code())}
        if len(held) > PIECE_BYTES:
            return await self._streamed(held, output, headers | {hdrs.CONTENT_LENGTH: str(len(held))})
        return web.Response(body=bytes(held), content_type="text/plain", charset="utf-8", headers=headers)

    async def _streamed(
        self, held: bytearray, output: AsyncIterator[ExecOutput], headers: Mapping[str, str] | None = None
    ) -> web.StreamResponse:
        """What is held, as fast as the client takes it, and then what comes. It is held until it is sent."""

        async def chunks() -> AsyncIterator[bytes]:
            for at in range(0, len(held), PIECE_BYTES):
                yield bytes(held[at : at + PIECE_BYTES])
            self._holding.take(-len(held))
            held.clear()
            async for each in output:
                yield each.data

        response = web.StreamResponse(headers=headers)
        response.content_type, response.charset = "text/plain", "utf-8"
        self._begun = response
        await response.prepare(self._call.request)
        await pump(self._call.request, response, chunks())
        return response
