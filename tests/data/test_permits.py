"""Stores whose answers are as large as they may be: how many are in memory, and who waits for them."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web

from service.errors import StoreDenied, Unavailable
from service.outward.names import asked_by
from service.supervisor.data import ObjectInfo, Store
from service.supervisor.data.model import Timing
from service.supervisor.data.s3 import answers
from service.supervisor.data.s3.permits import Call, Permits
from tests.data.canned import Canned, serving
from tests.data.conftest import QUICK
from tests.data.test_large_answers import BEGINNING, END, ITEM, Saying
from tests.support.waiting import DEADLINE_S, until

ONCE = Timing(attempts=1)
KEYS = ITEM * 1000
#: Some hundred bytes below what an answer may have.
LARGEST = BEGINNING + KEYS + f"<a>{'x' * 8000}</a>" * ((answers.MOST_BYTES - len(KEYS)) // 8007 - 1) + END
HOSTILE = 64


class Pouring(Canned):
    """Answers everything with LARGEST, as quickly as it is taken; `whole` of them have left."""

    def __init__(self) -> None:
        super().__init__([])
        self.whole = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        answer = web.StreamResponse(headers={"Content-Length": str(len(LARGEST))})
        await answer.prepare(request)
        for at in range(0, len(LARGEST), 2**17):
            await answer.write(LARGEST[at : at + 2**17].encode())
        self.whole += 1
        return answer


@contextmanager
def busy() -> Iterator[None]:
    """The thread for answers has something else to do."""
    free = threading.Event()
    answers._THREAD.submit(free.wait, DEADLINE_S)
    try:
        yield
    finally:
        free.set()


async def listed(store: Store, project: str) -> list[str]:
    with asked_by(project):
        return [info.key async for info in store.list("box")]


# -- over the wire -------------------------------------------------------------------------------------


async def test_one_project_holds_up_no_other_and_two_of_its_answers_are_held() -> None:
    permits, pouring = Permits(), Pouring()
    async with (
        serving(pouring) as bad,
        serving(Canned(["a"])) as good,
        serving(Saying(BEGINNING + KEYS + END)) as full,
        Store.open(bad, ONCE, permits=permits) as hostile,
        Store.open(good, ONCE, permits=permits) as small,
        Store.open(full, ONCE, permits=permits) as large,
    ):
        with busy():
            asking = [asyncio.create_task(listed(hostile, "one")) for _ in range(HOSTILE)]
            await until(lambda: permits.waiting == HOSTILE - 2)
            await until(lambda: pouring.whole == 2)
            assert await listed(small, "two") == ["a"], "and by no thread"
            assert await listed(small, "one") == ["a"]
            other = asyncio.create_task(listed(large, "two"))
            await until(lambda: permits.held == 3, what="another project has its turn")
            assert (permits.waiting, pouring.whole) == (HOSTILE - 2, 2)
        assert len(await other) == 1000
        assert permits.waiting, "it was read before most of the others"
        for task in asking[4:]:
            task.cancel()
        await asyncio.wait(asking)
        assert [len(task.result()) for task in asking[:4]] == [1000] * 4
    assert (permits.held, permits.waiting, permits._rounds._lines) == (0, 0, {})


async def test_what_is_given_up_gives_back_its_turn_and_is_let_go() -> None:
    permits, pouring = Permits(), Pouring()
    async with serving(pouring) as bad, Store.open(bad, ONCE, permits=permits) as hostile:
        with busy():
            for _ in range(3):
                asking = [asyncio.create_task(listed(hostile, "one")) for _ in range(4)]
                await until(lambda: (permits.held, permits.waiting) == (2, 2))
                whole = pouring.whole
                await until(lambda whole=whole: pouring.whole > whole)  # type: ignore[misc]
                for task in asking:
                    task.cancel()
                await asyncio.wait(asking)
                assert (permits.held, permits.waiting, permits._rounds._lines) == (0, 0, {})
        assert len(await listed(hostile, "one")) == 1000


async def test_a_turn_that_does_not_come_is_told_of() -> None:
    permits = Permits(most=0, wait_s=0.01)
    said = r"answer is large, .* its turn did not come within 0\.01 s"
    async with (
        serving(Saying(BEGINNING + KEYS + END)) as access,
        Store.open(access, QUICK, permits=permits) as store,
    ):
        with pytest.raises(Unavailable, match=said):
            await listed(store, "one")
    assert (permits.waiting, permits._rounds._lines) == (0, {})


async def test_small_answers_and_errors_need_no_turn() -> None:
    small = BEGINNING + ITEM * 600 + END
    assert len(small) < answers.LARGE_BYTES
    for saying, permits in ((Saying(small), Permits(most=0)), (Saying("<a/>" * 2**20, 403), Permits(most=0))):
        async with serving(saying) as access, Store.open(access, ONCE, permits=permits) as store:
            if saying.status == 200:
                assert len(await listed(store, "one")) == 600
            else:
                with pytest.raises(StoreDenied):
                    await listed(store, "one")


async def test_where_nobody_said_who_asks_it_is_the_store() -> None:
    permits = Permits()
    async with (
        serving(Pouring()) as bad,
        serving(Saying(BEGINNING + KEYS + END)) as good,
        Store.open(bad, ONCE, permits=permits) as hostile,
        Store.open(good, ONCE, permits=permits) as other,
    ):
        with busy():
            asking = [asyncio.create_task(listed(hostile, "")) for _ in range(4)]
            await until(lambda: permits.held == 2)
            asking.append(asyncio.create_task(listed(other, "")))
            await until(lambda: permits.held == 3)
        assert [len(each) for each in await asyncio.gather(*asking)] == [1000] * 5


async def test_no_page_is_held_while_the_next_one_is_waited_for() -> None:
    canned, permits = Canned([f"{number:0100}" for number in range(500)]), Permits()
    canned.pages = 2
    async with serving(canned) as access, Store.open(access, ONCE, permits=permits) as store:
        keys: list[str] = []

        async def look() -> None:
            async for info in store.list("box"):
                permits._rounds._at_once = 0
                keys.append(info.key)

        looking = asyncio.create_task(look())
        await until(lambda: permits.waiting)
        assert len(keys) == 500
        assert sum(type(each) is ObjectInfo for each in gc.get_objects()) < 20
        looking.cancel()
        await asyncio.wait([looking])


class Answer:
    """Something that can be known to be gone."""


async def test_the_threads_queue_holds_nothing_that_was_given_up() -> None:
    answer = Answer()
    known = weakref.ref(answer)
    with busy():
        task = asyncio.create_task(answers.aside(str, answer))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        del answer, task
        assert known() is None


# -- turns (`service/rounds.py` has the rest of their tests) -------------------------


class Asking:
    """Calls of projects; each holds its permit until it is let go."""

    def __init__(self, permits: Permits) -> None:
        self.permits = permits
        self.had: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def ask(self, *names: str) -> None:
        """Each named by its project and a number."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._call(name))
        await _settled()

    async def _call(self, name: str) -> None:
        with self.permits.call(name[0]) as call:
            await self._taken(call)
            self.had.append(name)
            await self._ends[name].wait()

    async def _taken(self, call: Call) -> None:
        for _ in range(3):
            await call.take_permit()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
            await self.tasks[name]
        await _settled()

    async def cancel(self, *names: str) -> None:
        for name in names:
            self.tasks[name].cancel()
        await _settled()


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_left_has_no_turn() -> None:
    asking = Asking(Permits(most=1))
    await asking.ask("a1", "b1", "b2", "c1", "d1")
    await asking.cancel("b1", "c1")
    await asking.end("a1")
    assert asking.had == ["a1", "b2"]
    await asking.end("b2", "d1")
    with asking.permits.call("e") as call:
        await call.take_permit()
        await asking.ask("f1")
    assert asking.permits.held == 1, "its turn has come"
    await asking.cancel("f1")
    assert (asking.had[3:], asking.permits.held, asking.permits._rounds._lines) == ([], 0, {})
