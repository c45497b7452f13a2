"""The two ways in to a job's own HTTP service: by host name, before the router, and by path."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any

import aiohttp
from aiohttp import web

from service.api import errors, handshake
from service.api.call import EDGE, SERVICE, Service
from service.api.job_http import forward, sockets, target
from service.domain import job_names as names
from service.errors import NotFound, Unauthenticated

LOOKS: web.AppKey[target.Looks] = web.AppKey("looks", target.Looks)
HTTP: web.AppKey[aiohttp.ClientSession] = web.AppKey("job_http", aiohttp.ClientSession)
_BASIC = 'Basic realm="jobyard: any name, your token", charset="UTF-8"'
#: `/job/<id>[-<port>]` and whatever follows.
PATH = "/job/{name}{rest:(?s:/.*)?}"


def add(app: web.Application) -> None:
    """Both ways, and the client that asks the jobs. The edge stays around them."""
    app[LOOKS] = target.Looks(app[SERVICE].parts.addresses)
    app.router.add_route("*", PATH, by_path)
    app.cleanup_ctx.append(_open)


async def _open(app: web.Application) -> AsyncIterator[None]:
    app[HTTP] = forward.session()
    yield
    await app[HTTP].close()


@web.middleware
def by_host(request: web.Request, handler: Any) -> Awaitable[web.StreamResponse]:
    """A request whose Host is a job's is the job's, whatever its path. Others have no frame of this."""
    name = names.of_host(request.host, request.app[SERVICE].parts.settings.job_domain)
    if name is None:
        handled: Awaitable[web.StreamResponse] = handler(request)
        return handled
    # The target may stand in absolute form; and nothing but a path may ever follow the job's authority.
    path = request.raw_path if request.raw_path.startswith("/") else request.rel_url.raw_path_qs
    return _proxied(request, name, path, prefix="")


async def by_path(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    prefix = f"/job/{name}"
    if not request.raw_path.startswith(prefix):
        raise NotFound("write the job's name as it is, without percent signs")
    rest = request.raw_path.removeprefix(prefix)
    if not rest.startswith("/"):
        # Relative links of the page would lead elsewhere without the slash.
        return web.Response(status=308, headers={"Location": f"{prefix}/{rest}"})
    return await _proxied(request, name, rest, prefix=prefix)


async def _proxied(request: web.Request, text: str, path: str, *, prefix: str) -> web.StreamResponse:
    service = request.app[SERVICE]
    request[EDGE].line["route"] = "job"
    name = names.parse(text)
    if name is None or not path.startswith("/"):
        raise NotFound(f"there is no job {text[:64]!r}; a name is <job id> or <job id>-<port>")
    try:
        return await _let_in(service, request, name, path, prefix)
    except Unauthenticated as error:
        response = errors.answer(error, request[EDGE].request_id)
        response.headers.add("WWW-Authenticate", _BASIC)
        return response


async def _let_in(
    service: Service, request: web.Request, name: names.Name, path: str, prefix: str
) -> web.StreamResponse:
    """Raises `Unauthenticated` before anything has been sent."""
    found = await target.find(service, request.app[LOOKS], request, name)
    stream = handshake.is_socket(request)
    # An open job has callers without a token: they share the job's own bounds.
    asker = str(found.job.id) if found.token is None else found.token.id
    with (
        service.limits.admitted(asker, stream=stream),
        service.watch.followed(found.job.id, found.job.run, found.token) as follower,
    ):
        if found.token is not None:
            # Whatever becomes of the token from here on is told to the follower; this is what was before.
            await target.caller(service.tokens, request)
        http = request.app[HTTP]
        if stream:
            return await sockets.bridge(http, request, found, path, prefix, follower, service.parts.held)
        return await forward.forward(http, request, found, path, prefix, follower)
