"""The load: clients that order jobs of every kind, and ask with the same key until they are answered."""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from tests.chaos.kills.house import House
from tests.chaos.kills.journal import Answer, Journal, What
from tests.chaos.kills.starts import Starts
from tests.images import BUSYBOX

ENDED = ("DONE", "FAILED", "INTERRUPTED", "ERROR")
INPUTS, WORD = "inputs", "said"
_AGAIN_S, _LOOK_S = 0.1, 0.1
_LOST = (aiohttp.ClientError, OSError, TimeoutError)
_PATIENCE_S = 180.0
_TOO_MANY = 429

#: What each job does first: a mark of this very start, which nothing else has.
_MARK = "u=$(cat /proc/sys/kernel/random/uuid); echo started $u; "
_MARKED = re.compile(r"^started ([0-9a-f-]{36})$", re.MULTILINE)
_FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.1; done"
#: kind -> what the job runs, and the state in which it ends when nobody disturbs it.
KINDS: dict[str, tuple[str, str]] = {
    "short": ("sleep 0.3", "DONE"),
    "fails": ("exit 3", "FAILED"),
    "data": ("echo $u > /v/started-$u; cat /in/word", "DONE"),
    "interrupted": (_FOREVER, "INTERRUPTED"),
    "timeout": (_FOREVER, "INTERRUPTED"),
    "again": ("sleep 0.1", "DONE"),
    "deleted": ("true", "DONE"),
}


class Stuck(AssertionError):
    """A client was not answered for longer than any outage lasts."""


@dataclass
class Load:
    """Clients of one house. `starts` has the marks that each run's log shows."""

    house: House
    journal: Journal
    random: Random
    http: aiohttp.ClientSession
    starts: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    #: What the engine says of them.
    begun: Starts = field(default_factory=Starts)
    frames: list[int] = field(default_factory=list)
    #: What no client should ever be answered.
    faults: list[str] = field(default_factory=list)
    #: Of this load, besides others of the same house.
    name: str = "load"
    over: int = 0
    #: The kinds of which one has ended as nobody disturbed it.
    whole: set[str] = field(default_factory=set)
    reads: int = 0
    connections: int = 0
    stopping: bool = False
    _keys: int = 0
    _kinds: list[str] = field(default_factory=list)
    working: list[asyncio.Task[None]] = field(default_factory=list)

    # -- one call -----------------------------------------------------------------------------------

    async def call(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        """Asked again, with the same key, until there is an answer that is one."""
        headers = {"Authorization": f"Bearer {self.house.told['token']}"}
        if key:
            headers["Idempotency-Key"] = key
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while True:
                    status, said = await self._try(method, path, body, headers)
                    if status == 500:
                        self.faults.append(f"{method} {path} was answered 500: {said}")
                    if 0 < status < 500 and status != _TOO_MANY:
                        return status, said
                    await asyncio.sleep(_AGAIN_S)
        except TimeoutError:
            raise Stuck(f"{method} {path} was not answered for {_PATIENCE_S} s") from None

    async def _try(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        content = {"data": body} if isinstance(body, bytes) else {"json": body}
        try:
            async with self.http.request(method, self.house.url + path, headers=headers, **content) as found:
                text = await found.text()
                return found.status, json.loads(text) if found.content_type.endswith("json") else text
        except _LOST:
            return 0, ""

    async def order(
        self, what: What, method: str, path: str, kind: str, job: str = "", body: Any = None
    ) -> Any:
        """An order with a key of its own, and its answer written down."""
        self._keys += 1
        key = f"{self.name}-{self._keys}"
        status, answer = await self.call(method, path, body, key)
        made = answer["id"] if what == "submit" and status == 200 else job
        self.journal.note(Answer(key, what, made, kind, status))
        return status, answer

    async def rest(self) -> None:
        """Begin nothing new; return when all that was begun has come to its end. The stream goes on."""
        self.stopping = True
        await asyncio.gather(*self.working)

    def check(self) -> None:
        """Raise what a client failed with, if one did."""
        for task in self.working:
            if task.done() and not self.stopping:
                task.result()

    # -- what clients do ----------------------------------------------------------------------------

    async def prepare(self) -> None:
        """The data that jobs read."""
        assert (await self.call("PUT", f"/v1/datastore/local/container/{INPUTS}"))[0] == 200
        path = f"/v1/datastore/local/container/{INPUTS}/object/word"
        assert (await self.call("PUT", path, WORD.encode()))[0] == 200

    async def client(self, random: Random) -> None:
        """One job after the other, each brought to its end, until the load stops."""
        while not self.stopping:
            await self._script(random, self._next_kind())
            self.over += 1

    def _next_kind(self) -> str:
        """Of all kinds the same number, in a random order."""
        if not self._kinds:
            self._kinds = self.random.sample(list(KINDS), len(KINDS))
        return self._kinds.pop()

    async def _script(self, random: Random, kind: str) -> None:
        job = await self._submit(kind)
        if kind == "interrupted":
            await asyncio.sleep(random.uniform(0, 1.5))
            status, answer = await self.order("kill", "PUT", f"/v1/job/{job}/kill", kind, job)
            if status >= 300 and (await self._job(job))["status"]["state"] not in ENDED:
                self.faults.append(f"a living job could not be interrupted: {status} {answer}")
        if await self._until_ended(job) == KINDS[kind][1]:
            self.whole.add(kind)
        await self.read_log(job, 1)
        if kind == "again":
            status, answer = await self.order("start", "PUT", f"/v1/job/{job}/start", kind, job)
            if status < 300:
                await self._until_ended(job)
                await self.read_log(job, 2)
            elif (await self._job(job))["status"]["state"] != "ERROR":
                self.faults.append(f"an ended job could not be started again: {status} {answer}")
        if kind == "deleted":
            status, answer = await self.order("delete", "DELETE", f"/v1/job/{job}", kind, job)
            if status >= 300 or (await self.call("GET", f"/v1/job/{job}"))[0] != 404:
                self.faults.append(f"an ended job could not be deleted: {status} {answer}")

    async def _submit(self, kind: str) -> str:
        body: dict[str, Any] = {
            "image": BUSYBOX,
            "name": f"{self.name}-{kind}-{self._keys}",
            "command": ["sh", "-c", _MARK + KINDS[kind][0]],
            "resources": {"cpu": 1},
        }
        if kind == "timeout":
            body["timeout"] = 1
        if kind == "data":
            results = {"alias": "local", "container": container_of(body["name"])}
            inputs = {"alias": "local", "container": INPUTS}
            body["volumes"] = [
                {"mountPath": "/v", "permission": "RW", "dataStore": results},
                {"mountPath": "/in", "permission": "RO", "dataStore": inputs},
            ]
        status, answer = await self.order("submit", "POST", "/v1/job", kind, body=body)
        assert status == 200, (status, answer)
        return str(answer["id"])

    async def _job(self, job: str) -> Any:
        status, answer = await self.call("GET", f"/v1/job/{job}")
        self.reads += 1
        if status != 200:
            self.faults.append(f"job {job} was acknowledged, and read as {status}: {answer}")
            raise Stuck(self.faults[-1])
        return answer

    async def _until_ended(self, job: str) -> str:
        """The state in which it ended."""
        found: Any = None
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while (found := await self._job(job))["status"]["state"] not in ENDED:
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise Stuck(f"job {job} does not end: {found and found['status']}") from None
        return str(found["status"]["state"])

    async def read_log(self, job: str, run: int) -> None:
        status, text = await self.call("GET", f"/v1/job/{job}/log?run={run}")
        if status == 200:
            self.starts[job, run] |= set(_MARKED.findall(text))

    async def reader(self) -> None:
        """Lists and quotas meanwhile: they must be answered too."""
        while not self.stopping:
            for path in ("/v1/job?size=20", "/v1/quota", "/v1/billing", "/v1/me"):
                status, answer = await self.call("GET", path)
                self.reads += 1
                if status != 200:
                    self.faults.append(f"GET {path} was answered {status}: {answer}")
                await asyncio.sleep(_LOOK_S)

    # -- the stream ---------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Each event over a websocket, taken up anew after the last one whenever it breaks."""
        while True:
            try:
                await self._stream()
            except (*_LOST, aiohttp.WSServerHandshakeError):
                pass
            await asyncio.sleep(_AGAIN_S)

    async def _stream(self) -> None:
        after = self.frames[-1] if self.frames else 0
        headers = {"Authorization": f"Bearer {self.house.told['token']}"}
        url = f"{self.house.url}/v1/events?after={after}"
        async with self.http.ws_connect(url, headers=headers, timeout=aiohttp.ClientWSTimeout()) as socket:
            self.connections += 1
            async for message in socket:
                frame = json.loads(message.data)
                if frame["type"] not in ("jobyard.hello", "jobyard.heartbeat"):
                    self.frames.append(int(frame["id"]))


def container_of(name: str) -> str:
    """Where a job of that name leaves its results."""
    return f"out-{name}"


@asynccontextmanager
async def a_load(house: House, seed: int, clients: int, name: str = "load") -> AsyncIterator[Load]:
    """Clients at work, until `rest` or the end of the context."""
    timeout = aiohttp.ClientTimeout(total=60)
    journal = Journal(house.root / f"answers-{name}.jsonl")
    async with aiohttp.ClientSession(timeout=timeout) as http, AsyncExitStack() as stack:
        load = Load(house, journal, Random(seed), http, name=name)
        await load.prepare()
        await stack.enter_async_context(load.begun.watching(house.engine.host))
        following = asyncio.create_task(load.follow(), name="follower")
        working = [load.client(Random(f"{seed}-{number}")) for number in range(clients)]
        tasks = [asyncio.create_task(each) for each in (*working, load.reader())]
        load.working = tasks
        try:
            yield load
        finally:
            for task in (*tasks, following):
                task.cancel()
            await asyncio.gather(*tasks, following, return_exceptions=True)
            journal.close()
