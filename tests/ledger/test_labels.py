"""Labels right after an event, and looking for what a filter wants: against the folds and a plain filter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from random import Random
from uuid import UUID, uuid4

import pytest

from service.domain import commands as cmd
from service.domain.events import Event, encode_body
from service.domain.filters import EventFilter
from service.domain.selectors import parse_selector
from service.domain.states import State
from service.ledger import read
from service.ledger.labels import Recalled
from service.ledger.ledger import Ledger
from tests.support import jobs
from tests.support.jobs import PROJECT
from tests.support.weighed import Weighed
from tests.support.yard import Yard

OTHER = "other"


async def relabel(yard: Yard, job: UUID, name: str, value: str | None = None) -> None:
    await yard.do(jobs.label(name, value, job=job))


@pytest.fixture
async def busy(yard: Yard) -> Yard:
    """Two projects whose jobs move and are labelled at random, always in the same way."""
    chance = Random(7)
    await yard.do(cmd.CreateProject(project=OTHER, name="Other", cpu=50, gpu=0))
    made = [await yard.submit(labels={"stage": "test"}), await yard.submit()]
    await yard.do(jobs.submit(uuid4(), OTHER, labels={"stage": "prod"}))
    for _ in range(60):
        job = chance.choice(made)
        match chance.randrange(6):
            case 0:
                made.append(await yard.submit(labels={"stage": chance.choice(["prod", "test"])}))
            case 1:
                fresh = await yard.submit(labels={"team": "x"})
                await yard.run(fresh, upto=chance.choice([State.INITIALIZING, State.RUNNING, State.DONE]))
                made.append(fresh)
            case 2 if "ghost" in (await yard.ledger.job(job)).spec.labels:
                await relabel(yard, job, "ghost")
            case 2:
                await relabel(yard, job, "ghost", "1")
            case _:
                await relabel(
                    yard, job, chance.choice(["stage", "team"]), chance.choice(["prod", "test", "x"])
                )
    return yard


async def everything(ledger: Ledger) -> list[Event]:
    return [event async for page in read.through(ledger.pool) for event in page]


async def pages(ledger: Ledger, asked: EventFilter, limit: int, span: int) -> AsyncIterator[read.Looked]:
    after, head = 0, (await ledger.head()).position
    while after < head:
        found = await read.look(ledger.pool, asked, after, limit=limit, span=span)
        assert found.position > after, "the cursor must go on, also over what was not wanted"
        after = found.position
        yield found


async def test_labels_are_those_right_after_each_event(busy: Yard) -> None:
    events = await everything(busy.ledger)
    for page in (events, events[20:60], events[41:42], [each for each in events if each.type != "LabelSet"]):
        labels = await busy.ledger.labels_at(page)
        for event, found in zip(page, labels, strict=True):
            job = await busy.ledger.job_as_of(event.job, event.position) if event.job else None
            assert found == (job.spec.labels if job else {}), event


@pytest.mark.parametrize("most", [2, 1000])
async def test_labels_are_recalled_as_they_would_be_read(busy: Yard, most: int) -> None:
    await relabel(busy, await busy.submit(labels={"stage": "test"}), "stage")
    events = await everything(busy.ledger)
    labels = await busy.ledger.labels_at(events)
    read_of: list[Event] = []

    async def look(some: Sequence[Event]) -> list[Mapping[str, str]]:
        read_of.extend(some)
        return await busy.ledger.labels_at(some)

    recalled = Recalled(look, most)
    chance = Random(3)
    after = 0
    while after < len(events):
        page = events[after : after + chance.randrange(4)]
        assert await recalled.at(after, page) == labels[after : after + len(page)]
        after += len(page)
    assert bool(read_of) == (most == 2), "of a job that was met, and is kept, nothing is read"
    # Where events were passed over, and where it begins anew further back, nothing is taken for known.
    for first, last in ((10, 20), (40, 60), (60, 80), (5, 15), (0, 0), (15, 30)):
        assert await recalled.at(first, events[first:last]) == labels[first:last]


PROD = parse_selector("labelSelector", "stage=prod")
FILTERS = [
    EventFilter(project=PROJECT),
    EventFilter(project=OTHER),
    EventFilter(project="nobody's"),
    EventFilter(project=PROJECT, types=frozenset({"RunStarted", "LabelSet"})),
    EventFilter(project=PROJECT, states=frozenset({State.RUNNING, State.DONE})),
    EventFilter(project=PROJECT, states=frozenset({State.RUNNING}), types=frozenset({"LabelSet"})),
    EventFilter(project=PROJECT, selector=PROD),
    EventFilter(project=PROJECT, scope=parse_selector("labelSelector", "team,!ghost"), selector=PROD),
    EventFilter(project=PROJECT, jobs=frozenset({uuid4()})),
]


@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_looking_finds_what_the_filter_wants_and_goes_on_over_the_rest(busy: Yard, limit: int) -> None:
    events = await everything(busy.ledger)
    labels = await busy.ledger.labels_at(events)
    some = frozenset(list({event.job for event in events if event.job})[:3])
    of_jobs = EventFilter(project=PROJECT, jobs=some)
    states = EventFilter(project=PROJECT, jobs=some, states=frozenset({State.QUEUED}), selector=PROD)
    for asked in (*FILTERS, of_jobs, states):
        wanted = [event for event, each in zip(events, labels, strict=True) if asked.wants(event, each)]
        for span in (7, 10_000):
            found = [each async for page in pages(busy.ledger, asked, limit, span) for each in page.events]
            assert [each.event for each in found] == wanted, asked
            if asked.needs_labels:
                assert all(each.labels == labels[each.event.position - 1] for each in found)


async def test_at_the_end_there_is_nothing_and_the_cursor_stays(yard: Yard) -> None:
    head = (await yard.ledger.head()).position
    asked = EventFilter(project=PROJECT)
    assert (await yard.ledger.look(asked, head))[:3] == ([], head, head)
    assert (await yard.ledger.look(asked, head + 5))[:3] == ([], head + 5, head)


@pytest.mark.parametrize("of_jobs", [True, False])
@pytest.mark.parametrize("chars", ["x", "0123456789abcdef"])
async def test_a_look_brings_so_many_bytes_and_goes_on_with_the_very_next_event(
    yard: Yard, chars: str, of_jobs: bool
) -> None:
    """Who reads large events page by page must not have all that a limit allows in memory at once, however
    small they are where they are stored."""
    chance = Random(3)
    for size in (100, 20_000, 20_000, 20_000, 100, 70_000, 100, 100):
        text = "".join(chance.choices(chars, k=size))
        await yard.do(jobs.submit(uuid4(), command=(text,)))
    there = await everything(yard.ledger)
    made = frozenset(event.job for event in there if event.job is not None)
    asked = EventFilter(project=PROJECT, jobs=made if of_jobs else frozenset())
    wanted = [event for event in there if asked.may_want(event)]
    found: list[Event] = []
    after, head = 0, (await yard.ledger.head()).position
    pool = Weighed(yard.ledger.pool)
    sizes = []
    while after < head:
        looked = await read.look(pool, asked, after, limit=100, most_bytes=30_000)
        found += [each.event for each in looked.events]
        sizes.append(sum(len(encode_body(each.event.body)) for each in looked.events))
        assert after < looked.position <= head
        after = looked.position
    assert found == wanted
    assert max(sizes) < 30_000 + 75_000
    assert max(pool.brought) < 30_000 + 75_000
    assert len(sizes) >= 3
    found.clear()
    end = read.BEGINNING
    while (part := await read.portion(yard.ledger.pool, end, limit=5, most_bytes=30_000)) and part.events:
        found, end = found + part.events, part.end
        sizes = [len(encode_body(event.body)) for event in part.events]
        assert len(part.events) == 1 or sum(sizes[:-1]) < 30_000
    assert found == there
