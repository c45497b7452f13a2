"""For each link: what goes on over it while it is broken, how one sees that it was noticed, and what must not
be missing afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import aiohttp

from service.errors import JobyardError
from service.supervisor.data import Source, Store
from service.supervisor.engine.docker import DockerEngine
from tests.chaos.links import sorts
from tests.chaos.links.house import House
from tests.chaos.links.line import Fault, Line
from tests.data.sync import held
from tests.supervisor.registry import Registry
from tests.support.waiting import until

#: From the moment that nothing passes over the link any more.
NOTICED_S = 10.0
#: Looks that lie further apart are looks of a process that was held up.
BREATH_S = 0.1
#: So long after it was cut one way a link on which words still come the other way counts as one that serves.
GOES_ON_S = 30.0
#: After it was mended. What waits for a store, or for an effect of the engine, gives up after a minute.
HEALED_S = 90.0
#: For what is no link's to be quick at: others use the machine too.
WAIT_S = 90.0


_CONTROLS = ("jobyard.hello", "jobyard.heartbeat")


@dataclass
class Case:
    """One link. `begun` starts what goes on over it, and gives what must be true when all has healed.

    What `noticed` goes by is what the service says by itself, as it works: nobody asks it how it is.
    """

    sort: str
    line: Callable[[House], Line]
    noticed: Callable[[House, int], bool]
    begun: Callable[[House, Fault], Awaitable[Callable[[], Awaitable[None]]]]
    supervised: bool = True
    #: Nothing is said over it until somebody wants something: a cut is there to be noticed from then on.
    asked_over: bool = False
    #: What its supervisor says, which shares it with others: who waits for a connection that they have hears
    #: after them.
    after_others: Callable[[House, int], bool] = lambda _house, _since: True


async def tried(case: Case, house: House, fault: Fault) -> None:
    """Break it, wait until that is noticed, mend it, and see that everything is there."""
    line, since = case.line(house), len(house.log)
    made_whole = await case.begun(house, fault)
    if not line.broken:  # else what goes on over it has broken it, at its own moment
        line.break_(case.sort, fault)
    try:
        if fault is not Fault.SLOW:
            await _noticed(case, house, line, since, f"{case.sort} was {fault}, and nobody noticed")
            said = f"the supervisor says that {case.sort} is {fault}"
            await until(lambda: case.after_others(house, since), WAIT_S, what=said)
            line.mend(case.sort)
        await made_whole()
        line.mend(case.sort)
        await house.healed()
    finally:
        line.mend(case.sort)


async def _noticed(case: Case, house: House, line: Line, since: int, what: str) -> None:
    """Of a link cut one way nobody knows while words come the other way: it counts from the last.

    Where they come on and on (others use the engine, too) all that is sent arrives, and there is nothing to
    notice: what it would have led to is asked afterwards, as ever.
    """
    now, broken_at = asyncio.get_running_loop().time, line.log[-1][0]
    looked_at, held_up_s = now(), 0.0

    def over() -> bool:
        nonlocal looked_at, held_up_s
        # While others had the processors, nobody in this process could notice anything.
        held_up_s += max(0.0, now() - looked_at - BREATH_S)
        looked_at = now()
        asked_at = line.asked_at.get(case.sort, now()) if case.asked_over else broken_at
        silent_since = max(broken_at, asked_at, line.passed_at.get(case.sort, 0.0))
        due_at = min(silent_since, broken_at + GOES_ON_S) + NOTICED_S + held_up_s
        return case.noticed(house, since) or now() > due_at

    await until(over, GOES_ON_S + WAIT_S)
    goes_on = line.passed_at.get(case.sort, 0.0) > broken_at + GOES_ON_S
    assert case.noticed(house, since) or goes_on, f"not within {NOTICED_S} s: {what}"


def _lines(*events: str) -> Callable[[House, int], bool]:
    return lambda house, since: house.logged(*events, since=since)


# -- Postgres ---------------------------------------------------------------------------------------------


async def _submits(house: House, fault: Fault) -> Callable[[], Awaitable[None]]:
    """Submits on their way, of which one is cut right after its COMMIT was sent."""
    if fault is not Fault.SLOW:
        house.postgres.break_after(b"COMMIT;", sorts.WRITER, fault)
    sending = [asyncio.create_task(house.submitted()) for _ in range(3)]
    if fault is not Fault.SLOW:
        await until(lambda: house.postgres.broken, WAIT_S)
    sending += [asyncio.create_task(house.submitted()) for _ in range(3)]

    async def whole() -> None:
        async with asyncio.timeout(HEALED_S):
            jobs = await asyncio.gather(*sending)
        taken = await house.taken()
        assert len(set(jobs)) == len(sending)
        assert [taken.get(job) for job in jobs] == [1] * len(jobs), "each was taken once"

    return whole


async def _reads(house: House, _fault: Fault) -> Callable[[], Awaitable[None]]:
    """A job that ends while the ledger cannot be read, and the lease that could be lost meanwhile."""
    job = await house.submitted("sleep 1; exit 3")
    await _runs(house, job)

    async def whole() -> None:
        await _ended(house, job, 3)
        status, found = await house.call("GET", f"/v1/job/{job}")
        assert (status, found["id"]) == (200, str(job))

    return whole


async def _listens(house: House, _fault: Fault) -> Callable[[], Awaitable[None]]:
    """A stream of events that misses none, whatever no hint told of."""
    after = (await house.world.ledger.head()).position
    seen: list[int] = []
    reading = asyncio.create_task(_streamed(house, after, seen))
    jobs = [await house.submitted() for _ in range(2)]

    async def whole() -> None:
        jobs.append(await house.submitted())
        wanted = [e.position for e in await house.world.events() if e.position > after and e.project]
        await until(lambda: seen[: len(wanted)] == wanted, HEALED_S, what="all events in order")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    return whole


async def _streamed(house: House, after: int, seen: list[int], url: str = "") -> None:
    """A client that connects again, after the last position, when its stream ends or says nothing."""
    while True:
        try:
            last = seen[-1] if seen else after
            connecting = house.http.ws_connect(
                f"{url or house.straight}/v1/events?after={last}",
                timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
            )
            async with asyncio.timeout(3):
                socket = await connecting
            async with socket:
                while True:
                    async with asyncio.timeout(3):
                        frame = await socket.receive_json()
                    if frame["type"] not in _CONTROLS:
                        seen.append(int(frame["id"]))
        except (OSError, TypeError, ValueError, aiohttp.ClientError):
            await asyncio.sleep(0.1)


# -- Docker -----------------------------------------------------------------------------------------------


async def _runs(house: House, job: UUID) -> None:
    """Or has run: it does so for a second, and on a busy machine two looks can be further apart."""

    async def running() -> bool:
        found = await house.world.ledger.find_job(job)
        return found is not None and found.started_at is not None

    await until(running, WAIT_S, what=f"job {job} runs")


async def _ended(house: House, job: UUID, code: int) -> None:
    async def over() -> bool:
        found = await house.world.ledger.find_job(job)
        return found is not None and found.ended

    await until(over, HEALED_S, what=f"the end of job {job}")
    ended = await house.world.end(job)
    assert (ended.exit_code, ended.run) == (code, 1)
    kinds = [event.type for event in await house.world.events(job)]
    assert [kinds.count(kind) for kind in ("RunStarted", "RunExited", "RunFinalized")] == [1, 1, 1], kinds


async def _exits(house: House, fault: Fault) -> Callable[[], Awaitable[None]]:
    """A job that ends while the engine cannot be asked, and one whose create is cut before its answer."""
    job = await house.submitted("sleep 1; exit 3")
    await _runs(house, job)
    if fault is not Fault.SLOW:
        house.docker.break_after(b"/containers/create", sorts.CONTROL, fault)
    made = await house.submitted("exit 4")
    if fault is not Fault.SLOW:
        await until(lambda: house.docker.broken, WAIT_S)

    async def whole() -> None:
        await _ended(house, job, 3)
        await _ended(house, made, 4)

    return whole


async def _exits_heard(house: House, _fault: Fault) -> Callable[[], Awaitable[None]]:
    """A job that ends while the engine's events are silent; nobody looks by himself for a long time."""
    job = await house.submitted("sleep 1; exit 6")
    await _runs(house, job)
    return lambda: _ended(house, job, 6)


async def _prints(house: House, _fault: Fault) -> Callable[[], Awaitable[None]]:
    """A job that prints on; its log is whole in the end, each line once."""
    job = await house.submitted("for n in 0 1 2 3 4 5 6 7; do echo line $n; sleep 0.3; done; exit 5")
    await _runs(house, job)

    async def whole() -> None:
        await _ended(house, job, 5)
        text = await house.world.log(job)
        assert [row for row in text.splitlines() if row.startswith("line")] == [f"line {n}" for n in range(8)]

    return whole


async def _pulls(house: House, fault: Fault) -> Callable[[], Awaitable[None]]:
    """A pull that has begun, tried again as a run tries it."""
    engine = DockerEngine(f"unix://{house.docker.address}")
    registry = await Registry().__aenter__()
    registry.add("team/image", "v1", content=uuid4().bytes * 4096)
    registry.hold = asyncio.Event()
    ref = f"{registry.address}/team/image:v1"

    async def pulled() -> None:
        while True:
            try:
                await engine.pull(ref, stall_s=NOTICED_S)
            except JobyardError as error:
                house.log.append({"event": "pull failed", "error": error.message})
                await asyncio.sleep(0.1)
            else:
                return

    if fault is Fault.STALL_UP:  # of a pull that has begun it would stop nothing
        house.docker.break_(sorts.PULLS, fault)
    pulling = asyncio.create_task(pulled())
    async with asyncio.timeout(WAIT_S):
        while not house.docker.broken and not registry.asked_for_blob.is_set():
            await asyncio.sleep(0.01)
    registry.hold.set()

    async def whole() -> None:
        async with asyncio.timeout(HEALED_S):
            await pulling
            assert await house.world.engine.image(ref) is not None
        await engine.close()
        await registry.__aexit__()

    return whole


# -- the object store, and the client's own ---------------------------------------------------------------


async def _pushes(house: House, _fault: Fault) -> Callable[[], Awaitable[None]]:
    """A job whose results are pushed while the store is cut off."""
    container = f"links-{uuid4().hex[:12]}"
    body = {
        "image": "jobyard-test/busybox:1",
        "command": ["sh", "-c", "sleep 1; for n in 1 2 3; do echo data $n > /out/f$n; done"],
        "resources": {"cpu": 1},
        "volumes": [
            {
                "dataStore": {"alias": "local", "container": container, "prefix": ""},
                "mountPath": "/out",
                "permission": "RW",
            }
        ],
    }
    status, answer = await house.call("POST", "/v1/job", body)
    assert status == 200, answer
    job = UUID(answer["id"])
    await _runs(house, job)

    async def whole() -> None:
        await _ended(house, job, 0)
        async with Store.open(house.access) as store:
            found = await held(store, Source(container))
        assert found == {f"f{n}": f"data {n}\n".encode() for n in (1, 2, 3)}, "pushed whole"

    return whole


async def _asked(house: House, key: str) -> str | None:
    """One try over the client's line, given up a moment after the fault; before it nothing is broken."""
    asking = asyncio.create_task(house.submit(key, "exit 0", url=house.through))
    await until(lambda: house.client.broken, what="the question has passed")
    await asyncio.wait({asking}, timeout=2)
    if asking.done():
        return asking.result()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return None


async def _asks_for_it(house: House, fault: Fault) -> Callable[[], Awaitable[None]]:
    """A submit whose answer is cut off on the client's own link, and a stream that is."""
    after = (await house.world.ledger.head()).position
    seen: list[int] = []
    reading = asyncio.create_task(_streamed(house, after, seen, house.through))
    key, before = uuid4().hex, len(await house.taken())
    if fault is Fault.STALL_UP:  # of a question that was sent it would stop nothing
        house.client.break_(sorts.CLIENT, fault)
    elif fault is not Fault.SLOW:
        house.client.break_after(b"POST ", sorts.CLIENT, fault)
    if fault is not Fault.SLOW:
        first = await _asked(house, key)
        house.log.append({"event": "client noticed" if first is None else "client was answered"})

    async def whole() -> None:
        job = await house.submitted("exit 0", key=key, url=house.through)
        taken = await house.taken()
        assert (taken.get(job), len(taken)) == (1, before + 1), "one submit, one job"
        wanted = [e.position for e in await house.world.events() if e.position > after and e.project]
        await until(lambda: seen[: len(wanted)] == wanted, HEALED_S, what="all events in order")
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    return whole


#: What a supervisor says that cannot read the ledger.
_SUPERVISOR = ("lease not renewed", "ledger cannot be followed", "planning waits", "run waits")
CASES = (
    Case(
        sorts.WRITER,
        lambda house: house.postgres,
        _lines("ledger write interrupted", "ledger writer cut off"),
        _submits,
        supervised=False,
    ),
    Case(
        sorts.POOL,
        lambda house: house.postgres,
        _lines("keys forgotten", "watch interrupted", "webhooks interrupted", *_SUPERVISOR),
        _reads,
        asked_over=True,
        after_others=_lines(*_SUPERVISOR),
    ),
    Case(
        sorts.LISTEN,
        lambda house: house.postgres,
        _lines("listening interrupted"),
        _listens,
        supervised=False,
    ),
    Case(
        sorts.CONTROL,
        lambda house: house.docker,
        _lines("engine has not answered", "run waits", "sweep interrupted"),
        _exits,
        asked_over=True,
    ),
    Case(sorts.EVENTS, lambda house: house.docker, _lines("engine events interrupted"), _exits_heard),
    Case(sorts.STREAMS, lambda house: house.docker, _lines("log not read"), _prints),
    Case(
        sorts.PULLS,
        lambda house: house.docker,
        _lines("pull makes no progress", "pull failed"),
        _pulls,
        supervised=False,
    ),
    Case(
        sorts.STORE,
        lambda house: house.store,
        _lines("store does not answer", "store call repeated"),
        _pushes,
        asked_over=True,
    ),
    Case(sorts.CLIENT, lambda house: house.client, _lines("client noticed"), _asks_for_it, supervised=False),
)
