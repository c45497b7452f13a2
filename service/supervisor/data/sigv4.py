"""AWS Signature Version 4 for the few requests that carry bodies. Pure.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

from service.supervisor.data.model import StoreAccess

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def encoded_path(path: str) -> str:
    """A path as S3 wants it, in the URL and in the signature: all but a few characters quoted."""
    return quote(path, safe="/-_.~")


def encoded_query(query: Mapping[str, str]) -> str:
    """A query in the order that the signature wants: of the quoted names, not of the names."""
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def authorization(
    access: StoreAccess,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    payload_sha256: str,
    at: datetime,
) -> str:
    """The Authorization header. `path` and `query` are encoded; `headers` (lower case) are all signed."""
    names = sorted(headers)
    signed = ";".join(names)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    canonical = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{payload_sha256}"
    day, stamp = f"{at:%Y%m%d}", f"{at:%Y%m%dT%H%M%SZ}"
    scope = f"{day}/{access.region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    keyed = _signing_key(access.secret_key, day, access.region).copy()
    keyed.update(f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode())
    signature = keyed.hexdigest()
    credential = f"{access.access_key}/{scope}"
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}"


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str) -> hmac.HMAC:
    """The day's key as an HMAC to copy: making one anew costs more than all the rest of a signature."""
    key = f"AWS4{secret}".encode()
    for text in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, text.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")
