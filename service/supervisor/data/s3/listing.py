"""One page of a container's objects: how it is asked for, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_plus

from service.supervisor.data.model import ObjectInfo
from service.supervisor.data.s3 import permits
from service.supervisor.data.s3.answers import MOST_KEYS, aside
from service.supervisor.data.s3.bodies import moment

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client


class Page(NamedTuple):
    """Objects in the store's order; whether there are more, and the token that leads on to them."""

    objects: list[ObjectInfo]
    is_cut: bool
    more: str


async def page(client: S3Client, container: str, prefix: str, extra: Mapping[str, Any]) -> Page:
    """`extra`: where the page begins. Raises what S3's client does, and what `_objects` does.

    All that was said is let go: it may be many times as much as what is told of it.
    """
    said: Mapping[str, Any] = await client.list_objects_v2(
        Bucket=container,
        Prefix=prefix,
        MaxKeys=MOST_KEYS,
        EncodingType="url",  # as the client would ask by itself, and then decode on the event loop
        **extra,
    )
    found = await aside(_objects, said) if permits.call().has_permit else _objects(said)
    return Page(found, bool(said.get("IsTruncated")), said.get("NextContinuationToken", ""))


def _objects(page: Mapping[str, Any]) -> list[ObjectInfo]:
    """Raises ValueError, KeyError, TypeError and AttributeError for what is no page. Takes a while."""
    encoded = page.get("EncodingType") == "url"
    return [
        info(unquote_plus(item["Key"]) if encoded else item["Key"], item["Size"], item)
        for item in page.get("Contents", ())
    ]


def info(key: str, size: int, said: Mapping[str, Any]) -> ObjectInfo:
    """Of an answer's fields. Raises ValueError and KeyError for what is no object."""
    if size < 0:
        raise ValueError("a size below 0 would make room for others")
    return ObjectInfo(key, size, said.get("ETag", "").strip('"'), moment(said["LastModified"]))
