"""Sessions, locks, transactions, constraints and notifications: Postgres and the simulation's are alike."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from sql import queries
from tests.chaos.simulation.conformance.grounds import CHANNEL, LEDGER
from tests.chaos.simulation.conformance.rows import (
    AT,
    COMMAND,
    DIGEST,
    EVENT,
    FIRST,
    FOLD,
    KEY,
    LAST,
    ROW,
    added,
    appended,
    changed,
)
from tests.support.waiting import until

FOLDS, KEYS, READS = queries("folds"), queries("keys"), queries("reads")
ONE = UUID(int=1)
#: No rows and no commands are asked for beside the head.
NOTHING: tuple[list[Any], ...] = ([], [], [])


async def write(connection: Any, position: int, command: UUID | None = None) -> None:
    async with connection.transaction():
        await connection.fetchrow(LEDGER.take_head, *NOTHING)
        await connection.execute(LEDGER.append, *appended(position, command))


# -- locks --------------------------------------------------------------------------------------------


async def test_a_second_writer_waits_and_goes_on_from_what_the_first_left(ground: Any) -> None:
    first, second = await ground.connect(), await ground.connect()
    async with second.transaction():
        async with first.transaction():
            assert (await first.fetchrow(LEDGER.take_head, *NOTHING))["at"] == 0
            waiting = asyncio.create_task(second.fetchrow(LEDGER.take_head, *NOTHING))
            await until(ground.waiting)
            await first.execute(LEDGER.append, *appended(1))
            assert not waiting.done()
        head = await waiting
        assert (head["at"], head["hash"], head["rebuilds"]) == (1, b"\1" * 32, 0)
        assert list(head.keys()) == ["at", "rebuilds", "hash", "now", "rows", "known"]


async def test_writers_are_served_in_the_order_in_which_they_came(ground: Any) -> None:
    holder, *others = [await ground.connect() for _ in range(4)]
    order: list[int] = []

    async def one(number: int) -> None:
        async with others[number].transaction():
            await others[number].fetchrow(LEDGER.take_head, *NOTHING)
            order.append(number)

    async with holder.transaction():
        await holder.fetchrow(LEDGER.take_head, *NOTHING)
        tasks = []
        for number in range(3):
            tasks.append(asyncio.create_task(one(number)))
            await until(partial(_are_waiting, ground, number + 1))
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]


async def _are_waiting(ground: Any, count: int) -> bool:
    return bool(await ground.waiting() == count)


@pytest.mark.parametrize(
    ("bounds", "error"),
    # Long beside what each statement takes on a busy machine: all but one must end within it.
    [({"statement_ms": 2000}, asyncpg.QueryCanceledError), ({"answer_s": 2.0}, TimeoutError)],
)
async def test_who_waits_in_vain_is_refused_and_can_begin_anew(
    ground: Any, bounds: dict[str, Any], error: type[Exception]
) -> None:
    first, second = await ground.connect(), await ground.connect(**bounds)
    async with first.transaction():
        await first.fetchrow(LEDGER.take_head, *NOTHING)
        async with second.transaction():
            with pytest.raises(error):
                await second.fetchrow(LEDGER.take_head, *NOTHING)
            with pytest.raises(asyncpg.InFailedSQLTransactionError):
                await second.fetchval(LEDGER.ping)
        assert await second.fetchval(LEDGER.ping) == 1
    await write(second, 1)
    assert (await ground.state()).head[0] == 1


async def test_who_is_idle_with_the_lock_loses_it_and_all_he_did(ground: Any) -> None:
    first, second = await ground.connect(idle_ms=1500), await ground.connect()
    with pytest.raises(asyncpg.InterfaceError):
        async with first.transaction():
            await first.fetchrow(LEDGER.take_head, *NOTHING)
            await first.execute(LEDGER.append, *appended(1))
            async with second.transaction():
                assert (await second.fetchrow(LEDGER.take_head, *NOTHING))["at"] == 0
            await until(first.is_closed)
            with pytest.raises(asyncpg.InterfaceError):
                await first.fetchval(LEDGER.ping)
    assert (await ground.state()).events == []


async def test_who_is_cancelled_in_the_queue_is_out_of_it(ground: Any) -> None:
    first, second, third = [await ground.connect() for _ in range(3)]

    async def wait(connection: Any) -> None:
        async with connection.transaction():
            await connection.fetchrow(LEDGER.take_head, *NOTHING)

    async with first.transaction():
        await first.fetchrow(LEDGER.take_head, *NOTHING)
        gone = asyncio.create_task(wait(second))
        await until(ground.waiting)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        await until(lambda: _are_waiting(ground, 0))
    await write(third, 1)
    await write(second, 2)


# -- transactions -------------------------------------------------------------------------------------


async def test_what_is_rolled_back_leaves_nothing(ground: Any) -> None:
    first, second = await ground.connect(), await ground.connect()
    await write(first, 1, ONE)
    before = await ground.state()
    with pytest.raises(ValueError, match="mine"):
        async with first.transaction():
            await first.fetchrow(LEDGER.take_head, *NOTHING)
            await first.execute(LEDGER.append, *appended(2))
            raise ValueError("mine")
    assert await ground.state() == before
    await write(second, 2)
    assert [each[0] for each in (await ground.state()).events] == [1, 2]


async def test_who_is_cut_off_leaves_nothing_and_no_lock(ground: Any) -> None:
    first, second = await ground.connect(), await ground.connect()
    with pytest.raises(asyncpg.InterfaceError):
        async with first.transaction():
            await first.fetchrow(LEDGER.take_head, *NOTHING)
            await first.execute(LEDGER.append, *appended(1))
            first.terminate()
    with pytest.raises(asyncpg.InterfaceError):
        await first.fetchval(LEDGER.ping)
    with pytest.raises(asyncpg.InterfaceError):
        async with first.transaction():
            raise AssertionError("on a closed connection no transaction begins")
    await write(second, 1)


async def test_a_transaction_sees_its_own_and_nobody_elses(ground: Any) -> None:
    first, second = await ground.connect(), await ground.connect()

    async def seen(connection: Any) -> tuple[int, int]:
        rows = await connection.fetch(FOLDS.load, ["quota", "status"], ["p", "p"])
        events = await connection.fetch(LEDGER.read_after, 0, 2**62, 10)
        return len(rows), len(events)

    async with first.transaction():
        await first.fetchrow(LEDGER.take_head, *NOTHING)
        await first.execute(LEDGER.append, *appended(1, ONE))
        await first.execute(LEDGER.append, *appended(2, UUID(int=2)))
        assert (await seen(first), await seen(second)) == ((1, 2), (0, 0))
    assert await seen(second) == (1, 2)
    async with second.transaction():
        asked = (["quota", "status"], ["p", "p"], [ONE, UUID(int=2), UUID(int=3)])
        head = await second.fetchrow(LEDGER.take_head, *asked)
    assert [(each["fold"], each["key"]) for each in head["rows"]] == [("quota", "p")]
    assert sorted(each["id"] for each in head["known"]) == [ONE, UUID(int=2)]


async def test_events_are_read_by_position_and_no_more_than_asked_for(ground: Any) -> None:
    connection = await ground.connect()
    await connection.execute(LEDGER.append, *appended(1, last=5))
    await connection.execute(LEDGER.append, *appended(9, last=10))  # a hole: the schema would let it be

    async def read(*args: int) -> list[int]:
        return [each["position"] for each in await connection.fetch(LEDGER.read_after, *args)]

    assert await read(0, 2**62, 100) == [1, 2, 3, 4, 5, 9, 10]
    assert await read(2, 4, 100) == [3, 4]
    assert await read(3, 9, 2) == [4, 5]
    assert await read(6, 8, 9) == await read(10, 99, 9) == []


async def test_an_event_is_known_again_by_its_position_and_hash(ground: Any) -> None:
    connection = await ground.connect()
    await write(connection, 1)
    await write(connection, 2)
    known, other, head = bytes(32), b"\3" * 32, b"\2" * 32

    async def still(position: int, mark: bytes) -> tuple[Any, ...]:
        return tuple((await connection.fetchrow(LEDGER.still, position, mark)).values())

    assert await still(0, b"") == await still(1, known) == await still(2, known) == (2, head, True)
    assert await still(1, other) == await still(3, known) == (2, head, False)
    assert not await connection.fetchval(LEDGER.lost, [0, 1, 2], [b"", known, known])
    assert await connection.fetchval(LEDGER.lost, [1, 2], [known, other])
    assert await connection.fetchval(LEDGER.lost, [1, 3], [known, known])
    portion = await connection.fetch(LEDGER.read_portion, 0, 10, 2**20)
    assert [(each["position"], each["hash"]) for each in portion] == [(1, known), (2, known)]
    assert [each["position"] for each in await connection.fetch(LEDGER.read_portion, 1, 1, 1)] == [2]


async def test_a_clock_is_behind_an_event_that_came_later(ground: Any) -> None:
    connection = await ground.connect()
    before = await connection.fetchval(READS.now)
    found = await connection.fetchrow(READS.clock)
    assert before <= found["now"] <= await connection.fetchval(READS.now)
    assert found["behind_s"] == 0.0
    *event, _ = appended(1)
    await connection.execute(LEDGER.append, *event, found["now"] + timedelta(hours=1))
    assert 0 < (await connection.fetchrow(READS.clock))["behind_s"] <= 3600


async def test_of_two_that_add_a_projects_key_the_second_waits_and_leaves_the_firsts(ground: Any) -> None:
    first, second = await ground.connect(), await ground.connect()
    async with first.transaction():
        await first.execute(KEYS.add_key, "one", "p", b"n", b"b")
        waiting = asyncio.create_task(second.execute(KEYS.add_key, "two", "p", b"n", b"b"))
        await until(ground.waiting)
    await waiting
    assert (await second.fetchrow(KEYS.first_key, "p"))["id"] == "one"


# -- constraints --------------------------------------------------------------------------------------

_TOKEN = {FOLD: "tokens", AT: 2, ROW: '{"sha256":"aa"}'}
WRONG: dict[str, tuple[list[Any], type[Exception]]] = {
    "position taken": (appended(1), asyncpg.UniqueViolationError),
    "position twice": (changed(appended(2, last=3), EVENT["position"], 3), asyncpg.UniqueViolationError),
    "command taken": (appended(2, ONE), asyncpg.UniqueViolationError),
    "command twice": (
        added(appended(2, UUID(int=2)), {COMMAND: UUID(int=2), DIGEST: None, FIRST: 2, LAST: 2}),
        asyncpg.UniqueViolationError,
    ),
    "short hash": (changed(appended(2), EVENT["hash"], b"short"), asyncpg.CheckViolationError),
    **{
        f"no {name}": (changed(appended(2), EVENT[name], None), asyncpg.NotNullViolationError)
        for name in ("type", "data", "occurred_at", "actor", "command_id", "hash")
    },
    "no first position": (changed(appended(2), FIRST, None), asyncpg.NotNullViolationError),
    "no time": ([*appended(2)[:6], None], asyncpg.NotNullViolationError),
    "a new row that is there": (
        [*appended(2)[:2], appended(2)[3], [], *appended(2)[4:]], asyncpg.UniqueViolationError,
    ),
    "no key": (changed(appended(2), KEY, None), asyncpg.NotNullViolationError),
    "NUL in a text": (
        changed(appended(2), EVENT["actor"], "a\0"), asyncpg.CharacterNotInRepertoireError,
    ),
    "NUL in a key": (changed(appended(2), KEY, "a\0"), asyncpg.CharacterNotInRepertoireError),
    "NUL in a row": (changed(appended(2), ROW, r'{"a":"\u0000"}'), asyncpg.UntranslatableCharacterError),
    "no JSON": (changed(appended(2), EVENT["data"], "{no"), asyncpg.InvalidTextRepresentationError),
    "a row of no JSON": (changed(appended(2), ROW, "{no"), asyncpg.InvalidTextRepresentationError),
    "no such fold": (changed(appended(2), FOLD, "none"), asyncpg.CheckViolationError),
    "row twice": (
        added(appended(2), {FOLD: "quota", KEY: "p", AT: 2, ROW: "{}"}), asyncpg.CardinalityViolationError,
    ),
    "hash of a token taken": (added(appended(2), {**_TOKEN, KEY: "b"}), asyncpg.UniqueViolationError),
}  # fmt: skip


async def test_what_the_schema_refuses(ground: Any) -> None:
    """By type; the transaction is over with it, whatever it had done before, and nothing of it is there."""
    connection = await ground.connect()
    await connection.execute(LEDGER.append, *added(appended(1, ONE), {**_TOKEN, KEY: "a"}))
    before = await ground.state()
    for name, (args, error) in WRONG.items():
        transaction = connection.transaction()
        await transaction.__aenter__()
        await connection.fetchrow(LEDGER.take_head, *NOTHING)
        with pytest.raises(asyncpg.PostgresError) as raised:
            await connection.execute(LEDGER.append, *args)
        assert raised.type is error, (name, raised.value)
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await connection.fetchval(LEDGER.ping)
        await transaction.__aexit__(None, None, None)
        assert await ground.state() == before, name


async def test_what_the_schema_takes(ground: Any) -> None:
    """What looks as if it were refused."""
    connection = await ground.connect()
    await connection.execute(LEDGER.append, *added(appended(1, ONE), {**_TOKEN, KEY: "a"}))
    await connection.execute(LEDGER.append, *added(appended(2), {**_TOKEN, KEY: "a"}))
    moved = {**_TOKEN, KEY: "a", ROW: '{"sha256":"bb"}'}
    await connection.execute(LEDGER.append, *added(appended(3), moved))
    await connection.execute(LEDGER.append, *added(appended(4), {**_TOKEN, KEY: "b"}))
    await connection.execute(LEDGER.append, *changed(appended(5), EVENT["data"], r'{"a":"\u0000"}'))
    await connection.execute(LEDGER.append, *changed(appended(6), ROW, r'{"a":"\\u0000"}'))
    state = await ground.state()
    assert [each[0] for each in state.events] == [1, 2, 3, 4, 5, 6]
    assert [key for key in sorted(state.folds) if key[0] == "tokens"] == [("tokens", "a"), ("tokens", "b")]
    assert state.folds["quota", "p"] == {"a": r"\u0000"}


# -- notifications ------------------------------------------------------------------------------------


async def test_who_listens_hears_of_each_commit_and_of_nothing_else(ground: Any) -> None:
    writer, one, other = [await ground.connect() for _ in range(3)]
    heard: list[list[object]] = [[], []]
    for listener, into in zip((one, other), heard, strict=True):
        await listener.add_listener(CHANNEL, lambda *told, into=into: into.append(told[3]))
    await write(writer, 1)
    with pytest.raises(ValueError, match="mine"):
        async with writer.transaction():
            await writer.fetchrow(LEDGER.take_head, *NOTHING)
            await writer.execute(LEDGER.append, *appended(2))
            raise ValueError("mine")
    async with writer.transaction():
        await writer.fetchrow(LEDGER.take_head, *NOTHING)
        await writer.execute(LEDGER.append, *appended(2))
        await writer.execute(LEDGER.append, *appended(3))
        assert (await one.fetchval(LEDGER.ping), "2" in heard[0]) == (1, False), "not before the commit"
    await until(lambda: all("3" in each for each in heard))
    assert heard == [["1", "2", "3"]] * 2
    ended: list[object] = []
    other.add_termination_listener(ended.append)
    await other.close()
    await write(writer, 4)
    await until(lambda: "4" in heard[0])
    assert (heard[1][-1], len(ended)) == ("3", 1)
