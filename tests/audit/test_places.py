"""A folder and a bucket of a real store keep files alike: once, whole, and never over one another."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import aioboto3
import pytest

from service.audit.bucket import Bucket, open_place
from service.audit.evidence import Evidence
from service.audit.log import Log
from service.audit.places import Directory, Place
from service.audit.signer import Signer
from service.config import Settings, read_settings
from service.domain.checkpoint import PublicKey, origin_of
from service.errors import Misconfigured, Unavailable
from tests.audit.conftest import SIGNING, grown
from tests.support.parts import STORE
from tests.support.yard import Yard


@pytest.fixture(params=["directory", "bucket"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    where = str(tmp_path)
    if request.param == "bucket":
        where = f"s3://{await a_bucket()}/yard/one"
    settings = read_settings({"JOBYARD_CHECKPOINT_TO": where, "JOBYARD_S3": os.environ[STORE]})
    made = open_place(settings.checkpoints, settings.checkpoint_s3)
    assert isinstance(made, Bucket if request.param == "bucket" else Directory)
    yield made
    await made.close()


async def a_bucket(name: str | None = None) -> str:
    access = json.loads(os.environ[STORE])
    name = name or f"checkpoints-{uuid4().hex[:12]}"
    client = aioboto3.Session().client(
        "s3",
        endpoint_url=access["endpoint"],
        region_name=access["region"],
        aws_access_key_id=access["accessKey"],
        aws_secret_access_key=access["secretKey"],
    )
    async with client as store:
        await store.create_bucket(Bucket=name)
    return name


async def test_a_file_is_written_once(place: Place) -> None:
    assert await place.read("a/b") is None
    assert await place.write("a/b", b"one")
    assert await place.write("a/b", b"one")
    assert not await place.write("a/b", b"two")
    assert await place.read("a/b") == b"one"


async def test_names_are_those_of_one_folder_in_order(place: Place) -> None:
    assert await place.names("a") == []
    for name in ("a/3", "a/1", "a/2", "a/c/4", "b/5"):
        assert await place.write(name, b"x")
    assert await place.names("a") == ["1", "2", "3"]
    assert await place.names("a", "1") == ["2", "3"]


async def test_checkpoints_are_signed_and_read_there(place: Place, yard: Yard) -> None:
    head = await yard.ledger.head()
    for size in (3, 300):
        await grown(yard, size)
        assert await Signer(yard.ledger, place, SIGNING, Settings()).run_once(now=True)
    key = PublicKey(origin_of(head.ledger_id), SIGNING.public)
    found = await Evidence.gathered(Log.of(place, head.ledger_id), key)
    assert (found.told, found.problems) == (300, [])


async def test_a_store_that_does_not_answer_is_said_to_be_so() -> None:
    keys = {"endpoint": "http://127.0.0.1:9", "accessKey": "a", "secretKey": "b"}
    place = open_place("s3://bucket", json.dumps(keys))
    with pytest.raises(Unavailable, match="s3://bucket/"):
        await place.read("a")
    await place.close()


async def test_a_bucket_that_is_not_there_is_said_to_be_missing() -> None:
    place = open_place(f"s3://checkpoints-{uuid4().hex[:12]}/x", os.environ[STORE])
    assert await place.read("a") is None and await place.folders() is None
    with pytest.raises(Unavailable, match=r"the bucket checkpoints-\w+ is not there"):
        await place.write("a", b"one")
    await place.close()


@pytest.mark.parametrize("where", ["checkpoints", "./gs://bucket", "/var/a:/b", "a:b"])
def test_a_folder_is_a_place_whatever_its_name(where: str) -> None:
    assert isinstance(open_place(where, ""), Directory)


async def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unavailable, match="file/a"):
        await Directory(tmp_path / "file").write("a", b"x")


@pytest.mark.parametrize(
    ("where", "keys", "text"),
    [
        ("s3://", "{}", "s3://bucket/prefix"),
        ("s3://UPPER/x", "{}", "s3://bucket/prefix"),
        ("S3://bucket/x", "{}", "s3://bucket/prefix"),
        ("s3:/bucket/x", "{}", "s3://bucket/prefix"),
        ("gs://bucket", "", "s3://bucket/prefix"),
        ("file:///var/checkpoints", "", "if it is a directory, write ./file:///var/checkpoints"),
        ("s3://bucket/x", "", "JOBYARD_CHECKPOINT_S3"),
        ("s3://bucket/x", "{}", "endpoint"),
        ("s3://bucket/x", "no JSON", "accessKey"),
    ],
)
def test_a_place_that_is_none_is_refused(where: str, keys: str, text: str) -> None:
    with pytest.raises(Misconfigured, match=text):
        open_place(where, keys)
