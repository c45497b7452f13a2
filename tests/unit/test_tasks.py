"""A cancellation and a failure at the same moment."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from service.tasks import dropped, whole


async def _fails_when_cancelled() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise OSError("failed while it was cancelled") from None


async def _a_group_that_fails_when_cancelled() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_fails_when_cancelled())


async def _cancelled_once_begun(task: asyncio.Task[None]) -> None:
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def test_who_tries_again_ends_when_cancelled_while_it_fails() -> None:
    ended = asyncio.Event()

    async def again_and_again() -> None:
        try:
            while True:
                try:
                    await whole(_a_group_that_fails_when_cancelled())
                except ExceptionGroup:
                    continue
        finally:
            ended.set()

    task = asyncio.create_task(again_and_again())
    await _cancelled_once_begun(task)
    assert task.cancelled()
    assert ended.is_set()


async def test_the_work_is_over_before_the_caller_goes_on() -> None:
    steps: list[str] = []

    async def slow_to_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            steps.append("work")

    async def caller() -> None:
        try:
            await whole(slow_to_end())
        finally:
            steps.append("caller")

    await _cancelled_once_begun(asyncio.create_task(caller()))
    assert steps == ["work", "caller"]


async def test_a_failed_group_leaves_nothing_behind() -> None:
    async def fails() -> None:
        raise OSError("failed")

    async def group() -> None:
        async with asyncio.TaskGroup() as made:
            made.create_task(fails())

    with pytest.raises(ExceptionGroup):
        await whole(group())
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_what_it_answers_is_answered() -> None:
    async def answer() -> int:
        return 7

    assert await whole(answer()) == 7


@pytest.mark.parametrize("fails", ["before", "meanwhile", "never"])
async def test_what_is_dropped_has_ended_and_says_nothing_afterwards(fails: str) -> None:
    """Python tells of each failure that nobody saw, with its traceback, and the service is well."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def work() -> None:
        if fails == "before":
            raise OSError("failed as it was dropped")
        await (_fails_when_cancelled() if fails == "meanwhile" else asyncio.Event().wait())

    task = asyncio.ensure_future(work())
    for _ in range(3):
        await asyncio.sleep(0)
    await dropped(task)
    assert task.done()
    del task
    gc.collect()
    assert told == []
