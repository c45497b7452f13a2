"""Many who look something up share a query, and each is told what was there after it asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from service.ledger.gathered import AT_A_TIME, MOST_KEYS, Gathered
from tests.support.waiting import DEADLINE_S, until


class Table:
    """Rows that change, and queries that are held until they are let go."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.asked: list[list[str]] = []
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self, keys: Sequence[str]) -> dict[str, int]:
        self.asked.append(list(keys))
        found = {key: self.rows[key] for key in keys if key in self.rows}
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return found


async def test_whoever_comes_while_queries_run_shares_the_next_and_sees_what_was_written_before() -> None:
    table = Table()
    gathered = Gathered(table.fetch)
    table.rows = {"a": 1}
    first = [asyncio.create_task(gathered.of("a"))]
    for number in range(1, AT_A_TIME):
        await until(lambda number=number: len(table.asked) == number)  # type: ignore[misc]
        first.append(asyncio.create_task(gathered.of("a")))
    await until(lambda: len(table.asked) == AT_A_TIME)
    table.rows["a"] = 2
    later = [asyncio.create_task(gathered.of(key)) for key in ("a", "b", "a")]
    await asyncio.sleep(0)
    table.gate.set()
    assert await asyncio.gather(*first) == [1] * AT_A_TIME
    assert await asyncio.gather(*later) == [2, None, 2], "never what was read before they asked"
    assert table.asked[AT_A_TIME:] == [["a", "b"]]


async def test_what_a_query_raises_its_callers_hear_and_nobody_else() -> None:
    table = Table()
    gathered = Gathered(table.fetch)
    table.gate.set()
    table.error = ValueError("a bug")
    answers = await asyncio.gather(gathered.of("a"), gathered.of("b"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError, ValueError]
    table.error = None
    assert await gathered.of("a") is None


async def test_one_that_went_away_takes_nobody_along() -> None:
    table = Table()
    table.rows = {"a": 1}
    gathered = Gathered(table.fetch)
    gone, stays = (asyncio.create_task(gathered.of("a")) for _ in range(2))
    await until(lambda: bool(table.asked))
    gone.cancel()
    table.gate.set()
    assert await stays == 1
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_no_query_asks_for_more_than_it_may() -> None:
    table = Table()
    table.gate.set()
    gathered = Gathered(table.fetch)
    await asyncio.gather(*(gathered.of(str(number)) for number in range(3 * MOST_KEYS)))
    assert max(map(len, table.asked)) == MOST_KEYS


async def test_who_was_answered_last_may_ask_again_at_once() -> None:
    table = Table()
    table.gate.set()
    gathered = Gathered(table.fetch, at_a_time=1)
    async with asyncio.timeout(DEADLINE_S):
        for number in range(3):
            table.rows["a"] = number
            assert await gathered.of("a") == number
