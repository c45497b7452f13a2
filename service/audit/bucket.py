"""Checkpoints in a bucket of S3. Every call is bounded in time; what fails is tried again by who asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from service.audit.places import Directory, Place, read_bucket
from service.config.stores import S3Access, read_s3_access
from service.errors import Misconfigured, Unavailable

CALL_S = 30.0
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchBucket", "NotFound"})
_THERE = frozenset({"412", "409", "PreconditionFailed", "ConditionalRequestConflict"})


class Bucket:
    """A place in an object store. The client is made when first needed, and closed by `close`."""

    def __init__(self, access: S3Access, bucket: str, prefix: str = "") -> None:
        self._access = access
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._turn = asyncio.Lock()

    def __str__(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    async def read(self, name: str) -> bytes | None:
        try:
            async with self._calling(name) as client:
                found = await client.get_object(Bucket=self._bucket, Key=self._prefix + name)
                data: bytes = await found["Body"].read()
                return data
        except _Missing:
            return None

    async def write(self, name: str, data: bytes) -> bool:
        """First looked for, as not every store knows how to write only what is not there."""
        there = await self.read(name)
        if there is None:
            try:
                async with self._calling(name) as client:
                    await client.put_object(
                        Bucket=self._bucket, Key=self._prefix + name, Body=data, IfNoneMatch="*"
                    )
                return True
            except _There:
                there = await self.read(name)
            except _Missing:
                raise Unavailable(f"{self}: the bucket {self._bucket} is not there") from None
        return there == data

    async def names(self, folder: str, after: str = "") -> list[str]:
        prefix = f"{self._prefix}{folder}/"
        found: list[str] = []
        more: dict[str, str] = {"StartAfter": prefix + after} if after else {}
        while True:
            try:
                async with self._calling(folder) as client:
                    page = await client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **more)
            except _Missing:
                return []
            found += [item["Key"].removeprefix(prefix) for item in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return sorted(name for name in found if name > after and "/" not in name)
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def folders(self) -> list[str] | None:
        found: list[str] = []
        more: dict[str, str] = {}
        while True:
            try:
                async with self._calling("") as client:
                    page = await client.list_objects_v2(
                        Bucket=self._bucket, Prefix=self._prefix, Delimiter="/", **more
                    )
            except _Missing:
                return None
            found += [each["Prefix"] for each in page.get("CommonPrefixes", ())]
            if not page.get("IsTruncated"):
                return sorted(each.removeprefix(self._prefix).rstrip("/") for each in found)
            more = {"ContinuationToken": page["NextContinuationToken"]}

    async def close(self) -> None:
        self._client = None
        await self._stack.aclose()

    @asynccontextmanager
    async def _calling(self, name: str) -> AsyncIterator[Any]:
        try:
            async with asyncio.timeout(CALL_S):
                yield await self._opened()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _MISSING:
                raise _Missing from None
            if code in _THERE:
                raise _There from None
            raise Unavailable(f"{self}{name}: the store refused it ({code})") from error
        except (BotoCoreError, OSError, TimeoutError) as error:
            raise Unavailable(f"{self}{name}: the store did not answer ({type(error).__name__})") from error

    async def _opened(self) -> Any:
        async with self._turn:
            if self._client is None:
                access = self._access
                self._client = await self._stack.enter_async_context(
                    aioboto3.Session().client(
                        "s3",
                        endpoint_url=access.endpoint,
                        region_name=access.region,
                        aws_access_key_id=access.access_key,
                        aws_secret_access_key=access.secret_key,
                        config=AioConfig(
                            s3={"addressing_style": "path"},
                            signature_version="s3v4",
                            retries={"total_max_attempts": 2},
                            request_checksum_calculation="when_required",
                            response_checksum_validation="when_required",
                        ),
                    )
                )
            return self._client


class _Missing(Exception):
    """There is no such object, or no such bucket."""


class _There(Exception):
    """Somebody wrote it first."""


def open_place(where: str, keys: str, field: str = "JOBYARD_CHECKPOINT_TO") -> Place:
    """A directory, or a bucket with its keys as JSON. Raises `Misconfigured`; `field`: what named it."""
    found = read_bucket(field, where)
    if found is None:
        return Directory(Path(where))
    if not keys:
        raise Misconfigured(
            f"{field}: {where} needs the keys of its store: set JOBYARD_CHECKPOINT_S3 (or JOBYARD_S3) to"
            ' {"endpoint", "accessKey", "secretKey", "region"}'
        )
    return Bucket(read_s3_access("JOBYARD_CHECKPOINT_S3", keys), *found)
