"""The one edge where what a store or a network says becomes our errors, and passing faults are retried."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

import aiohttp
import structlog
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
)
from botocore.parsers import ResponseParserError

from service.domain.s3stores import NEW_CONTAINERS
from service.domain.shown import shown
from service.errors import StoreDenied, StoreForbidden, StoreMissing, StoreRefused, Unavailable
from service.supervisor.data.model import StoreAccess, Timing

T = TypeVar("T")

#: A call that is not done by then is told of in the log. It may be a link that was cut without an end, or one
#: that is slow: how long it may take is `Timing`'s to say.
NOTICE_S = 8.0

_log = structlog.get_logger()

#: `NoSuchUpload`: as after a completion whose answer was lost. What is sent anew finds out what arrived.
_PASSING = frozenset(
    {
        "InternalError",
        "NoSuchUpload",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)
_MEANINGS = {
    "BucketAlreadyExists": "the container's name belongs to someone else",
    "InvalidAccessKeyId": "the access key is unknown",
    "InvalidBucketName": (
        f"the store takes no container of that name; S3 takes {NEW_CONTAINERS}. Some stores, such as the one "
        "that `up` starts, also want 3 characters between two '.', and AWS keeps a few beginnings and "
        "endings for itself"
    ),
    "NoSuchBucket": "no such container",
    "NoSuchKey": "no such object",
    "RequestTimeTooSkewed": "this host's clock is wrong",
    "SignatureDoesNotMatch": "the secret key is wrong",
}
_MISSING = frozenset({"NoSuchBucket", "NoSuchKey", "404", "NotFound"})
_BARRED = frozenset({"AccessDenied", "AllAccessDisabled", "403", "Forbidden"})
_WRONG_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})


class Barred(StoreDenied):
    """The keys are right and may not do this. For callers in this package that only ask about the keys."""


def refusal(what: str, status: int, code: str) -> StoreRefused | Unavailable:
    """The error for an answer of `status` with S3's `code` ("" when it gave none)."""
    if code in _MISSING or (status == 404 and not code):
        return StoreMissing(f"{what}: {_MEANINGS.get(code, 'no such thing')}")
    if status >= 500 or status == 429 or code in _PASSING:
        return Unavailable(f"{what}: the store answered {status} ({code or 'no code'})")
    if code in _BARRED or (status == 403 and not code):
        return Barred(f"{what}: access is denied")
    kind = StoreDenied if code in _WRONG_KEYS else StoreRefused
    return kind(f"{what}: {_MEANINGS.get(code) or code or f'status {status}'}")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn what the clients raise into StoreRefused or Unavailable.

    The originals are not chained: they carry requests and answers, which hold keys and signatures.
    """
    try:
        yield
    except ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        raise refusal(what, status, str(error.response.get("Error", {}).get("Code", ""))) from None
    except TimeoutError:
        raise Unavailable(f"{what}: the store did not answer in time") from None
    except (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL) as error:
        raise StoreRefused(f"{what}: {type(error).__name__}") from None
    except (NoCredentialsError, ParamValidationError) as error:
        raise StoreRefused(f"{what}: {type(error).__name__}") from None
    except HTTPClientError as error:
        within = error.kwargs.get("error")
        if isinstance(within, StoreForbidden):  # of the resolver
            raise StoreForbidden(f"{what}: {within.message}", within.why) from None
        if isinstance(within, StoreRefused):
            raise StoreRefused(f"{what}: {within.message}") from None
        raise Unavailable(f"{what}: the store cannot be reached ({type(error).__name__})") from None
    except (BotoCoreError, aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"{what}: the store cannot be reached ({type(error).__name__})") from None


@contextmanager
def read(what: str) -> Iterator[None]:
    """Turn what an answer lacks, or has in another form, into StoreRefused: a store may say anything."""
    try:
        yield
    except (KeyError, ValueError, TypeError, AttributeError, ResponseParserError) as error:
        raise StoreRefused(f"{what}: the store's answer cannot be read ({type(error).__name__})") from None


@contextmanager
def opening(access: StoreAccess) -> Iterator[None]:
    """Turn what the client says of an endpoint or a region, before it asks anybody, into StoreRefused.

    What it is known to refuse is not taken any more (`domain.s3stores`), but an older ledger may have it.
    """
    try:
        yield
    except InvalidRegionError:
        why = f"its region {shown(access.region)!r} is none that requests can be signed for"
        raise StoreRefused(f"store {shown(access.endpoint)}: {why}") from None
    except (BotoCoreError, ValueError) as error:
        why = f"its endpoint is none that can be connected to ({type(error).__name__})"
        raise StoreRefused(f"store {shown(access.endpoint)}: {why}") from None


async def persistent(
    what: str, timing: Timing, attempt: Callable[[], Awaitable[T]], *, is_long: bool = False
) -> T:
    """The result of `attempt`, tried again after passing faults. Raises StoreRefused or Unavailable.

    One that `is_long` is not told of for taking long.
    """
    pause_s = timing.backoff_s
    for left in range(timing.attempts - 1, -1, -1):
        try:
            with translated(what), nullcontext() if is_long else _noticed(what):
                return await attempt()
        except Unavailable as error:
            if not left:
                raise
            _log.warning("store call repeated", what=what, error=error.message)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter is no secret)
        pause_s = min(2 * pause_s, timing.backoff_max_s)
    raise AssertionError("attempts must be at least 1")


@contextmanager
def _noticed(what: str) -> Iterator[None]:
    """Log once when what is done within takes long."""
    told = asyncio.get_running_loop().call_later(
        NOTICE_S, lambda: _log.warning("store does not answer", what=what, after_s=NOTICE_S)
    )
    try:
        yield
    finally:
        told.cancel()
