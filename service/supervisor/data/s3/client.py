"""How a store is connected to: one client for its calls, and `Bodies` for the bytes of objects.

Path-style addressing and no optional checksums, for stores that are not AWS.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING

import aioboto3
import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from aiohttp.abc import AbstractResolver, ResolveResult
from botocore.awsrequest import AWSPreparedRequest
from yarl import URL

from service.domain.s3stores import check_s3_endpoint
from service.domain.shown import shown
from service.domain.weburls import is_address
from service.errors import FetchRefused, Invalid, StoreForbidden, StoreRefused, Unavailable
from service.outward.addresses import Network, NotPublic, is_metadata, may_connect
from service.outward.pinned import Checked
from service.outward.strangers import Connector, heard
from service.supervisor.data.model import COMPLETE_FACTOR, StoreAccess, Timing
from service.supervisor.data.s3 import answers, permits
from service.supervisor.data.s3.bodies import Bodies
from service.supervisor.data.s3.faults import opening

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

_ANY = 0
"""No bound on connections: whoever moves data bounds what is on its way, and one that waits for a connection
would pass for a store that does not answer."""


@asynccontextmanager
async def connected(
    access: StoreAccess, timing: Timing, allow: tuple[Network, ...]
) -> AsyncIterator[tuple[S3Client, Bodies]]:
    """Both are lazy: no call is made. `allow`: the networks where it may be besides public addresses.

    Raises StoreRefused for an endpoint or a region that cannot be used.
    """
    _check_endpoint(access.endpoint, allow)
    resolver = _Resolver(allow)
    async with AsyncExitStack() as stack:
        with opening(access):
            client = await stack.enter_async_context(
                session().client(
                    "s3",
                    endpoint_url=access.endpoint,
                    region_name=access.signing_region,
                    aws_access_key_id=access.access_key,
                    aws_secret_access_key=access.secret_key,
                    config=_config(timing, resolver),
                )
            )
            http = await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=Connector(limit=_ANY, ttl_dns_cache=60, resolver=resolver),
                    timeout=aiohttp.ClientTimeout(total=None),
                    auto_decompress=False,
                    read_bufsize=512 * 1024,
                )
            )
            bodies = Bodies(access, timing, http)
        yield client, bodies


class _Resolver(Checked):
    """Raises StoreRefused for a host that has an address that must not be connected to, and OSError, as the
    clients expect it, for one that cannot be looked up."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            return await super().resolve(host, port, family)
        except NotPublic as error:
            raise _forbidden(error.message, error.address) from None
        except (FetchRefused, Unavailable) as error:
            raise OSError(error.message) from None


def _check_endpoint(endpoint: str, allow: tuple[Network, ...]) -> None:
    """As at the API's door, where an older ledger may have what is not taken any more; and that it is no
    address where a user's store cannot be: whoever names one is answered what is there."""
    try:
        check_s3_endpoint("endpoint", endpoint)
    except Invalid as error:
        raise StoreRefused(f"the data store cannot be used: {error.message}") from None
    host = URL(endpoint).host or ""
    if is_address(host) and not may_connect(host, allow):
        raise _forbidden(f"{shown(host)} is not a public address", host)


def _forbidden(said: str, address: str) -> StoreForbidden:
    why = f"{said}, nor one where this yard's stores may be"
    if is_metadata(address):
        why += ": clouds tell a machine its secrets there, and no store may be where they do"
    return StoreForbidden(f"the data store cannot be used: {why}", why)


@cache
def session() -> aioboto3.Session:
    """One for the process: reading the service's description takes longer than many a pull.

    It reads times quickly, as the client's own way is most of the cost of a long listing.
    """
    made = AioSession()
    made.register_component("response_parser_factory", answers.Parsers())
    made.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    return aioboto3.Session(botocore_session=made)


def _time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parsedate_to_datetime(text)  # as in the header Last-Modified


class _Session(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
    """Bounds the answers: an endpoint is a user's own, and the client reads whatever it says into memory."""

    def _create_connector(self, proxy_url: str | None) -> aiohttp.TCPConnector:
        return heard(super()._create_connector(proxy_url))

    async def send(self, request: AWSPreparedRequest) -> AioAWSResponse:
        streams, request.stream_output = request.stream_output, True  # so that it leaves the reading to us
        answer = await super().send(request)
        if not streams:
            answer._content = await answers.fit(answer.status_code, await _bounded(answer.raw))
        return answer


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    """All of it. What is large is read on when it has its turn, and until then its connection waits."""
    call, held = permits.call(), bytearray()
    try:
        while piece := await answer.content.read(answers.LARGE_BYTES):
            held += piece
            if len(held) > answers.MOST_BYTES:
                raise StoreRefused(f"the store answers with more than {answers.MOST_BYTES} bytes")
            if len(held) > answers.LARGE_BYTES:
                if answer.status >= 300:  # more than is read of an error
                    answer.close()
                    break
                await call.take_permit()
    except BaseException:
        answer.close()  # nobody reads the rest
        raise
    return bytes(held)


def _config(timing: Timing, resolver: AbstractResolver) -> AioConfig:
    # One attempt: `persistent` is the only place that retries.
    return AioConfig(
        http_session_cls=_Session,
        s3={"addressing_style": "path"},
        signature_version="s3v4",
        retries={"total_max_attempts": 1},
        connector_args={"resolver": resolver},
        proxies={},  # none, also where the environment names one: a store is where its endpoint says
        connect_timeout=timing.call_s,
        read_timeout=timing.call_s * COMPLETE_FACTOR,  # of the longest; `Store` bounds each call as it may be
        max_pool_connections=_ANY,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
