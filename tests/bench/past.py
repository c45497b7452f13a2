"""A ledger with a long past, made faster than it could have happened: events, chained, and copied in.

Each job goes through the whole of its life before the next one, so a run is six events. Their bodies are
those that the domain makes; only the job's own ids differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec

from service.domain import events as ev
from service.domain.events import Move, encode_body
from service.domain.states import State
from service.ledger import database as db
from service.ledger.chain import Sealing, link
from tests.bench import yard

#: What the hash covers, and the hash. Nobody here had an address.
_COLUMNS = [*(name for name in Sealing.__struct_fields__ if name != "client_address"), "hash"]
_NOBODY = UUID(int=0)
_INFO = ev.Info("done", "The job ended.")


def _moves(at: datetime) -> list[tuple[Move, int]]:
    """A run from its submission to its end, with the seconds since its beginning."""
    steps = [
        None,
        State.QUEUED,
        State.INITIALIZING,
        State.PENDING,
        State.RUNNING,
        State.FINALIZING,
        State.DONE,
    ]
    terms: list[dict[str, Any]] = [
        {"source": source, "target": target, "kind": "cpu", "units": 1}
        for source, target in itertools.pairwise(steps)
    ]
    price: dict[str, Any] = {"flavor": "ai1-1-cpu", "hourly_price": Decimal("0.03"), "currency": "EUR"}
    return [
        (ev.JobSubmitted(**terms[0], spec=yard.specification(_NOBODY), user="bench"), 0),
        (ev.RunPlaced(**terms[1], engine="e", node="n", epoch=1, **price), 1),
        (ev.RunPrepared(**terms[2]), 2),
        (ev.RunStarted(**terms[3], container_id="c", image_id="i", timeout_at=at + timedelta(days=7)), 3),
        (ev.RunExited(**terms[4], exit_code=0, oom_killed=False, outcome=State.DONE, info=_INFO), 303),
        (ev.RunFinalized(**terms[5], info=_INFO), 304),
    ]


async def made(url: str, events: int) -> int:
    """Add whole jobs until there are at least so many events; the position of the last one."""
    connection = await db.connect(url, admin=True)
    try:
        head: Any = await connection.fetchrow("SELECT position, hash FROM ledger_head")
        chain = _Chain(head["position"], head["hash"])
        await connection.copy_records_to_table(
            "events", records=chain.records(events), columns=_COLUMNS, schema_name=db.SCHEMA, timeout=900
        )
        await connection.execute(
            "UPDATE ledger_head SET position = $1, hash = $2, recorded_at = $3",
            chain.position,
            chain.hash,
            chain.at,
        )
        await connection.execute("VACUUM ANALYZE events", timeout=900)
        return chain.position
    finally:
        await db.close(connection)


class _Chain:
    def __init__(self, position: int, last: bytes) -> None:
        self.position = position
        self.hash = last
        self.at = datetime.now(UTC)

    def records(self, events: int) -> Iterator[tuple[Any, ...]]:
        plain = [(body, encode_body(body).decode(), after) for body, after in _moves(self.at)]
        while self.position < events:
            job = uuid4()
            for body, data, after in plain:
                named = data.replace(str(_NOBODY), str(job)) if isinstance(body, ev.JobSubmitted) else data
                yield self._record(job, type(body).__name__, named, self.at + timedelta(seconds=after))

    def _record(self, job: UUID, kind: str, data: str, at: datetime) -> tuple[Any, ...]:
        self.position += 1
        sealing = Sealing(
            position=self.position,
            project=yard.PROJECT,
            job=job,
            run=1,
            type=kind,
            data=msgspec.Raw(data.encode()),
            occurred_at=at,
            recorded_at=at,
            actor="bench",
            command_id=job,
            request_id=None,
        )
        self.hash = link(self.hash, sealing)
        return (
            self.position, yard.PROJECT, job, 1, kind, data, at, at, "bench", job, None, self.hash
        )  # fmt: skip
