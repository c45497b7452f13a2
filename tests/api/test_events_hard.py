"""Event streams when things go wrong beneath them: a slow client, a lost Postgres, several processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from service.api.call import SERVICE
from service.api.events import feed as feeding
from service.api.events import stream as streaming
from service.api.events.feed import Pace
from service.api.events.read import TOO_MUCH
from service.api.events.source import LedgerSource
from service.domain import commands as cmd
from service.domain.events import Info, encode_body
from service.ledger.ledger import Ledger
from service.ledger.read import BEGINNING, MOST_BYTES
from tests.api.streams import Socket, ids, is_control, socket, sse
from tests.api.test_sent import asking
from tests.api.yard import ADMIN, ENGINE, MASTER, READER, Supervision, Yard, furnish, opened
from tests.support.proxy import Proxy, proxied
from tests.support.waiting import until

NOTE_BYTES = 64 * 1024


async def note(ledger: Ledger, job: str, text: str) -> None:
    await ledger.submit(
        cmd.NoteRun(
            project="default", engine=ENGINE, epoch=1, job=UUID(job), run=1, info=Info("waiting", text)
        ),
        actor="test",
    )


async def backlog(yard: Yard, job: str, count: int) -> None:
    """More than any buffer between the two sides holds."""
    for number in range(count):
        await note(yard.ledger, job, f"{number} " + "x" * NOTE_BYTES)


def ended(yard: Yard, code: int) -> float:
    value: float = yard.app[SERVICE].metrics.ended.labels(code)._value.get()
    return value


async def test_a_slow_client_falls_behind_and_still_gets_everything(
    yard: Yard, supervision: Supervision
) -> None:
    feed = yard.app[SERVICE].feed
    feed.pace = Pace(write_timeout_s=600.0)  # it takes nothing until all is written, however long that takes
    job = (await yard.submit())["id"]
    most = [0, 0]

    def watched() -> bool:
        for stream in feed.streams:
            count, size = stream.queued
            most[:] = [max(most[0], count), max(most[1], size)]
        return feed.behind == 1

    async with socket(yard, "?type=RunNoted", max_msg_size=0) as slow, socket(yard, "?state=DONE") as other:
        await slow.until_live()
        await other.until_live()
        writing = asyncio.create_task(backlog(yard, job, 400))
        await until(watched, 120.0, what="the slow one falls behind")
        await writing
        watched()
        positions = ids(await slow.events(400))
        assert positions == list(range(positions[0], positions[0] + 400))
        await until(lambda: watched() or not feed.behind)
        await until(lambda: not feed.behind, what="it joins again")
        await note(yard.ledger, job, "the last")
        assert ids(await slow.events(1)) == [positions[-1] + 1]
    assert most[0] <= streaming.MOST_QUEUED
    assert most[1] <= streaming.MOST_QUEUED_BYTES + 2 * NOTE_BYTES


async def test_a_client_that_takes_nothing_is_ended_with_a_code(yard: Yard, supervision: Supervision) -> None:
    feed, hurried = yard.app[SERVICE].feed, Pace(write_timeout_s=0.3, close_s=10.0)
    feed.pace = hurried
    job = (await yard.submit())["id"]
    await backlog(yard, job, 300)
    async with socket(yard, "?type=RunNoted", max_msg_size=0) as stuck:
        await until(lambda: ended(yard, 4408) == 1, what="the service gives it up")
        got = []
        while (frame := await stuck.frame()) is not None:
            got += [] if is_control(frame) else [frame]
        assert stuck.socket.close_code == 4408
    assert ids(got) == list(range(ids(got)[0], ids(got)[0] + len(got)))
    feed.pace = Pace()  # this one takes it all, as fast as it gets to run
    async with socket(yard, f"?type=RunNoted&after={got[-1]['id']}", max_msg_size=0) as again:
        rest = await again.events(300 - len(got))
    assert ids(rest)[0] == ids(got)[-1] + 1
    feed.pace = hurried
    async with sse(yard, "?type=RunNoted") as browser:
        await until(lambda: ended(yard, 4408) == 2, what="so it is with Server-Sent Events")
        assert browser.response.status == 200


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    async with proxied(database) as made:
        yield made


async def test_streams_outlive_a_postgres_that_restarts(
    database: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the service loses it; the ledger grows meanwhile by another way."""
    monkeypatch.setattr("service.api.watch.KEPT_S", 600.0)  # it is not away for long, however slow this is
    async with (
        Ledger.open(database, MASTER, readers=1) as direct,
        opened(proxy.url, tmp_path, {}) as yard,
    ):
        await furnish(direct)
        await yard.token(READER, READER)
        assert await direct.take_lease(ENGINE, "test", 60.0)
        job = await _submitted(yard)
        async with socket(yard, "?type=RunNoted") as live, sse(yard, "?type=RunNoted") as browser:
            await live.until_live()
            await note(direct, job, "before")
            seen = await live.events(1)
            proxy.accepting = False
            proxy.cut_all()
            await note(direct, job, "while it is away")
            await note(direct, job, "still")
            proxy.accepting = True
            seen += await live.events(2)
            await note(direct, job, "after")
            seen += await live.events(1)
            assert [each["data"]["info"]["message"] for each in seen] == [
                *("before", "while it is away", "still", "after")
            ]
            assert [each["id"] for each in await browser.events(4)] == [each["id"] for each in seen]


async def test_an_outage_that_lasts_ends_the_streams_to_be_resumed(
    database: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be seen for long might be a revocation: nobody goes on unseen."""
    monkeypatch.setattr("service.api.watch.KEPT_S", 0.2)
    async with opened(proxy.url, tmp_path, {}) as yard:
        await furnish(yard.ledger)
        await yard.token(READER, READER)
        async with socket(yard) as live:
            position = ids(await live.until_live())[-1]
            proxy.accepting = False
            proxy.cut_all()
            assert await live.end() == 1012
        proxy.accepting = True
        await until(lambda: _answers(yard))
        async with socket(yard, f"?after={position}") as again:
            assert await again.until_live() == []


async def test_a_watch_that_fails_for_long_ends_the_streams(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing() -> None:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr("service.api.watch.KEPT_S", 0.2)
    async with socket(yard) as live:
        await live.until_live()
        monkeypatch.setattr(yard.app[SERVICE].watch, "look", failing)
        assert await live.end() == 1012


async def test_two_processes_show_the_same(yard: Yard, database: str, tmp_path: Path) -> None:
    async with (
        opened(database, tmp_path / "second", yard.tokens) as second,
        socket(yard) as here,
        socket(second) as there,
    ):
        await here.until_live()
        await there.until_live()
        await yard.submit()
        await second.submit()
        assert await here.events(2) == await there.events(2)
        token_id = await yard.token("short", READER)
        async with socket(second, token="short") as other:
            await other.until_live()
            await yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)
            assert await other.end() == 4401


async def test_a_connection_that_is_cut_anywhere_is_taken_up_again(yard: Yard) -> None:
    """As proxies do: in the middle of a message, too."""
    for _ in range(3):
        await yard.submit()
    wanted = ids((await yard.call("GET", "/v1/events", token=READER)).json["items"])
    seen: list[int] = []
    while len(seen) < len(wanted):
        async with socket(yard, f"?after={seen[-1] if seen else 0}") as stream:
            seen += ids(await stream.events(1))
            _abort(stream)
    assert seen == wanted
    await until(lambda: not yard.app[SERVICE].feed.streams)


def _abort(stream: Socket) -> None:
    connection: Any = stream.socket._response.connection
    connection.transport.abort()


async def test_the_feed_reads_so_many_bytes_at_a_time_however_well_they_are_compressed(
    yard: Yard, supervision: Supervision
) -> None:
    """Control characters are six times as long in JSON; one over and over is stored as nearly nothing."""
    job = (await yard.submit())["id"]
    await supervision.running(job)
    for number in range(7):
        await note(yard.ledger, job, f"{number} " + "\x01" * 128 * 1024)
    source, after, sizes = LedgerSource(yard.ledger), BEGINNING, []
    while (found := await source.page(after)) and (page := found.events):
        first = after.position + 1
        assert [each.event.position for each in page] == list(range(first, first + len(page)))
        sizes.append([len(encode_body(each.event.body)) for each in page])
        after = found.end
    head = await yard.ledger.head()
    assert after == (head.position, head.hash)
    assert len(sizes) == 2
    assert sum(sizes[0][:-1]) < MOST_BYTES


async def _submitted(yard: Yard) -> str:
    await yard.token("ai_training_operator", "ai_training_operator")
    found: str = (await yard.submit())["id"]
    return found


async def _answers(yard: Yard) -> bool:
    return (await yard.call("GET", "/v1/events", token=READER)).status == 200


async def test_one_project_does_not_take_the_streams_of_the_others(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "MOST_OF_PROJECT", 2)
    async with socket(yard) as one, socket(yard) as two:
        assert await one.frame() and await two.frame()
        refused = await yard.call("GET", "/v1/events", token=READER, headers={"Accept": "text/event-stream"})
        assert (refused.status, refused.json["code"]) == (503, "unavailable")
        assert "of your project" in refused.json["message"]
        async with socket(yard, token="other") as others:
            assert await others.frame()


async def test_large_events_count_with_what_all_clients_hold(
    yard: Yard, supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = yard.app[SERVICE].parts.held
    job = (await yard.submit())["id"]
    await supervision.running(job)
    await backlog(yard, job, 120)  # more than the kernel takes for a client
    large = 3 * NOTE_BYTES
    accept = "Accept: text/event-stream\r\n"
    with capture_logs() as lines:
        lazy = await asyncio.to_thread(asking, yard, "/v1/events?after=0", READER, accept)
        await until(lambda: held.bytes >= large)
        async with socket(yard, "?after=0") as stream:
            assert len(await stream.events(120)) == 120, "who takes what there is loses nothing"
        await until(lambda: 0 < held.bytes < 40 * large)
        monkeypatch.setattr(held, "_most", large)
        other = await asyncio.to_thread(asking, yard, "/v1/events?after=0", READER, accept)
        await until(lambda: TOO_MUCH in [line.get("cut") for line in lines])
    for line in (lazy, other):
        line.close()
    await until(lambda: held.bytes == 0)
    monkeypatch.setattr(held, "_most", 2**30)
    lazy = await asyncio.to_thread(asking, yard, "/v1/events?after=0", READER, accept)
    await until(lambda: held.bytes >= large)
    lazy.close()
    await until(lambda: held.bytes == 0)
