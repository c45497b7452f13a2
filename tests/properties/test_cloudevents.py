"""What outsiders see of an event: all that the ledger says, without a secret or the digest of a token."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.cloudevents import frame, shown, source_of
from service.domain.events import BODIES, Event, LabelSet, TokenCreated, TokenRenewed, encode_body
from service.domain.spec import Sealed
from tests.properties.bodies import BODY

_SEALED = {"keyId", "nonce", "box"}


@pytest.mark.parametrize("name", BODIES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_body_is_shown_whole_without_its_secrets(name: str, data: st.DataObject) -> None:
    body = data.draw(BODY[name])
    stored = _hidden(json.loads(encode_body(body)))
    if isinstance(body, TokenCreated | TokenRenewed):
        del stored["sha256"]
    # What has its default is left out; msgspec writes a number all the same that only happens to be equal.
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(BODIES[name])}
    assert shown(body) == {key: value for key, value in stored.items() if defaults[key] != value}


def test_digests_and_secrets_are_not_shown() -> None:
    body = TokenCreated(token_id="t", name="n", role="r", sha256="ab" * 32)
    assert shown(body) == {"tokenId": "t", "name": "n", "role": "r"}
    sealed = Sealed("key-1", "nonce", "box")
    assert "box" not in json.dumps(shown(BODIES["RegistrySet"](**_registry(sealed))))


def test_a_frame_is_a_cloudevent() -> None:
    job, command = UUID(int=1), UUID(int=2)
    at = datetime(2026, 11, 28, 1, 2, 3, 4, tzinfo=UTC)
    event = Event(
        position=2**40,
        project="alpha",
        job=job,
        run=3,
        body=LabelSet(name="stage", value="prod"),
        occurred_at=at,
        recorded_at=at,
        actor="token:me",
        command_id=command,
    )
    assert frame(event, source_of(UUID(int=3))) == {
        "specversion": "1.0",
        "id": "1099511627776",
        "source": "urn:jobyard:ledger:00000000-0000-0000-0000-000000000003",
        "type": "jobyard.LabelSet",
        "subject": f"job/{job}",
        "time": "2026-11-28T01:02:03.000004Z",
        "datacontenttype": "application/json",
        "sequence": "00000001099511627776",
        "recordedtime": "2026-11-28T01:02:03.000004Z",
        "project": "alpha",
        "job": str(job),
        "run": 3,
        "actor": "token:me",
        "commandid": str(command),
        "data": {"name": "stage", "value": "prod"},
    }
    assert all(name.isalnum() and name.islower() for name in frame(event, "urn:x"))


def _hidden(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == _SEALED:
            return {"sealed": value["keyId"]}
        return {name: _hidden(held) for name, held in value.items()}
    return [_hidden(item) for item in value] if isinstance(value, list) else value


def _registry(sealed: Sealed) -> dict[str, Any]:
    return {
        "registry_id": "r",
        "url": "https://registry.example.org",
        "scheme": "https",
        "host": "registry.example.org",
        "username": "me",
        "password": sealed,
        "user": "me",
    }
