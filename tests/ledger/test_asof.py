"""Rows of the past: folded again once, whoever asks for them next, and whatever was driven out meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import pytest

from service.domain.states import State
from service.ledger import asof
from service.ledger.asof import rows
from tests.support import jobs
from tests.support.yard import Yard


@pytest.fixture
def folds_of(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Which rows were folded again, each time."""
    noted: list[set[str]] = []
    fold = rows.refolded

    async def noting(connection: Any, name: str, keys: Iterable[str], position: int) -> dict[str, Any]:
        noted.append(set(keys))
        return await fold(connection, name, keys, position)

    monkeypatch.setattr(rows, "refolded", noting)
    return noted


async def three(yard: Yard) -> tuple[list[str], int]:
    """Three jobs that are QUEUED at a position, and that run since."""
    made = [await yard.submit() for _ in range(3)]
    head = (await yard.ledger.head()).position
    for job in made:
        await yard.run(job, upto=State.RUNNING)
    return [str(job) for job in made], head


async def states(yard: Yard, folded: asof.Folded, keys: list[str], position: int) -> dict[str, str]:
    async with asof.snapshot(yard.ledger.pool) as connection:
        found = await folded.texts(connection, "status", keys, position)
    return {job["id"]: job["state"] for job in map(json.loads, found)}


async def test_what_was_folded_again_is_not_folded_twice(yard: Yard, folds_of: list[set[str]]) -> None:
    keys, head = await three(yard)
    folded = asof.Folded()
    for _ in range(2):
        assert await states(yard, folded, keys[:2], head) == dict.fromkeys(keys[:2], "QUEUED")
    assert await states(yard, folded, keys, head) == dict.fromkeys(keys, "QUEUED")
    assert folds_of == [set(keys[:2]), {keys[2]}]
    later = (await yard.ledger.head()).position
    assert await states(yard, folded, keys, later) == dict.fromkeys(keys, "RUNNING")
    assert await states(yard, folded, keys, head - 3) == {}


async def test_what_is_driven_out_meanwhile_is_answered_all_the_same(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two ask at once, and there is room for the rows of one."""
    keys, head = await three(yard)
    probe = asof.Folded()
    await states(yard, probe, keys[:2], head)
    folded, fold, others = asof.Folded(most_bytes=probe.kept.size_bytes), rows.refolded, [True]
    assert len(await states(yard, folded, keys[:2], head)) == 2

    async def busy(connection: Any, name: str, asked: Iterable[str], position: int) -> dict[str, Any]:
        if others.pop() if others else False:
            assert len(await states(yard, folded, keys, head + 1)) == 3
        return await fold(connection, name, asked, position)

    monkeypatch.setattr(rows, "refolded", busy)
    assert await states(yard, folded, keys, head) == dict.fromkeys(keys, "QUEUED")
    assert others == []


async def test_what_is_kept_takes_bounded_memory(yard: Yard, folds_of: list[set[str]]) -> None:
    """By what the rows are: one may be as large as a specification, and there is room for many small ones."""
    small = [str(await yard.submit()) for _ in range(3)]
    large = [str(await yard.submit(command=("x" * 100_000,))) for _ in range(3)]
    head = (await yard.ledger.head()).position
    folded = asof.Folded(most_bytes=250_000)
    for key in (*small, *large):
        assert len(await states(yard, folded, [key], head)) == 1
        assert folded.kept.size_bytes <= 250_000
    assert len(await states(yard, folded, large, head)) == 3
    assert folds_of[-1] == {large[0]}
    assert 200_000 < folded.kept.size_bytes <= 250_000


async def test_a_row_as_of_each_of_its_positions(yard: Yard) -> None:
    """Also of the positions in between, and of one that another job has."""
    job, other = await yard.submit(), await yard.submit()
    await yard.run(job)
    found = await yard.ledger.job(job)
    head = (await yard.ledger.head()).position
    for position in range(head + 1):
        states = [visit.state for visit in found.history if visit.position <= position]
        then = await asof.job(yard.ledger.pool, job, position)
        assert (then and then.state) == (states[-1] if states else None)
        quota = await asof.quota(yard.ledger.pool, jobs.PROJECT, position)
        assert quota is None or quota.cpu_used <= 2
    assert await asof.job(yard.ledger.pool, UUID(int=1), head) is None
    assert (await asof.job(yard.ledger.pool, other, head)) == await yard.ledger.job(other)
