"""A bit flipped in any column of any event, with nothing else made good: named where it is."""

from __future__ import annotations

import random
from typing import Any

import asyncpg
import pytest

from service.errors import LedgerCorrupt
from service.ledger.verify import verify
from tests.audit.conftest import LAST, Signed, against
from tests.ledger.tampering import by_force

COLUMNS = [
    *("project", "job", "run", "type", "data", "occurred_at", "recorded_at"),
    *("actor", "command_id", "request_id", "hash", "client_address"),
]


def _changed(column: str, value: Any, source: random.Random) -> str:
    """Another value of a column, as SQL, by one bit where its type has bits."""
    at = source.randrange(10**6)
    match column:
        case "data":
            return f"'{_flipped(value, source)}'::json"
        case "job" | "command_id":
            text = str(value or "0" * 32).replace("-", "")
            return f"'{int(text, 16) ^ 1 << source.randrange(128):032x}'::uuid"
        case "hash":
            return f"set_bit(hash, {at % 256}, 1 - get_bit(hash, {at % 256}))"
        case "run":
            return f"coalesce(run, 0) # {1 << at % 20}"
        case "occurred_at" | "recorded_at":
            return f"{column} + interval '{1 << at % 30} microseconds'"
        case _:
            return f"'{_flipped(value or 'x', source)}'"


def _flipped(text: str, source: random.Random) -> str:
    """Another character somewhere, so that JSON remains JSON: of a name or a value, not of its shape."""
    places = [at for at, char in enumerate(text) if char.isascii() and char.isalpha()]
    at = source.choice(places)
    return (text[:at] + chr(ord(text[at]) ^ 2) + text[at + 1 :]).replace("'", "''")


@pytest.mark.parametrize("column", COLUMNS)
async def test_any_bit_of_a_column(admin: asyncpg.Connection, signed: Signed, column: str) -> None:
    source = random.Random(column)
    for position in source.sample(range(1, LAST + 1), 5):
        row: Any = await admin.fetchrow("SELECT * FROM events WHERE position = $1", position)
        changed = _changed(column, row[column], source)
        await by_force(admin, f"UPDATE events SET {column} = {changed} WHERE position = {position}")
        with pytest.raises(LedgerCorrupt) as error:
            await verify(admin)
        assert error.value.position == position, changed
        with pytest.raises(LedgerCorrupt) as error:
            await against(admin, signed)
        assert error.value.position == position, changed
        await by_force(
            admin,
            f"UPDATE events SET {column} = kept_events.{column} FROM kept_events"
            f" WHERE events.position = {position} AND kept_events.position = {position}",
        )
    assert (await verify(admin)).events == LAST
