"""What the OpenAPI document says of each operation is what the service does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from service.api import hints, wire
from service.api.call import Route
from service.api.openapi import document
from service.api.routes import ROUTES
from service.api.scope import Level
from tests.api.yard import ADMIN, Yard, opened

DOCUMENT = json.loads(document(ROUTES))
SCHEMAS = DOCUMENT["components"]["schemas"]
_KEY = re.compile(r":[^}]*")


def said(route: Route) -> Any:
    """The operation as it is documented."""
    return DOCUMENT["paths"][_KEY.sub("", route.path)][route.method.lower()]


def path(route: Route) -> str:
    """One where nothing is."""
    ids = {"id": str(uuid4()), "job": str(uuid4()), "run": "1", "alias": "none", "container": "c", "key": "k"}
    return _KEY.sub("", route.path).format(**ids, position="1")


WITH_TOKEN = [route for route in ROUTES if route.level is not Level.PUBLIC]
WITH_BODY = [route for route in ROUTES if "requestBody" in said(route)]


def required(route: Route) -> set[str]:
    """What its query must hold."""
    asked = [each for each in said(route)["parameters"] if each["in"] == "query"]
    return {each["name"] for each in asked if each.get("required")}


def of(route: Route) -> str:
    return f"{route.method} {route.path}"


@pytest.mark.parametrize("query", ["exec", "diff"])
async def test_what_must_stand_in_the_query_is_required(yard: Yard, query: str) -> None:
    (route,) = [each for each in ROUTES if each.path == f"/v1/job/{{id}}/{query}"]
    refused = await yard.call(route.method, path(route))
    assert refused.status == 400 and {refused.json["field"]} == required(route)


def test_nothing_else_in_a_query_is_required() -> None:
    found = {(route.path, name) for route in ROUTES for name in required(route)}
    assert found == {("/v1/job/{id}/exec", "command"), ("/v1/job/{id}/diff", "from")}


async def test_each_route_with_a_token_tells_that_one_may_ask_too_much(yard: Yard, tmp_path: Path) -> None:
    async with opened(yard.database, tmp_path, yard.tokens, token_rate=0.001) as bounded:
        assert (await bounded.call("GET", "/v1/me")).status == 200
        for route in WITH_TOKEN:
            answer = await bounded.call(route.method, path(route))
            assert (answer.status, answer.headers["Retry-After"].isdigit()) == (429, True), of(route)
            assert said(route)["responses"]["429"]["headers"].keys() == {"Retry-After"}, of(route)
    assert not [
        of(route) for route in ROUTES if "429" in said(route)["responses"] and route not in WITH_TOKEN
    ]


async def test_each_route_with_a_body_tells_that_it_takes_no_compressed_one(yard: Yard) -> None:
    await yard.token("overseer", ADMIN)
    for route in WITH_BODY:
        headers = {"Content-Encoding": "gzip"}
        answer = await yard.call(route.method, path(route), {}, token="overseer", headers=headers)
        assert answer.status == 415, of(route)
        assert "415" in said(route)["responses"], of(route)
        assert ("408" in said(route)["responses"]) == (route.takes is not None), (
            "an upload that stalls is a 400"
        )


async def test_each_route_that_a_label_selector_closes_says_so(yard: Yard) -> None:
    """An administrator of `default` may do all, but for what is not only his jobs'."""
    await yard.token("scoped", ADMIN, selector="team=a")
    for route in WITH_TOKEN:
        answer = await yard.call(route.method, path(route), token="scoped")
        closed = answer.status == 403
        assert closed == ("without a label selector" in said(route)["description"]), of(route)


async def test_what_is_not_ready_is_documented_as_it_is_answered(yard: Yard) -> None:
    answer = await yard.call("GET", "/readyz", token=None)  # no supervisor is here
    assert answer.status == 503
    msgspec.json.decode(answer.raw, type=wire.Ready)
    (route,) = [each for each in ROUTES if each.path == "/readyz"]
    schema = said(route)["responses"]["503"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Ready"}


def test_each_refusal_that_passes_tells_when() -> None:
    for route in ROUTES:
        assert said(route)["responses"]["503"]["headers"].keys() == {"Retry-After"}, of(route)


@pytest.mark.parametrize("given", [{"amount": 5}, {"amount": "5", "warnAt": [0.5]}])
async def test_no_number_is_documented_where_money_is_asked_for(yard: Yard, given: dict[str, Any]) -> None:
    assert (await yard.call("PUT", "/v1/project/default/budget", given, token=ADMIN)).status == 400
    for name, properties in hints._SAID.items():
        for property in properties:
            assert '"number"' not in json.dumps(SCHEMAS[name]["properties"][property]), (name, property)
