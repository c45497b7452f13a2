"""The export: events as JSON lines that prove themselves, for whoever has no database.

The first line says what is exported, and holds the checkpoint that all of it is under. Each further line is
an event with the hash before it, its own, and its path to the checkpoint's root; `after` is the event before
it in this file. The last line counts, and has the SHA-256 of all lines before it. All are canonical JSON.

An export of everything in a range is whole: no event in it can be left out unseen. One of a project or a job
is a part: each event in it is genuine, and that none was left out nobody can prove.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal
from uuid import UUID

import asyncpg
import msgspec

from service.audit import reading
from service.audit.log import Log
from service.audit.reading import Wanted
from service.domain.checkpoint import Checkpoint
from service.ledger.chain import canonical, sealing_of
from sql import migrations

encode = msgspec.json.Encoder(order="sorted").encode
FORMAT: Literal["jobyard-audit-export/1"] = "jobyard-audit-export/1"


class Header(msgspec.Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """The first line. `after` < position <= `upto`; `of` tells which events of these, if not all."""

    format: Literal["jobyard-audit-export/1"] = FORMAT
    ledger: UUID
    epoch: int
    versions: dict[str, str]
    kind: Literal["whole", "part"]
    of: dict[str, str]
    after: int
    upto: int
    checkpoint: str


class Line(msgspec.Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """One event. Hashes are hex."""

    after: int
    event: msgspec.Raw
    hash: str
    position: int
    previous: str
    proof: list[str]


class Trailer(msgspec.Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """The last line. `header` is the SHA-256 of the first one, `sha256` of all before this one."""

    events: int
    first: int
    last: int
    header: str
    sha256: str


async def exported(
    pool: asyncpg.Pool, log: Log, note: str, checkpoint: Checkpoint, ledger_id: UUID, wanted: Wanted
) -> AsyncGenerator[bytes, None]:
    """The lines of an export. `wanted` must end at the checkpoint. Raises `StoreMissing` for lost tiles."""
    header = Header(
        ledger=ledger_id,
        epoch=checkpoint.epoch,
        versions=_versions(),
        kind="whole" if wanted.everything else "part",
        of=_said(wanted),
        after=wanted.after,
        upto=wanted.upto,
        checkpoint=note,
    )
    line = encode(header) + b"\n"
    of_header, summed = hashlib.sha256(line).hexdigest(), hashlib.sha256(line)
    yield line
    count = first = last = 0
    async for record in reading.rows(pool, wanted):
        line = await _line(record, last, log, checkpoint.size)
        summed.update(line)
        yield line
        last = record["position"]
        first, count = first or last, count + 1
    ended = Trailer(events=count, first=first, last=last, header=of_header, sha256=summed.hexdigest())
    yield encode(ended) + b"\n"


def _versions() -> dict[str, str]:
    """Of the service, and of the schema that it knows."""
    try:
        service = version("jobyard")
    except PackageNotFoundError:
        service = "0"
    return {"jobyard": service, "schema": str(migrations()[-1].version)}


async def _line(record: Any, after: int, log: Log, size: int) -> bytes:
    position = record["position"]
    path = await log.path(position - 1, size)
    line = Line(
        after=after,
        event=msgspec.Raw(canonical(sealing_of(record))),
        hash=record["hash"].hex(),
        position=position,
        previous=record["previous"].hex(),
        proof=[each.hex() for each in path],
    )
    return encode(line) + b"\n"


def _said(wanted: Wanted) -> dict[str, str]:
    """What narrows it down, in the words of the API."""
    found: dict[str, str | None] = {
        "project": wanted.project,
        "projects": "none" if wanted.yard else None,
        "job": str(wanted.job) if wanted.job else None,
        "actor": wanted.actor,
        "type": ",".join(wanted.types) or None,
        "requestId": wanted.request_id,
        "commandId": str(wanted.command_id) if wanted.command_id else None,
        "labelSelector": None if wanted.selector is None else str(wanted.selector),
    }
    return {name: value for name, value in found.items() if value is not None}
