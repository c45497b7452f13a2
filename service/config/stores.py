"""Object stores that a variable names: JOBYARD_S3, and JOBYARD_CHECKPOINT_S3."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from service.domain.s3stores import check_region, check_s3_endpoint
from service.errors import Invalid, Misconfigured

_Key = Annotated[str, Meta(min_length=1)]


class S3Access(msgspec.Struct, frozen=True, rename="camel"):
    """How a store is entered; as JSON, what the variables hold. `endpoint` is an http(s) URL; the keys are
    not in the repr."""

    endpoint: str
    access_key: _Key
    secret_key: _Key
    region: str = "us-east-1"

    def __repr__(self) -> str:
        return f"S3Access({self.endpoint!r})"


def read_s3_access(variable: str, text: str) -> S3Access:
    """What a variable of this name holds. Raises `Misconfigured`, which never shows a key."""
    try:
        found = msgspec.json.decode(text.encode(), type=S3Access)  # the decoder takes no subclass of str
        check_s3_endpoint(f"{variable}: endpoint", found.endpoint)
        check_region(f"{variable}: region", found.region)
    except msgspec.MsgspecError as error:
        raise Misconfigured(
            f'{variable}: it must be {{"endpoint", "accessKey", "secretKey", "region"}}; {error}'
        ) from error
    except Invalid as error:
        raise Misconfigured(error.message) from error
    return found
