"""Clients: each has wishes, one after another, and asks for one until it is answered, wherever it can."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from random import Random
from typing import Any

from tests.chaos.simulation.answers import Answers
from tests.chaos.simulation.api import JOB, JOBS, Answer, Api, Request
from tests.chaos.simulation.docker import IMAGE

#: Where all jobs with data have it from, and where each pushes it to.
IN, OUT = "given", "made"
Wish = tuple[str, str, bytes, str]


class Client:
    """`apis`: the processes that there are now, None for one that is down. `jobs`: those that all know."""

    def __init__(
        self, name: str, apis: Sequence[Api | None], answers: Answers, jobs: list[str], chance: Random
    ) -> None:
        self._name, self._apis, self._answers = name, apis, answers
        self._jobs, self._chance = jobs, chance
        self._turn = chance.randrange(len(apis))

    async def run(self, wishes: int) -> None:
        for number in range(wishes):
            await asyncio.sleep(self._chance.choice((0, 1, 10, 30)))
            key = f"{self._name}.{number}"
            await self._asked(key, self._wish(key))

    async def _asked(self, key: str, wish: Wish) -> None:
        """Until there is an answer. Now and then it was lost on the client's side: then once more."""
        method, path, body, job = wish
        attempt = 0
        while True:
            attempt += 1
            request = Request(method, path, key, f"{key}:{attempt}", body, job)
            self._answers.sent(key)
            answer = await self._sent(request)
            if answer is None or answer.status == 503:
                await asyncio.sleep(self._chance.uniform(0.1, 3))
                continue
            self._answers.answered(request, answer)
            if path == JOBS and answer.status == 200:
                self._know(json.loads(answer.body)["id"])
            if answer.status >= 400 or self._chance.random() < 0.8:
                return

    async def _sent(self, request: Request) -> Answer | None:
        """None when the connection was lost, or nobody waited any longer. The next goes to the other one."""
        api = self._apis[self._turn]
        self._turn = (self._turn + 1) % len(self._apis)
        if api is None:
            return None
        task = api.send(request)
        await asyncio.wait((task,), timeout=self._chance.choice((1, 10, 30)))
        return task.result() if task.done() and not task.cancelled() else None

    def _know(self, job: str) -> None:
        if job not in self._jobs:
            self._jobs.append(job)

    def _wish(self, key: str) -> Wish:
        chance = self._chance
        if len(self._jobs) < 2 or (len(self._jobs) < 6 and chance.random() < 0.5):
            return "POST", JOBS, json.dumps(self._specification(key)).encode(), ""
        job = chance.choice(self._jobs)
        if chance.random() < 0.2:
            direction = chance.choice(("push", "pull"))
            return "POST", JOB + "/datasync", json.dumps({"direction": direction}).encode(), job
        kinds = (("PUT", "/kill"), ("PUT", "/start"), ("PUT", "/kill"), ("DELETE", ""))
        method, what = chance.choice(kinds)
        return method, JOB + what, b"", job

    def _specification(self, key: str) -> dict[str, Any]:
        chance = self._chance
        volume = {
            "mountPath": "/data",
            "permission": "RW",
            "dataStore": {"alias": "store", "container": IN},
            "targetDataStore": {"alias": "store", "container": OUT, "prefix": f"{key}/"},
        }
        return {
            "image": IMAGE,
            "name": key.replace(".", "-"),
            "resources": {"cpu": chance.randint(1, 3)},
            "volumes": [volume] if chance.random() < 0.5 else [],
            "timeout": chance.choice((60, 60, 600)),
            "timeoutAutoRestart": chance.random() < 0.2,
        }
