"""Endpoints that fail: pauses between attempts by the table, the endpoint as a whole, giving up, going on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

import msgspec
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.webhooks import Wanted
from service.webhooks import round as rounds
from service.webhooks.backoff import MOST_ASKED_S, TABLE, Backoff, retry_after
from service.webhooks.duty import Duty, on_duty
from service.webhooks.means import Means
from service.webhooks.outbox import Outbox
from service.webhooks.round import DEAD_LINES, MOST_BEHIND
from service.webhooks.tally import Tally
from tests.support.jobs import PROJECT
from tests.support.waiting import until
from tests.webhooks.house import SQL, House, sender
from tests.webhooks.receiver import Got, Receiver, a_receiver

PLAIN = Backoff(draw=lambda: 0.0)
NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)


class Clock:
    """Time that moves when it is told to."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    async def __call__(self) -> datetime:
        return self.now

    def wait(self, pause: timedelta | None) -> None:
        assert pause is not None
        self.now += pause


class Alone:
    """The rounds of one webhook, one at a time, at the times of a clock of ours."""

    def __init__(self, house: House, clock: Clock, outbox: Outbox) -> None:
        self.house, self.clock, self.outbox = house, clock, outbox

    async def round(self) -> timedelta | None:
        """A round; then those that follow at once."""
        self.outbox.hook = await self.house.state(self.outbox.hook.id)
        while (pause := await self.outbox.round()) is not None and pause <= timedelta(0):
            continue
        return pause


@asynccontextmanager
async def alone(house: House, hook_id: str, turn: asyncio.Semaphore | None = None) -> AsyncIterator[Alone]:
    ledger = house.ledger
    clock = Clock(await ledger.now())
    head = await ledger.head()
    async with on_duty(ledger.connect) as duty:
        means = Means(
            ledger=ledger,
            ledger_id=head.ledger_id,
            duty=duty,
            sender=sender(),
            backoff=PLAIN,
            tally=Tally(),
            clock=clock,
            seen=lambda: 2**62,
            turns=lambda _project: (turn or asyncio.Semaphore(9),),
        )
        yield Alone(house, clock, Outbox(means, PROJECT, await house.state(hook_id)))


async def pauses_of(house: House) -> list[float | None]:
    """Of the attempts that failed, in order, in seconds; None where it was given up."""
    records = await house.ledger.pool.fetch(
        "SELECT extract(epoch FROM next_at - at)::float8 FROM webhook_attempts"
        " WHERE error IS NOT NULL ORDER BY id"
    )
    return [record[0] for record in records]


def test_the_table_gives_up_after_days_and_what_is_asked_for_is_bounded() -> None:
    assert timedelta(days=3) < timedelta(seconds=sum(TABLE)) < timedelta(days=5)
    assert [PLAIN.after(n) for n in (1, 2, 9)] == [timedelta(seconds=each) for each in (5, 300, 86_400)]
    assert PLAIN.after(10) is None
    assert PLAIN.after(1, 60) == timedelta(seconds=60)
    assert PLAIN.after(3, 1) == timedelta(minutes=30)
    assert PLAIN.after(1, 10**9) == timedelta(seconds=MOST_ASKED_S)
    late = Backoff(draw=lambda: 1.0).after(1)
    assert late == timedelta(seconds=5.5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        ("Sat, 28 Nov 2026 12:01:00 GMT", 60.0),
        ("Sat, 28 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1" * 100, None),
        ("٣", None),
        ("Sat, 28 Nov 99999999999999 12:00:00 GMT", None),
        ("Sat, 99999999999999999999 Nov 2026 12:00:00 GMT", None),
        ("Sat, 28 Nov 2026 12:00:00 +99999999999999", None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds


async def test_a_job_is_tried_by_the_table_and_then_the_webhook_pauses_and_goes_on_when_resumed(
    house: House, receiver: Receiver
) -> None:
    bad, good = await house.job(), await house.job()
    receiver.judge = lambda got: 500 if got.line == str(bad) else 204
    hook_id = await house.hook(receiver.url, types=("JobSubmitted", "LabelSet"))
    async with alone(house, hook_id) as one:
        while (pause := await one.round()) is not None:
            one.clock.wait(pause)
            passing = await house.label(good, f"{len(receiver.got)}")
            await house.label(bad, f"{len(receiver.got)}")
        assert passing in receiver.positions(), "the other job went on all the time"
        hook = await house.state(hook_id)
        assert await pauses_of(house) == [*TABLE, None]
        assert hook.paused is not None
        assert hook.paused.code == "failing"
        assert "10 attempts in a row since" in hook.paused.message
        assert "it answered 500" in hook.paused.message
        tried = [got.position for got in receiver.got if got.line == str(bad)]
        assert len(tried) == 10
        assert len(set(tried)) == 1, "nothing of the job overtook it"
        receiver.judge = lambda _got: 204
        await house.do(cmd.ResumeWebhook(project=PROJECT, webhook_id=hook_id))
        assert await one.round() is None
    wanted = [
        event.position
        for event in await house.ledger.events(project=PROJECT)
        if event.type in ("JobSubmitted", "LabelSet")
    ]
    assert sorted(receiver.positions()) == wanted, "nothing was skipped, nothing was sent twice"
    assert receiver.positions(str(bad)) == sorted(receiver.positions(str(bad)))


async def test_retry_after_lengthens_a_pause(house: House, receiver: Receiver) -> None:
    receiver.judge = lambda _got: web.Response(status=429, headers={"Retry-After": "77"})
    hook_id = await house.hook(receiver.url, types=("QuotaSet",))
    await house.quota(1)
    async with alone(house, hook_id) as one:
        await one.round()
    assert await pauses_of(house) == [77]


async def test_a_webhook_that_cannot_even_be_tried_holds_up_no_other(
    house: House, receiver: Receiver
) -> None:
    """What sealed its URL is that of another project: whatever brought that about, it is its own trouble."""
    await house.do(cmd.CreateProject(project="elsewhere", name="Elsewhere", cpu=1, gpu=0))
    own, others = await house.ledger.keys.of(PROJECT), await house.ledger.keys.of("elsewhere")
    odd = msgspec.structs.replace(others.seal("https://a.test/"), key_id=own.id)
    await house.do(
        cmd.SetWebhook(
            project=PROJECT,
            webhook_id=str(uuid4()),
            place="https://a.test",
            url=odd,
            secret=own.seal("whsec_AAAA"),
            wanted=Wanted(),
            after=0,
        )
    )
    await house.hook(receiver.url, types=("QuotaSet",))
    async with house.delivering():
        first = await house.quota(7)
        await receiver.until_taken(first)
        await receiver.until_taken(await house.quota(8))


async def test_one_that_is_removed_amid_an_attempt_is_no_failure(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer comes as all that was kept of it is forgotten: nothing of it is written down after that."""
    answered, forgotten = asyncio.Event(), asyncio.Event()

    async def held(_got: Got) -> int:
        await answered.wait()
        return 204

    async def execute(duty: Duty, *statements: tuple[Any, ...]) -> None:
        await written(duty, *statements)
        if statements[0][0] == SQL.forget and hook_id not in statements[0][1]:
            answered.set()
            for _ in range(20):  # as long as it takes to write an attempt down
                await asyncio.sleep(0.02)
            forgotten.set()

    written, receiver.judge = Duty.execute, held
    monkeypatch.setattr(Duty, "execute", execute)
    hook_id = await house.hook(receiver.url, types=("QuotaSet",))
    with capture_logs() as lines:
        async with house.delivering():
            await house.quota(7)
            await receiver.until_asked(1)
            await house.do(cmd.RemoveWebhook(project=PROJECT, webhook_id=hook_id))
            await forgotten.wait()
    assert "webhook failed; it begins again" not in [line["event"] for line in lines]


async def test_whoever_waits_long_for_its_turn_has_it_all_the_same(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many slow endpoints fill the turns of all: others come late to each of theirs, and must not lose it."""

    class Crowded(asyncio.Semaphore):
        async def acquire(self) -> Literal[True]:
            monkeypatch.setattr(rounds, "ROUND_S", -1.0)  # the round was over while it waited
            return await super().acquire()

    hook_id = await house.hook(receiver.url, types=("QuotaSet",))
    position = await house.quota(7)
    async with alone(house, hook_id, turn=Crowded(9)) as one:
        await one.outbox.round()
    assert receiver.positions() == [position]


async def test_an_endpoint_that_is_dead_is_asked_with_one_event_at_a_time(
    house: House, receiver: Receiver
) -> None:
    jobs = [await house.job() for _ in range(8)]
    receiver.judge = lambda _got: 503
    hook_id = await house.hook(receiver.url, types=("JobSubmitted",))
    async with alone(house, hook_id) as one:
        pause = await one.round()
        first = len(receiver.got)
        assert DEAD_LINES <= first <= DEAD_LINES + 3, "those that were on their way"
        for wanted in TABLE[1:4]:
            one.clock.wait(pause)
            before = len(receiver.got)
            pause = await one.round()
            assert len(receiver.got) == before + 1
            assert pause == timedelta(seconds=wanted)  # from the round's own time
        receiver.judge = lambda _got: 204
        one.clock.wait(pause)
        assert await one.round() is None
    assert Counter(each.line for each in receiver.taken) == Counter(map(str, jobs))


async def test_a_dead_endpoint_pauses_itself_after_days_and_says_so(house: House, receiver: Receiver) -> None:
    for _ in range(5):
        await house.job()
    receiver.judge = lambda _got: 503
    hook_id = await house.hook(receiver.url, types=("JobSubmitted",))
    async with alone(house, hook_id) as one:
        started = one.clock.now
        while (pause := await one.round()) is not None:
            one.clock.wait(pause)
        assert one.clock.now - started > timedelta(days=3)
    events = await house.ledger.events(project=PROJECT)
    assert [event.type for event in events][-1] == "WebhookPaused"
    assert events[-1].body.info.code == "failing"
    assert events[-1].actor == "webhooks"


async def test_gone_pauses_at_once(house: House, receiver: Receiver) -> None:
    receiver.judge = lambda _got: 410
    hook_id = await house.hook(receiver.url, types=("QuotaSet",))
    async with house.delivering():
        position = await house.quota(1)
        hook = await house.until_paused(hook_id)
        assert hook.paused is not None
        assert (hook.paused.code, len(receiver.got)) == ("gone", 1)
        receiver.judge = lambda _got: 204
        await house.do(cmd.ResumeWebhook(project=PROJECT, webhook_id=hook_id))
        await receiver.until_taken(position)


async def test_a_verdict_on_a_webhook_that_was_touched_since_pauses_nothing(house: House) -> None:
    hook_id = await house.hook("http://127.0.0.1:9/")
    seen = (await house.state(hook_id)).touched
    await house.do(cmd.ReplayWebhook(project=PROJECT, webhook_id=hook_id, after=0))
    late = cmd.PauseWebhook(
        project=PROJECT, webhook_id=hook_id, info=Info("failing", "It fails."), unless_after=seen
    )
    assert await house.do(late) == []
    assert (await house.state(hook_id)).paused is None


async def test_a_dead_or_slow_endpoint_does_not_hold_others(house: House, receiver: Receiver) -> None:
    hanging = asyncio.Event()

    async def hang(_got: object) -> int:
        await hanging.wait()
        return 204

    async with a_receiver(judge=hang) as slow:
        await house.hook(slow.url)
        await house.hook("http://127.0.0.1:9/dead")
        await house.hook(receiver.url)
        jobs = [await house.job() for _ in range(6)]
        async with house.delivering(backoff=PLAIN, sender=sender(whole_s=600.0)):
            await until(lambda: len(slow.got) == 4)
            for number in range(5):
                await receiver.until_taken(*[await house.label(job, f"{number}") for job in jobs])
            assert len(slow.got) == 4, "so many at a time are on their way to one endpoint"
            hanging.set()


async def test_too_many_jobs_that_fail_stop_the_cursor_and_none_is_lost(
    house: House, receiver: Receiver
) -> None:
    """What is remembered of a webhook stays small, whatever its endpoint does."""
    jobs = [await house.job() for _ in range(MOST_BEHIND + 8)]
    odd = {str(job) for job in jobs[1:]}
    receiver.judge = lambda got: 500 if got.line in odd else 204
    hook_id = await house.hook(receiver.url, types=("JobSubmitted", "LabelSet"))
    async with alone(house, hook_id) as one:
        for number in range(12):
            await house.label(jobs[0], f"{number}")
            pause = await one.round()
            if pause is not None:
                one.clock.wait(pause)
            lines = await house.ledger.pool.fetchval("SELECT count(*) FROM webhook_lines")
            assert lines <= MOST_BEHIND + 1
            if (await house.state(hook_id)).paused:
                break
        receiver.judge = lambda _got: 204
        await house.do(cmd.ReplayWebhook(project=PROJECT, webhook_id=hook_id, after=0))
        if (await house.state(hook_id)).paused:
            await house.do(cmd.ResumeWebhook(project=PROJECT, webhook_id=hook_id))
        receiver.got.clear()
        assert await one.round() is None
    wanted = [
        event.position
        for event in await house.ledger.events(project=PROJECT)
        if event.type in ("JobSubmitted", "LabelSet")
    ]
    assert sorted(receiver.positions()) == wanted
