"""One process delivers at a time; another takes over when it is killed, cut off or stopped."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise

import asyncpg

from service.ledger.ledger import Ledger
from service.webhooks.deliverer import Deliverer
from service.webhooks.duty import on_duty as hold
from service.webhooks.outbox import CONCURRENCY
from tests.conftest import MASTER
from tests.support.jobs import PROJECT
from tests.support.waiting import until
from tests.webhooks.house import House
from tests.webhooks.receiver import Got, Receiver

KILLS = 3


@asynccontextmanager
async def a_process(database_url: str) -> AsyncIterator[Process]:
    """A deliverer on its own, on duty; killed at the end if it still lives."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.webhooks.deliverer_process", database_url),
        stdout=PIPE,
        stderr=DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def on_duty(process: Process) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        if line.strip() == b"on duty":
            return
    raise AssertionError("it ended before it had the duty")


async def test_kill_9_in_the_middle_loses_nothing_and_repeats_no_more_than_was_on_its_way(
    house: House, receiver: Receiver, database_url: str
) -> None:
    """Order per job holds over all processes: what is repeated is what was last, and nothing older."""
    chance = random.Random(7)
    jobs = [await house.job() for _ in range(8)]
    await house.hook(receiver.url)
    for number in range(220):
        await house.label(chance.choice(jobs), str(number))
    wanted = [event.position for event in await house.ledger.events(project=PROJECT)]
    for kill in range(1, KILLS + 1):
        async with a_process(database_url) as process:
            await on_duty(process)
            await receiver.until_asked(60 * kill)
            process.send_signal(signal.SIGKILL)
            await process.wait()
    async with house.delivering():
        await receiver.until_taken(*wanted)
    times = Counter(receiver.positions())
    assert set(times) == set(wanted)
    repeats = sum(times.values()) - len(wanted)
    assert repeats <= KILLS * CONCURRENCY
    for line in ["", *map(str, jobs)]:
        came = receiver.positions(line)
        assert list(dict.fromkeys(came)) == sorted(set(came)), "each for the first time in order"
        assert all(later >= before for before, later in pairwise(came)), "also repeats"


async def test_two_have_one_duty_and_the_second_takes_over(
    house: House, receiver: Receiver, database_url: str
) -> None:
    await house.hook(receiver.url, types=("QuotaSet",))
    async with Ledger.open(database_url, MASTER, readers=2) as other_ledger:
        async with house.delivering() as first:
            stack = AsyncExitStack()
            waiting = asyncio.create_task(stack.enter_async_context(House(other_ledger).delivering()))
            await house.quota(1)
            await house.until_remembered(1)
            await until(lambda: first.tally.delivered == 1, what="the first counts its delivery")
            assert not waiting.done()
        async with stack:
            second: Deliverer = await waiting
            await receiver.until_taken(await house.quota(2))
            await until(lambda: second.tally.delivered == 1, what="the second counts its delivery")
    assert len(receiver.got) == 2


async def test_one_whose_connection_is_cut_takes_the_duty_again_and_sends_nothing_twice(
    house: House, receiver: Receiver, database_url: str
) -> None:
    await house.hook(receiver.url, types=("QuotaSet",))
    async with house.delivering() as deliverer:
        await house.quota(1)
        await house.until_remembered(1)
        await _cut_the_holder(database_url)
        await until(lambda: not deliverer.on_duty.is_set())
        await deliverer.on_duty.wait()
        await receiver.until_taken(await house.quota(2))
    assert len(receiver.got) == 2


async def test_one_that_is_stopped_loses_the_duty_and_cannot_write_when_it_goes_on(
    house: House, receiver: Receiver, database_url: str
) -> None:
    """The request that it was in the middle of is repeated by the next; nothing of it is remembered."""
    held, stopped = asyncio.Event(), asyncio.Event()

    async def judge(got: Got) -> int:
        if got.position == second and not held.is_set():
            held.set()
            await stopped.wait()
        return 204

    await house.hook(receiver.url, types=("QuotaSet",))
    first, second = await house.quota(1), await house.quota(2)
    receiver.judge = judge
    async with a_process(database_url) as process:
        await on_duty(process)
        await held.wait()
        process.send_signal(signal.SIGSTOP)
        await _cut_the_holder(database_url)  # what the server does to one that is silent for too long
        async with house.delivering():
            third = await house.quota(3)
            await receiver.until_taken(third)
            process.send_signal(signal.SIGCONT)
            stopped.set()
            await house.quota(4)
            await house.until_remembered(4)
        attempts = await house.ledger.pool.fetch("SELECT position FROM webhook_attempts ORDER BY id")
        assert [each[0] for each in attempts] == [first, second, third, third + 1]


async def test_the_server_is_told_to_end_a_silent_holders_connection(house: House) -> None:
    async with hold(house.ledger.connect, silence_s=7.5) as duty:
        settings = await duty.fetch(
            "SELECT current_setting('idle_session_timeout'),"
            " current_setting('idle_in_transaction_session_timeout')"
        )
    assert [tuple(each) for each in settings] == [("7500ms", "7500ms")]


_HOLDER = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


async def _cut_the_holder(database_url: str) -> None:
    admin = await asyncpg.connect(database_url)
    assert await admin.fetchval(f"SELECT pg_terminate_backend(({_HOLDER}))")
    await admin.close()
