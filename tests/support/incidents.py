"""Incident bundles without a database: of a ledger in memory, and such as somebody has tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from service.config import Settings
from service.domain.events import Event, encode_body
from service.ledger.chain import GENESIS, Sealing, link
from service.ledger.incident import bundle as bundles
from service.ledger.incident.bundle import Bundle, Entry, Head, Versions
from service.ledger.incident.safe import shown
from tests.support.jobs import JOB, PROJECT, T0
from tests.support.pure import PureLedger

VERSIONS = Versions(jobyard="0.1.0", python="3.11", postgres="18.1", docker=None, schema=13, packages={})


def bundle_of(ledger: PureLedger, job: UUID = JOB) -> Bundle:
    """What would be exported of a job of a ledger that has no other."""
    entries, previous = [], GENESIS
    for event in ledger.events:
        entry = chained(previous, sealing(event))
        previous = bytes.fromhex(entry.hash)
        if not event.type.startswith("Token"):
            entries.append(entry)
    assert previous == ledger.hash
    head = Head(ledger_id=UUID(int=1), epoch=1, position=len(ledger.events), hash=ledger.hash.hex())
    return Bundle(
        job=job,
        project=PROJECT,
        made_at=T0,
        head=head,
        events=tuple(entries),
        quota=(),
        room=(),
        settings=shown(Settings()),
        versions=VERSIONS,
    )


def sealing(event: Event) -> Sealing:
    return Sealing(
        position=event.position,
        project=event.project,
        job=event.job,
        run=event.run,
        type=event.type,
        data=msgspec.Raw(encode_body(event.body)),
        occurred_at=event.occurred_at,
        recorded_at=event.recorded_at,
        actor=event.actor,
        command_id=event.command_id,
        request_id=event.request_id,
        client_address=msgspec.UNSET if event.client_address is None else event.client_address,
    )


def chained(previous: bytes, event: Sealing) -> Entry:
    return Entry(previous=previous.hex(), hash=link(previous, event).hex(), event=event)


def with_event(made: Bundle, kind: str, change: Callable[[dict[str, Any]], Any]) -> Bundle:
    """The bundle with the body of its first event of a type changed, and every hash made anew."""
    entries: list[Entry] = []
    moved: dict[str, str] = {}
    for entry in made.events:
        event = entry.event
        if event.type == kind and kind not in moved:
            body = json.loads(bytes(event.data))
            change(body)
            event = replace(event, data=msgspec.Raw(json.dumps(body, sort_keys=True).encode()))
            moved[kind] = ""
        previous = moved.get(entry.previous, entry.previous)
        again = chained(bytes.fromhex(previous), event)
        moved[entry.hash] = again.hash
        entries.append(again)
    return replace(made, events=tuple(entries))


def rewritten(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file with something changed in what it holds, and a digest that fits again."""
    found = json.loads(content)
    change(found["bundle"])
    raw = json.dumps(found["bundle"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    file = bundles.IncidentFile(
        format=found["format"],
        version=found["version"],
        digest=bundles._digest(raw),
        bundle=msgspec.Raw(raw),
    )
    return bundles._encoded(file)
