"""Looking up names of strangers: whose name servers do not answer holds up nobody else."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress

import pytest

from service.errors import Unavailable
from service.outward.names import Names, asked_by
from tests.support.waiting import DEADLINE_S, until


class Servers:
    """Name servers; those of hosts that begin with `slow` answer when they are let."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.asked: list[str] = []

    def look(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.free.wait(DEADLINE_S)
        if host.startswith("none"):
            raise socket.gaierror(socket.EAI_NONAME, "no such host")
        return [f"{host}:{port}"]


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    yield made
    made.free.set()


async def asked(names: Names, project: str, *hosts: str) -> list[asyncio.Task[list[str]]]:
    """Under way, all of them."""
    with asked_by(project):
        tasks = [asyncio.create_task(names.resolve(host, 1)) for host in hosts]
    await asyncio.sleep(0)
    return tasks


async def let_go(tasks: list[asyncio.Task[list[str]]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


async def test_nobody_waits_for_anothers_name_servers(servers: Servers) -> None:
    names = Names(servers.look, threads=8, each=3, waiting=50)
    slow = await asked(names, "one", *(f"slow{n}.test" for n in range(20)))
    await until(lambda: len(servers.asked) == 3)
    (quick,) = await asked(names, "two", "quick.test")
    assert await quick == ["quick.test:1"]
    (mine,) = await asked(names, "one", "quick.test")
    await let_go(slow[3:])  # they had not begun: theirs are no threads to wait for
    servers.free.set()
    assert await mine == ["quick.test:1"]
    assert servers.asked[3:] == ["quick.test", "quick.test"]
    assert [await each for each in slow[:3]] == [[f"slow{n}.test:1"] for n in range(3)]


async def test_a_look_up_counts_until_its_thread_has_ended(servers: Servers) -> None:
    """Whoever gave it up can have no more of them."""
    names = Names(servers.look, threads=8, each=2, waiting=2)
    for _ in range(3):
        slow = await asked(names, "one", "slow1.test", "slow2.test")
        await until(lambda: len(servers.asked) >= 2)
        await let_go(slow)
    waiting = await asked(names, "one", "a.test", "b.test")
    with asked_by("one"), pytest.raises(Unavailable, match=r"the address of c\.test cannot be looked up now"):
        await names.resolve("c.test", 1)
    (other,) = await asked(names, "two", "c.test")
    assert await other == ["c.test:1"]
    assert sorted(servers.asked) == ["c.test", "slow1.test", "slow2.test"]
    servers.free.set()
    assert [await each for each in waiting] == [["a.test:1"], ["b.test:1"]]


async def test_where_all_threads_are_taken_askers_take_turns(servers: Servers) -> None:
    names = Names(servers.look, threads=1, each=1, waiting=50)  # one, so that nobody overtakes another
    first = await asked(names, "one", "slow1.test", "a.test", "b.test")
    second = await asked(names, "two", "c.test", "d.test")
    await until(lambda: len(servers.asked) == 1)
    servers.free.set()
    await asyncio.gather(*first, *second)
    assert servers.asked.index("c.test") < servers.asked.index("b.test")


async def test_who_gave_up_before_his_turn_leaves_nothing_behind(servers: Servers) -> None:
    names = Names(servers.look, threads=1, each=1, waiting=50)
    first = await asked(names, "one", "slow1.test")
    await until(lambda: len(servers.asked) == 1)
    await let_go(await asked(names, "two", "a.test"))
    servers.free.set()
    await asyncio.gather(*first)
    await until(lambda: not names._lines)
    assert servers.asked == ["slow1.test"]


async def test_who_asks_for_nobody_asks_for_a_domain(servers: Servers) -> None:
    names = Names(servers.look, threads=8, each=1, waiting=50)
    slow = [asyncio.create_task(names.resolve(f"slow{n}.Name.test.", 1)) for n in range(3)]
    await until(lambda: len(servers.asked) == 1)
    assert await names.resolve("quick.other.test", 1) == ["quick.other.test:1"]
    beside = asyncio.create_task(names.resolve("a.b.name.test", 1))
    await asyncio.sleep(0)
    assert servers.asked == ["slow0.Name.test.", "quick.other.test"]
    servers.free.set()
    assert await beside == ["a.b.name.test:1"]
    await asyncio.gather(*slow)


async def test_what_the_resolver_raises_is_raised(servers: Servers) -> None:
    names = Names(servers.look)
    for _ in range(20):  # and holds no thread
        with pytest.raises(socket.gaierror):
            await names.resolve("none.test", 1)
    await until(lambda: not names._lines)


def test_an_end_waits_for_no_name_server(servers: Servers) -> None:
    before = set(threading.enumerate())

    async def given_up() -> None:
        names = Names(servers.look)
        await let_go(await asked(names, "one", "slow.test"))

    asyncio.run(given_up())
    (left,) = {thread for thread in threading.enumerate() if thread.name == "names"} - before
    assert left.daemon


class Limit:
    """The system's, on threads; begins are counted. What the look-ups have may be all that there is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.begun = False, 0
        self.error: Exception = RuntimeError("can't start new thread")
        self.meanwhile: Callable[[], object] = lambda: None
        begin = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if thread.name == "names":
                self.begun += 1
                self.meanwhile()
                if self.reached:
                    raise self.error
            begin(thread)

        monkeypatch.setattr(threading.Thread, "start", start)


NO_THREAD = (
    r"the address of .*\.test cannot be looked up now: the service has no thread left for it; try again"
)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
async def test_who_gets_no_thread_is_told_and_takes_no_place(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    names, limit = Names(servers.look, threads=3, each=2, waiting=50), Limit(monkeypatch)
    limit.reached, limit.error = True, error
    for _ in range(3):
        for project in ("one", "two"):
            for refused in await asked(names, project, "a.test", "b.test", "c.test"):
                with pytest.raises(Unavailable, match=NO_THREAD):
                    await asyncio.wait_for(refused, DEADLINE_S)
    assert (names._busy, list(names._lines)) == (0, [])
    limit.reached = False
    first = await asked(names, "one", "slow1.test", "slow2.test", "slow3.test")
    second = await asked(names, "two", "slow4.test", "slow5.test")
    await until(lambda: len(servers.asked) == 3)
    servers.free.set()
    await asyncio.gather(*first, *second)
    await until(lambda: (names._busy, list(names._lines)) == (0, []))


async def test_who_waits_for_his_turn_needs_no_new_thread(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not be had: the one whose look-up has ended is still one of them."""
    names, limit = Names(servers.look, threads=2, each=1, waiting=50), Limit(monkeypatch)
    mine = await asked(names, "one", "slow1.test", "a.test", "b.test")
    others = await asked(names, "two", "slow2.test", "c.test")
    third = await asked(names, "three", "d.test")
    await until(lambda: len(servers.asked) == 2)
    limit.reached = True
    servers.free.set()
    answers = await asyncio.gather(*mine, *others, *third)
    assert answers[1:3] + answers[4:] == [[f"{host}.test:1"] for host in "abcd"]
    assert limit.begun == 2
    await until(lambda: (names._busy, list(names._lines)) == (0, []))


@pytest.mark.parametrize("passes", [True, False])
async def test_who_comes_to_wait_for_a_thread_that_is_not_begun_is_tried_in_its_place(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, passes: bool
) -> None:
    names, limit = Names(servers.look, threads=8, each=1, waiting=50), Limit(monkeypatch)
    limit.reached = True
    waits = list[Future[list[str]]]()

    def meanwhile() -> None:
        if not waits:
            waits.append(names._asked("one", "b.test", 1))
            assert not waits[0].done()
        elif passes:
            limit.reached = False

    limit.meanwhile = meanwhile
    with asked_by("one"), pytest.raises(Unavailable, match=NO_THREAD):
        await names.resolve("a.test", 1)
    if passes:
        assert waits[0].result(DEADLINE_S) == ["b.test:1"]
    else:
        assert isinstance(waits[0].exception(DEADLINE_S), Unavailable)
    await until(lambda: (names._busy, list(names._lines)) == (0, []))
