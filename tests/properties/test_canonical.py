"""The stored JSON is RFC 8785's canonical form and reads back as what it was; what could not is refused."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.domain import canonical
from service.domain import commands as cmd
from service.domain.events import BODIES, Body, decode_body, encode_body
from service.errors import Invalid
from service.ledger.chain import GENESIS, Sealing, link
from tests.properties.bodies import ANY_BODY, BODY, NAMES, TEXT, TIMES
from tests.support import jobs
from tests.support.pure import PureLedger


@pytest.mark.parametrize("name", BODIES)
@settings(max_examples=40)
@given(data=st.data())
def test_every_body_is_canonical_and_reads_back(name: str, data: st.DataObject) -> None:
    body = data.draw(BODY[name])
    encoded = encode_body(body)
    assert rfc8785.dumps(json.loads(encoded)) == encoded
    assert canonical.problem(encoded) is None
    assert decode_body(name, encoded) == body
    assert encode_body(decode_body(name, encoded)) == encoded


@settings(max_examples=150)
@given(
    body=ANY_BODY,
    project=TEXT | st.none(),
    actor=TEXT,
    run=st.integers(1, 2**31) | st.none(),
    at=TIMES,
    address=TEXT | st.just(msgspec.UNSET),
)
def test_what_the_hash_covers_is_canonical(
    body: Body, project: str | None, actor: str, run: int | None, at: Any, address: Any
) -> None:
    sealing = Sealing(
        position=2**40,
        project=project,
        job=UUID(int=1),
        run=run,
        type=type(body).__name__,
        data=msgspec.Raw(encode_body(body)),
        occurred_at=at,
        recorded_at=at.astimezone(UTC),
        actor=actor,
        command_id=UUID(int=2),
        request_id=actor,
        client_address=address,
    )
    encoded = msgspec.json.encode(sealing, order="sorted")
    assert rfc8785.dumps(json.loads(encoded)) == encoded
    assert link(GENESIS, sealing) != link(bytes(31) + b"\1", sealing)


def test_an_event_from_before_addresses_were_kept_has_the_hash_it_had() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    sealing = Sealing(
        position=1,
        project=None,
        job=None,
        run=None,
        type="TokenRevoked",
        data=msgspec.Raw(b'{"tokenId":"t"}'),
        occurred_at=at,
        recorded_at=at,
        actor="token:a",
        command_id=UUID(int=1),
        request_id=None,
    )
    then = (
        '{"actor":"token:a","commandId":"00000000-0000-0000-0000-000000000001","data":{"tokenId":"t"},'
        '"job":null,"occurredAt":"2026-01-01T00:00:00Z","position":1,"project":null,'
        '"recordedAt":"2026-01-01T00:00:00Z","requestId":null,"run":null,"type":"TokenRevoked"}'
    )
    assert link(GENESIS, sealing) == hashlib.sha256(GENESIS + then.encode()).digest()
    assert link(GENESIS, replace(sealing, client_address="192.0.2.1")) != link(GENESIS, sealing)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT | st.just("a\0b"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT | NAMES | st.sampled_from(["\0", "\ue000", "\U00010000"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=500)
@given(ANYTHING)
def test_only_what_is_canonical_passes(value: Any) -> None:
    """The guard lets nothing through where our encoder and RFC 8785 differ, nor a NUL."""
    encoded = msgspec.json.encode(value, order="sorted")
    if canonical.problem(encoded) is not None:
        return
    assert rfc8785.dumps(value) == encoded
    assert "\\u0000" not in encoded.decode().replace("\\\\", "")


@pytest.mark.parametrize(
    ("value", "fine"),
    [
        ({"a": "\0"}, False),
        ({"\0": 1}, False),
        ({"a": "\\u0000"}, True),  # the six characters, not the NUL
        ({"a": "\\\0"}, False),
        ({"a": "\\\\u0000"}, True),
        ({"a": 2**53 - 1}, True),
        ({"a": [-(2**53)]}, False),
        ({"a": {"b": 2**53}}, False),
        ({"a": "9007199254740993"}, True),
        ({"\U0001f600": 1}, False),
        ({"a": "\U0001f600"}, True),
        ({"\uffff": 1}, True),
    ],
)
def test_what_the_guard_refuses(value: Any, fine: bool) -> None:
    assert (canonical.problem(msgspec.json.encode(value, order="sorted")) is None) is fine


def test_a_command_with_what_cannot_be_kept_is_refused_alone() -> None:
    ledger = PureLedger()
    prices = cmd.SetPrices(prices=jobs.PRICES, currency="EUR")
    ledger.commit([prices, cmd.CreateProject(project="vision", name="Vision", cpu=9, gpu=9)])
    odd = [
        jobs.submit(UUID(int=1), command=("printf", "a\0b")),
        jobs.submit(UUID(int=2), command=("printf", r"\u0000")),
        jobs.submit(UUID(int=3), labels={"\U0001f600": ""}),
        jobs.submit(UUID(int=4)),
    ]
    answers = ledger.commit(odd)
    assert [isinstance(answer, Invalid) for answer in answers] == [True, False, True, False]
    assert [event.job for event in ledger.events[2:]] == [UUID(int=2), UUID(int=4)]
