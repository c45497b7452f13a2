"""Endpoints and regions that no client of S3 takes: refused at the door, and told of in older ledgers."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from service.domain import commands as cmd
from service.supervisor.data import StoreAccess
from tests.api.yard import Yard


def _body(access: StoreAccess, **changed: Any) -> dict[str, Any]:
    keys = {"accessKey": access.access_key, "secretKey": access.secret_key, "region": access.region}
    return {"alias": "s3", "endpoint": access.endpoint, "credentials": {"s3": keys}} | changed


async def test_an_endpoint_or_a_region_that_no_client_takes_is_named(yard: Yard, access: StoreAccess) -> None:
    """Also when the store itself is not to be asked."""
    assert (await yard.call("POST", "/v1/datastore", _body(access, alias="known"))).status == 200
    before = await yard.head()
    bad: list[tuple[str, str, dict[str, Any]]] = [
        ("endpoint", endpoint, {"endpoint": endpoint}) for endpoint in ("http://my_minio:9000", "https://a..b",
            "http://-a.invalid", "http://%zz", "http://_x:1", f"http://{'a' * 64}.invalid", "http://[::1]x:1")
    ]  # fmt: skip
    keys = {"accessKey": access.access_key, "secretKey": access.secret_key}
    for region in ("-5", "a-", "-a", "5", "a" * 64, "a_b"):
        bad.append(("credentials.s3.region", region, {"credentials": {"s3": keys | {"region": region}}}))
    for field, given, changed in bad:
        for check in ("", "?check=false"):
            for method, path in (("POST", "/v1/datastore"), ("PUT", "/v1/datastore/known")):
                body = _body(access, alias="new" if method == "POST" else "known") | changed
                answer = await yard.call(method, path + check, body)
                assert (answer.status, answer.json["field"]) == (400, field), answer.raw
                assert f"{given!r} is not allowed; " in answer.json["message"]
                assert "letters, digits and '-'" in answer.json["message"]
    assert await yard.head() == before
    for endpoint in (
        "http://127.0.0.1:1",
        "http://[::1]:9000",
        "https://s3.example.org./base",
        "http://minio",
    ):
        body = _body(access, alias="known", endpoint=endpoint)
        assert (await yard.call("PUT", "/v1/datastore/known?check=false", body)).status == 204


@pytest.mark.parametrize(
    ("endpoint", "is_secret"),
    [
        ("http://169.254.169.254", True),
        ("http://169.254.169.254:80/latest", True),
        ("http://[::ffff:169.254.169.254]", True),
        ("https://100.100.100.200", True),
        ("http://0.0.0.0:9000", False),
    ],
)
async def test_an_address_where_no_store_may_be_is_no_matter_of_the_keys(
    yard: Yard, access: StoreAccess, endpoint: str, is_secret: bool
) -> None:
    assert (await yard.call("POST", "/v1/datastore", _body(access, alias="known"))).status == 200
    for method, path in (("POST", "/v1/datastore"), ("PUT", "/v1/datastore/known")):
        body = _body(access, alias="new" if method == "POST" else "known", endpoint=endpoint)
        answer = await yard.call(method, path, body)
        assert (answer.status, answer.json["field"]) == (400, "endpoint"), answer.raw
        said = answer.json["message"]
        assert said.startswith(f"endpoint: {endpoint!r} is not allowed; ") and "JOBYARD_STORE_ALLOW" in said
        assert ("clouds tell a machine its secrets there" in said) is is_secret
        assert "key" not in said


@pytest.mark.parametrize("unusable", [{"region": "a-"}, {"endpoint": "http://my_minio:9000"}])
async def test_an_unusable_store_of_an_older_ledger_is_told(
    yard: Yard, access: StoreAccess, unusable: dict[str, str]
) -> None:
    sealed = (await yard.ledger.keys.of("default")).seal("key")
    store = cmd.SetDataStore(
        project="default",
        alias="old",
        endpoint=access.endpoint,
        region=access.region,
        access_key=sealed,
        secret_key=sealed,
    )
    await yard.ledger.submit(replace(store, **unusable), actor="test")
    for path in ("/v1/datastore/old/container", "/v1/datastore/old/container/abc/object"):
        answer = await yard.call("GET", path)
        assert (answer.status, answer.json["code"]) == (400, "store-refused"), answer.raw
        assert next(iter(unusable.values())) in answer.json["message"]
