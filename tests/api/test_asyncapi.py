"""/v1/asyncapi.json: valid by AsyncAPI's own schema, and true of every frame that there can be."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.api.events.asyncapi import document
from service.api.routes import ROUTES
from service.domain.cloudevents import frame, source_of
from service.domain.events import BODIES, Event
from service.domain.states import State
from tests.api.streams import socket, sse
from tests.api.yard import Supervision, Yard
from tests.properties.bodies import BODY

SCHEMA = Path(__file__).parent / "asyncapi" / "3.0.0.json.gz"
DOCUMENT: dict[str, Any] = json.loads(document("https://jobs.example.org"))


def validator(name: str) -> Any:
    """Of what a message holds."""
    payload = DOCUMENT["components"]["messages"][name]["payload"]
    return jsonschema_rs.Draft202012Validator({"components": DOCUMENT["components"], **payload})


VALIDATORS = {name: validator(name) for name in (*BODIES, "Hello", "Heartbeat")}


def test_the_document_is_valid_asyncapi() -> None:
    valid = jsonschema_rs.Draft7Validator(json.loads(gzip.decompress(SCHEMA.read_bytes())))
    valid.validate(DOCUMENT)
    assert not valid.is_valid(DOCUMENT | {"channels": {"events": {"adress": "/"}}})
    assert DOCUMENT["servers"]["jobyard"]["host"] == "jobs.example.org"
    assert DOCUMENT["servers"]["jobyard"]["protocol"] == "wss"


def test_it_tells_every_type_state_and_filter() -> None:
    messages = DOCUMENT["channels"]["events"]["messages"]
    assert set(messages) == {*BODIES, "Hello", "Heartbeat"}
    query = DOCUMENT["channels"]["events"]["bindings"]["ws"]["query"]["properties"]
    assert set(query) == {"after", "job", "type", "state", "labelSelector"}
    assert query["state"]["items"]["enum"] == sorted(State)
    assert query["type"]["items"]["enum"] == sorted(BODIES)
    assert DOCUMENT["channels"]["events"]["address"] in {route.path for route in ROUTES}
    assert {"1012", "4401", "4408"} <= set(DOCUMENT["channels"]["events"]["x-close-codes"])


@pytest.mark.parametrize("name", BODIES)
@settings(max_examples=10)
@given(data=st.data())
def test_every_frame_is_as_the_document_says(name: str, data: st.DataObject) -> None:
    at = datetime(2026, 11, 28, tzinfo=UTC)
    event = Event(
        position=7,
        project="alpha",
        body=data.draw(BODY[name]),
        occurred_at=at,
        recorded_at=at,
        actor="a",
        command_id=UUID(int=9),
    )
    shown = frame(event, source_of(UUID(int=1)))
    VALIDATORS[name].validate(json.loads(json.dumps(shown)))
    assert not VALIDATORS[name].is_valid(shown | {"type": "jobyard.Other"})
    assert not VALIDATORS[name].is_valid(shown | {"data": []})


def test_what_is_hidden_is_not_told() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert "sha256" not in json.dumps(schemas)
    assert set(schemas["Sealed"]["properties"]) == {"sealed"}


async def test_what_a_stream_sends_is_as_the_document_says(yard: Yard, supervision: Supervision) -> None:
    answer = await yard.call("GET", "/v1/asyncapi.json", token=None)
    told = answer.json
    assert told["servers"]["jobyard"]["host"] == "yard.test"
    assert {**told, "servers": 0} == {**DOCUMENT, "servers": 0}
    job = await yard.submit(envVars=[{"name": "KEY", "value": "secret"}])
    await supervision.running(job["id"])
    await supervision.ended(job["id"])
    async with socket(yard) as stream, sse(yard) as browser:
        frames = [*await stream.until_live(), *stream.controls]
        records = [await browser.record() for _ in frames]
    frames += [json.loads(each["data"]) for each in records if each is not None and "data" in each]
    assert len(frames) >= 16
    for each in frames:
        name = each["type"].removeprefix("jobyard.")
        VALIDATORS[name[0].upper() + name[1:]].validate(each)
