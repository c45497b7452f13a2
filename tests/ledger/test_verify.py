"""Verification names the first event that does not hold; and what it cannot find without checkpoints."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from service.domain.events import JobSubmitted
from service.errors import LedgerCorrupt
from service.ledger import database, read
from service.ledger.ledger import Ledger
from service.ledger.verify import Verified, verify
from service.vault import MasterKey
from sql import migrations
from tests.ledger.tampering import by_force, keep, put_back_afterwards, recompute
from tests.support import databases
from tests.support.yard import Yard

LAST = 9


@pytest.fixture(scope="module")
def nine(template_database: str) -> Iterator[str]:
    """Nine events: prices, a project, a job from beginning to end, another job; and a copy of them."""
    name = f"{template_database}_nine"
    asyncio.run(_nine(asyncio.run(databases.make(name, template_database))))
    yield databases.url_of(name)
    asyncio.run(databases.drop(name))


async def _nine(url: str) -> None:
    async with Ledger.open(url, MasterKey(b"m" * 32)) as ledger:
        yard = Yard(ledger)
        await yard.open()
        await yard.run(await yard.submit())
        await yard.submit()
    await keep(url)


@pytest.fixture
async def admin(nine: str) -> AsyncIterator[asyncpg.Connection]:
    """The nine events, whole; whatever a test does to them is undone."""
    async with put_back_afterwards(nine) as connection:
        yield connection


async def head_of(connection: asyncpg.Connection) -> Any:
    return await connection.fetchrow("SELECT position, hash FROM ledger_head")


async def first_bad(connection: asyncpg.Connection) -> int:
    with pytest.raises(LedgerCorrupt) as error:
        await verify(connection)
    assert str(error.value.position) in error.value.message
    return error.value.position


async def test_an_untouched_ledger_holds(admin: asyncpg.Connection) -> None:
    position, head_hash = await head_of(admin)
    assert await verify(admin) == Verified(LAST, head_hash)
    assert position == LAST


async def test_an_empty_ledger_holds(database_url: str) -> None:
    connection = await database.connect(database_url, admin=True)
    assert await verify(connection) == Verified(0, bytes(32))
    await connection.close()


@pytest.mark.parametrize(
    "change",
    [
        "data = replace(data::text, 'busybox', 'busyb0x')::json",
        "data = (data::text || ' ')::json",
        "project = 'audio'",
        "project = NULL",
        "job = gen_random_uuid()",
        "job = NULL",
        "run = 2",
        "type = 'RunNoted'",
        "occurred_at = occurred_at - interval '1 microsecond'",
        "recorded_at = recorded_at + interval '1 day'",
        "occurred_at = 'infinity'",
        "occurred_at = '-infinity'",
        "occurred_at = '12026-01-01'",
        "recorded_at = '0044-03-15 BC'",
        "data = (repeat('[', 5000) || repeat(']', 5000))::json",
        "actor = 'someone else'",
        "command_id = gen_random_uuid()",
        "request_id = 'r-1'",
        "client_address = '192.0.2.1'",
        "hash = sha256('x')",
    ],
)
async def test_a_changed_column_is_found_where_it_is(admin: asyncpg.Connection, change: str) -> None:
    await by_force(admin, f"UPDATE events SET {change} WHERE position = 3")
    assert await first_bad(admin) == 3


@pytest.mark.parametrize("at", ["infinity", "-infinity", "12026-01-01", "0044-03-15 BC"])
async def test_a_time_that_no_program_has_is_found_wherever_that_is(
    admin: asyncpg.Connection, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver takes times into the machine's own zone; and the event before it is still looked at."""
    for zone in ("America/New_York", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            await by_force(admin, f"UPDATE events SET recorded_at = '{at}' WHERE position = 4")
            assert await first_bad(admin) == 4
        finally:
            monkeypatch.undo()
            time.tzset()
    await by_force(admin, "UPDATE events SET actor = 'x' WHERE position = 3")
    assert await first_bad(admin) == 3


async def test_a_body_that_is_nested_without_end_is_found_even_under_a_right_hash(
    admin: asyncpg.Connection,
) -> None:
    nested = """('{"x":' || repeat('[', 5000) || repeat(']', 5000) || '}')::json"""
    await by_force(admin, f"UPDATE events SET data = {nested} WHERE position = 3")
    await recompute(admin, 3, head=True)
    assert await first_bad(admin) == 3


async def test_every_column_is_covered(admin: asyncpg.Connection) -> None:
    """A new column must come into the hash, or be named here."""
    record = await admin.fetchrow("SELECT * FROM events WHERE position = 3")
    assert record is not None
    assert set(record.keys()) == {
        *("position", "project", "job", "run", "type", "data", "occurred_at"),
        *("recorded_at", "actor", "command_id", "request_id", "hash", "client_address"),
    }


async def test_a_renumbered_event_is_missing(admin: asyncpg.Connection) -> None:
    await by_force(admin, "UPDATE events SET position = 100 WHERE position = 4")
    assert await first_bad(admin) == 4


@pytest.mark.parametrize("position", [1, 5, LAST - 1])
async def test_a_deleted_event_is_missed(admin: asyncpg.Connection, position: int) -> None:
    await by_force(admin, f"DELETE FROM events WHERE position = {position}")
    assert await first_bad(admin) == position


async def test_two_swapped_are_found_at_the_first(admin: asyncpg.Connection) -> None:
    await by_force(
        admin,
        "UPDATE events SET position = 1004 WHERE position = 4",
        "UPDATE events SET position = 4 WHERE position = 6",
        "UPDATE events SET position = 6 WHERE position = 1004",
    )
    assert await first_bad(admin) == 4


async def test_an_event_put_in_between_is_found(admin: asyncpg.Connection) -> None:
    await by_force(
        admin,
        "UPDATE events SET position = position + 1001 WHERE position >= 5",
        "UPDATE events SET position = position - 1000 WHERE position > 1000",
        "INSERT INTO events SELECT 5, project, job, run, type, data, occurred_at, recorded_at, actor,"
        " command_id, request_id, hash FROM events WHERE position = 4",
    )
    assert await first_bad(admin) == 5


async def test_a_cut_tail_is_missed(admin: asyncpg.Connection) -> None:
    await by_force(admin, "DELETE FROM events WHERE position >= 8")
    assert await first_bad(admin) == 8


#: As the sixth event, of another place.
_STRAY = (
    "INSERT INTO events SELECT {}, project, job, run, type, data, occurred_at, recorded_at, actor,"
    " command_id, request_id, hash FROM events WHERE position = 6"
)


async def test_the_services_role_adds_nothing_before_the_beginning(database_url: str, yard: Yard) -> None:
    await yard.run(await yard.submit())
    connection = await database.connect(database_url)
    for position in (0, -1):
        with pytest.raises(asyncpg.CheckViolationError, match="events_begin_at_one"):
            await connection.execute(_STRAY.format(position))
    await connection.close()


@pytest.mark.parametrize("position", [0, -1, -(2**63)])
async def test_an_event_before_the_beginning_is_found(database_url: str, yard: Yard, position: int) -> None:
    """As one may lie there from before the schema refused it; a ledger that has one still starts."""
    await yard.run(await yard.submit())
    admin = await database.connect(database_url, admin=True)
    await admin.execute("ALTER TABLE events DROP CONSTRAINT events_begin_at_one")
    await by_force(admin, _STRAY.format(position))
    await admin.execute(next(each.text for each in migrations() if each.name == "positions"))
    assert await first_bad(admin) == position
    await admin.close()


@pytest.mark.parametrize("position", [LAST + 1, LAST + 1000, 2**63 - 1])
async def test_an_event_beyond_the_head_is_found(admin: asyncpg.Connection, position: int) -> None:
    await by_force(admin, _STRAY.format(position))
    assert await first_bad(admin) == position


@pytest.mark.parametrize("position", [LAST + 1000, 2**63 - 1])
async def test_an_event_beyond_the_head_is_no_history(
    nine: str, admin: asyncpg.Connection, position: int
) -> None:
    sixth = (await read.page(admin, 5, limit=1))[0]
    async with Ledger.open(nine, MasterKey(b"m" * 32)) as ledger:
        await ledger.keys.of(sixth.project or "")
    await by_force(
        admin,
        _STRAY.format(position),
        f"INSERT INTO events SELECT {position - 1}, project, job, run, 'ProjectKeyDestroyed',"
        " json_build_object('keyIds', (SELECT array_agg(id) FROM project_keys)), occurred_at, recorded_at,"
        " actor, command_id, request_id, hash FROM events WHERE position = 6",
    )
    assert await read.page(admin, LAST) == []
    end, _ = await read.still(admin, read.BEGINNING)
    assert (end.position, await read.portion(admin, end)) == (LAST, ([], end))
    assert await read.portion(admin, read.Mark(position, end.hash)) is None
    assert await read.page(admin, LAST, job=sixth.job) == []
    assert await read.page(admin, LAST, project=sixth.project) == []
    async with Ledger.open(nine, MasterKey(b"m" * 32)) as ledger:
        assert await ledger.keys.destroy_told() == 0


async def test_a_lost_head_is_found(admin: asyncpg.Connection) -> None:
    await by_force(admin, "UPDATE ledger_head SET hash = sha256('x')")
    assert await first_bad(admin) == LAST + 1


async def test_a_rewritten_rest_is_found_at_the_head(admin: asyncpg.Connection) -> None:
    """From the change on everything was hashed again: only the head tells, so it is all that can be said."""
    await by_force(
        admin, "UPDATE events SET data = replace(data::text, 'busybox', 'busyb0x')::json WHERE position = 3"
    )
    await recompute(admin, 3, head=False)
    assert await first_bad(admin) == LAST + 1


async def test_what_only_a_checkpoint_kept_elsewhere_can_show(admin: asyncpg.Connection) -> None:
    """A whole history made anew, head and all, is a valid ledger; but not the one whose hash was kept."""
    _, kept = await head_of(admin)
    await by_force(
        admin,
        "DELETE FROM events WHERE position >= 8",
        "UPDATE ledger_head SET position = 7, hash = (SELECT hash FROM events WHERE position = 7)",
    )
    assert (await verify(admin)).hash != kept
    await by_force(admin, "UPDATE events SET actor = 'someone else' WHERE position = 2")
    await recompute(admin, 2, head=True)
    found = await verify(admin)
    assert (found.events, found.hash == kept) == (7, False)


async def test_text_that_is_no_body_is_found_even_under_a_right_hash(admin: asyncpg.Connection) -> None:
    await by_force(admin, "UPDATE events SET data = '{\"source\": 1}' WHERE position = 3")
    await recompute(admin, 3, head=True)
    assert await first_bad(admin) == 3


async def test_an_event_of_a_newer_version_is_no_corruption(admin: asyncpg.Connection) -> None:
    await by_force(
        admin, "UPDATE events SET type = 'JobTeleported', data = '{\"to\":\"x\"}' WHERE position = 9"
    )
    await recompute(admin, 9, head=True)
    assert (await verify(admin)).events == LAST


async def test_the_events_are_what_the_tests_say(admin: asyncpg.Connection) -> None:
    third = (await read.page(admin, 2, limit=1))[0]
    assert isinstance(third.body, JobSubmitted)
    assert third.body.spec.image == "busybox:latest"
