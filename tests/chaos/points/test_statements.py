"""A commit of several statements, ended between any two of them: it is there whole, or not at all."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import msgspec

from service.ledger import rebuild, verify
from service.ledger.ledger import Ledger
from tests.chaos.points.points import CRASHED, crossed
from tests.chaos.points.statements import JOBS, Orders, submit_all
from tests.supervisor.world import MASTER
from tests.support import databases
from tests.support.chaos import Chaos
from tests.support.yard import Yard

ROOT = Path(__file__).parents[3]
_APPEND = "append JobSubmitted"
COMMITTED = f"{_APPEND}, committed and not answered #1"
#: Every point of the commit, in order.
POINTS = (f"{_APPEND}, before #1", f"{_APPEND}, before #2", f"{_APPEND}, before its commit #1", COMMITTED)


async def test_a_commit_of_several_statements(template_database: str, tmp_path: Path, chaos: Chaos) -> None:
    """And the planted bug beside it: without a transaction, what was sent first stays alone."""
    *wrong, planted = await ended_at(template_database, tmp_path, [*POINTS, POINTS[1]], torn=[4])
    chaos.told("crash between statements", points=len(POINTS), wrong=sum(map(bool, wrong)))
    assert wrong == [[] for _ in POINTS]
    assert crossed(tmp_path / "3") == list(POINTS), "all there are"
    assert any(each.startswith("half of it") for each in planted), planted


async def ended_at(template: str, folder: Path, points: list[str], torn: list[int]) -> list[list[str]]:
    """For each point what was wrong after a writer was ended there, and its commands were repeated."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(databases.a_database(template)) for _ in points]
        for url in urls:
            async with Ledger.open(url, MASTER, readers=1) as ledger:
                await Yard(ledger).open(cpu=JOBS)
        orders = [
            Orders(url, str(folder / str(number)), point, number in torn)
            for number, (url, point) in enumerate(zip(urls, points, strict=True))
        ]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.points.statements", msgspec.json.encode(orders)),
            stdout=PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        told, _ = await process.communicate()
        assert msgspec.json.decode(told) == [CRASHED for _ in points]
        return [await _problems(each) for each in orders]


async def _problems(orders: Orders) -> list[str]:
    wrong = []
    async with Ledger.open(orders.url, MASTER, readers=1) as ledger:
        there, expected = len(await _submitted(ledger)), JOBS if orders.crash_at == COMMITTED else 0
        if there != expected:
            wrong.append(f"half of it: {there} jobs instead of {expected}")
        receipts = await submit_all(ledger)
        repeated = sum(receipt.repeated for receipt in receipts)
        if repeated != expected:
            wrong.append(f"{repeated} commands were said to be carried out before, and {expected} were")
        counted = Counter(await _submitted(ledger))
        if len(counted) != JOBS or counted.total() != JOBS:
            wrong.append(f"{counted.total()} events of {len(counted)} jobs")
    connection = await asyncpg.connect(orders.url, server_settings={"search_path": "jobyard"})
    try:
        await verify.verify(connection)
        compared = await rebuild.verify(connection, [], lambda _: None)
    finally:
        await connection.close()
    return wrong + [f"fold {found.fold} differs" for found in compared if found.differences]


async def _submitted(ledger: Ledger) -> list[str]:
    events = await ledger.events(0, limit=4 * JOBS)
    return [str(event.job) for event in events if event.type == "JobSubmitted"]
