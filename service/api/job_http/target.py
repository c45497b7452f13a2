"""Where a request to a job goes, and whether it may: the token, the job, and the container's own address."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import OrderedDict
from dataclasses import dataclass, field

from aiohttp import web

from service.api import reads, scope
from service.api.auth import MOST_CHARS, PREFIX, Tokens
from service.api.call import EDGE, Service
from service.api.client import same_origin
from service.api.ports import Addresses
from service.domain.directory import Token
from service.domain.job import Job
from service.domain.job_names import Name
from service.domain.states import State
from service.errors import Forbidden, NotFound, Unauthenticated, Unavailable

#: In these the job's process may run and answer.
_REACHABLE = frozenset({State.RUNNING, State.INTERRUPTING, State.TIMEOUT})

#: For so long an address is taken for the container's. Shorter than it takes to end one and start another.
FRESH_S = 0.5
MOST_KEPT = 1000
#: Credentials of more words are no request's to an open job. Digest, the wordiest, has some twelve.
MOST_WORDS = 16


@dataclass(frozen=True)
class Target:
    """A container's port that a request may go to. `token` is None for a job that is open to anybody; `ours`:
    the request's Authorization is for us, so that the job must never see it."""

    job: Job
    ip: str
    port: int
    token: Token | None
    ours: bool

    @property
    def authority(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass
class Looks:
    """The addresses of containers, as the engine said a moment ago."""

    addresses: Addresses
    _kept: OrderedDict[str, tuple[str | None, float]] = field(default_factory=OrderedDict)

    async def ip_of(self, container_id: str) -> str | None:
        now = asyncio.get_running_loop().time()
        known = self._kept.get(container_id)
        if known is not None and known[1] > now:
            return known[0]
        ip = await self.addresses.ip_of(container_id)
        self._kept[container_id] = (ip, now + FRESH_S)
        self._kept.move_to_end(container_id)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return ip


async def find(service: Service, looks: Looks, request: web.Request, name: Name) -> Target:
    """Raises `Unauthenticated`, `Forbidden`, `NotFound`, or `Unavailable` when nothing runs there now."""
    found = await reads.job(service.parts.ledger.pool, name.job)
    job = None if found is None or found[0].deleted else found[0]
    open_to_all = job is not None and job.spec.unsecure_http
    token = None if open_to_all else await _told_caller(service, request)
    if job is None or (token is not None and not scope.sees(token, job)):
        raise NotFound(f"there is no job {name.job}")
    if job.state not in _REACHABLE or job.container_id is None:
        raise Unavailable(f"job {job.id} is {job.state}: its HTTP service is there while it is RUNNING")
    ip = await looks.ip_of(job.container_id)
    if ip is None:
        raise Unavailable(f"job {job.id} has no address just now")
    ours = token is not None or await _is_ours(service.tokens, request)
    return Target(job, ip, name.port or job.spec.default_http_port, token, ours)


async def caller(tokens: Tokens, request: web.Request) -> Token:
    """The token of a program (Bearer), or of a person's browser (Basic: it is the password).

    Raises `Unauthenticated`, and `Forbidden` for another site's page.
    """
    basic = _basic(request)
    if basic is None:
        return await tokens.caller(request)
    token = await tokens.of_value(basic)
    _refuse_other_sites(request)
    return token


async def _told_caller(service: Service, request: web.Request) -> Token:
    """The caller, who then stands in the request's line."""
    token = await caller(service.tokens, request)
    line = request[EDGE].line
    line["token"], line["project"] = token.id, token.project
    return token


def _basic(request: web.Request) -> str | None:
    """The password of Basic credentials; None when there are no such."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        raise Unauthenticated("the Basic credentials cannot be read; the password is your token") from None


def _refuse_other_sites(request: web.Request) -> None:
    """Browsers send Basic credentials along whoever asks: a page of another site must not use them."""
    same_origin(request, "use your credentials here")
    navigates = request.method in ("GET", "HEAD") and request.headers.get("Sec-Fetch-Mode") == "navigate"
    if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and not navigates:
        raise Forbidden("Sec-Fetch-Site: a page of another site cannot use your credentials here")


async def _is_ours(tokens: Tokens, request: web.Request) -> bool:
    """Whether some Authorization of a request to an open job is a token of ours, however it is spelt.

    Anybody may ask, and each word is a look into the ledger: what has too many of them is not passed on.
    """
    words = [word for given in request.headers.getall("Authorization", []) for word in _words(given)]
    if any(PREFIX in word for word in words):
        return True
    words = [word for word in dict.fromkeys(words) if len(word) <= MOST_CHARS]
    if len(words) > MOST_WORDS:
        return True
    return any([await _is_token(tokens, word) for word in words])


def _words(given: str) -> list[str]:
    """All that could be a value in credentials."""
    words = given.split()
    return words + [each for word in words[1:] for each in _decoded(word)]


def _decoded(word: str) -> list[str]:
    """What Basic credentials say: user and password."""
    try:
        return base64.b64decode(word, validate=True).decode().split(":")
    except (binascii.Error, ValueError):
        return []


async def _is_token(tokens: Tokens, value: str) -> bool:
    try:
        await tokens.of_value(value)
    except Unauthenticated:
        return False
    return True
