"""Trying a registry's credentials: GET /v2/ as the distribution specification says, Basic or Bearer.

Bounded in time and size, and no redirect is followed. A registry may well be in a private network; at the
addresses where clouds tell a machine its secrets nobody is asked. The password goes to the registry itself,
or to the token server that it names, which must be https or the very same host and port.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import NamedTuple

import aiohttp
import msgspec
from yarl import URL

from service.api.errors import Said
from service.domain.registries import DOCKER_HUB, RegistryUrl
from service.domain.weburls import is_address
from service.errors import FetchRefused, Invalid, Unavailable
from service.outward.addresses import Network, NotPublic, may_connect
from service.outward.pinned import Checked
from service.outward.strangers import Connector

CHECK_TIMEOUT_S = 15.0
MOST_ANSWER_BYTES = 64 * 1024
#: Docker Hub's has 120.
MOST_CHALLENGE_CHARS = 1024
_HUB_API = "registry-1.docker.io"
_WITHOUT = "?check=false takes it without asking"

_CHALLENGE = re.compile(r"\A\s*(?P<scheme>[A-Za-z]+)(?:\s+(?P<rest>.*))?\Z", re.DOTALL)
#: From the beginning of a name, or a long one that is none would be tried again from each of its letters.
_PARAMETER = re.compile(r'(?<![a-zA-Z_])([a-zA-Z_]{1,32})\s*=\s*(?:"([^"]*)"|([^\s",]+))')


class _Answer(NamedTuple):
    """Status, the first challenge that is understood, and whether a registry speaks."""

    status: int
    challenge: dict[str, str]
    is_registry: bool
    body: bytes


class _Login(NamedTuple):
    username: str
    password: str

    @property
    def header(self) -> str:
        return aiohttp.encode_basic_auth(self.username, self.password, encoding="utf-8")

    def __repr__(self) -> str:
        return f"_Login({self.username!r})"


class _Asking(NamedTuple):
    """What asks, and the networks where it may besides public addresses."""

    session: aiohttp.ClientSession
    allow: tuple[Network, ...]


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


async def check(place: RegistryUrl, username: str, password: str, allow: tuple[Network, ...]) -> None:
    """Returns when the registry takes the credentials, or asks nobody for any.

    `allow`: the networks where it may be besides public addresses. Raises `Invalid` for `password` when they
    are refused, and for `url` when no registry answers there.
    """
    api_host = _HUB_API if place.host == DOCKER_HUB else place.host
    api = URL(f"{place.scheme}://{api_host}/v2/")
    timeout = aiohttp.ClientTimeout(total=CHECK_TIMEOUT_S)
    jar = aiohttp.DummyCookieJar()
    try:
        async with aiohttp.ClientSession(
            connector=Connector(resolver=Checked(allow), use_dns_cache=False),
            timeout=timeout,
            cookie_jar=jar,
            trust_env=False,
        ) as session:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await _try(_Asking(session, allow), api, _Login(username, password))
    except (ssl.SSLError, aiohttp.ClientSSLError) as error:
        # Not chained: an error of the client can carry the request, and that the password.
        said = f"TLS failed ({type(error).__name__}); write http:// if it speaks none"
        raise _unfit(f"{place.host}: {said}") from None
    except TimeoutError:
        raise _unfit(f"{place.host} did not answer within {CHECK_TIMEOUT_S:.0f} s") from None
    except NotPublic:
        raise _no_registry(place.host) from None
    except (FetchRefused, Unavailable) as error:
        raise _unfit(error.message) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise _unfit(f"{place.host} cannot be reached ({type(error).__name__})") from None


async def _try(asking: _Asking, api: URL, login: _Login) -> None:
    first = await _get(asking, api, None)
    _require_registry(api, first)
    if first.status == 200:
        return
    match first.challenge.get("scheme"):
        case "basic":
            header = login.header
        case "bearer":
            header = "Bearer " + await _token(asking, api, first.challenge, login)
        case _:
            raise _unfit(f"{api.host} asks for credentials of a kind that no registry asks for")
    second = await _get(asking, api, header)
    if second.status in (401, 403):
        raise _refused(f"{api.host} refused the user and this password")
    _require_registry(api, second)


async def _token(asking: _Asking, api: URL, challenge: dict[str, str], login: _Login) -> str:
    """A token of the server that the registry names. Raises `Invalid`."""
    realm = _realm(api, challenge.get("realm", ""))
    query = {"account": login.username} | {k: v for k, v in challenge.items() if k == "service"}
    answer = await _get(asking, realm.update_query(query), login.header)
    if answer.status in (400, 401, 403):
        raise _refused(f"the token server of {api.host} refused the user and this password")
    try:
        found = msgspec.json.decode(answer.body, type=_Token) if answer.status == 200 else _Token()
    except msgspec.MsgspecError:
        found = _Token()
    token = found.token or found.access_token
    if not token or not (token.isascii() and token.isprintable()):
        raise _unfit(f"the token server of {api.host} gave no token (status {answer.status})")
    return token


def _realm(api: URL, text: str) -> URL:
    """Where the token server is. The password is about to be sent there."""
    try:
        realm = URL(text)
    except ValueError:
        realm = URL()
    same = realm.scheme == api.scheme and (realm.host, realm.port) == (api.host, api.port)
    if not realm.host or realm.user is not None or not (realm.scheme == "https" or same):
        raise _unfit(f"{api.host} names a token server that is neither https nor itself")
    return realm


async def _get(asking: _Asking, url: URL, authorization: str | None) -> _Answer:
    host = url.host or ""
    if is_address(host) and not may_connect(host, asking.allow):
        raise _no_registry(host)
    headers = {"Accept": "application/json"} | ({"Authorization": authorization} if authorization else {})
    async with asking.session.get(url, headers=headers, allow_redirects=False) as reply:
        body = b""
        async for chunk in reply.content.iter_chunked(8192):
            body += chunk
            if len(body) > MOST_ANSWER_BYTES:
                raise _unfit(f"{url.host} answers more than a registry does")
        said = reply.headers.get("Docker-Distribution-Api-Version", "").startswith("registry/2")
        challenges = reply.headers.getall("WWW-Authenticate", [])
        if any(len(each) > MOST_CHALLENGE_CHARS for each in challenges):
            raise _unfit(f"{url.host} asks for credentials in more than {MOST_CHALLENGE_CHARS} characters")
        return _Answer(reply.status, _challenge(challenges), said or _is_object(body), body)


def _challenge(headers: list[str]) -> dict[str, str]:
    """The first Basic or Bearer challenge: its parameters, and `scheme`."""
    for header in headers:
        match = _CHALLENGE.match(header)
        scheme = match["scheme"].lower() if match else ""
        if match and scheme in ("basic", "bearer"):
            found = _PARAMETER.findall(match["rest"] or "")
            return {name.lower(): quoted or plain for name, quoted, plain in found} | {"scheme": scheme}
    return {}


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(body), dict)
    except msgspec.MsgspecError:
        return False


def _require_registry(api: URL, answer: _Answer) -> None:
    if answer.status in (301, 302, 303, 307, 308):
        raise _unfit(f"{api.host} leads elsewhere: name the registry itself")
    if answer.status >= 500 or answer.status == 429:
        raise _unfit(f"{api.host} answered {answer.status}; try again later")
    spoken = answer.is_registry or answer.challenge.get("scheme") == "bearer"
    if answer.status not in (200, 401) or not spoken:
        raise _unfit(f"what answers at {api.host} is not a registry (status {answer.status})")


def _unfit(text: str) -> Invalid:
    return Invalid("url", Said(text), _WITHOUT)


def _no_registry(host: str) -> Invalid:
    return _unfit(f"{host} is at an address that no registry has")


def _refused(text: str) -> Invalid:
    return Invalid("password", Said(text), _WITHOUT)
