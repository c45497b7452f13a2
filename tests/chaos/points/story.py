"""What users do, told once for each point: they ask until they are answered, and write down each answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import aiohttp

from service.domain.states import State
from tests.chaos.points.ground import DEADLINE_S, Ground
from tests.images import BUSYBOX
from tests.support.waiting import until

#: A secret of the job's environment; only its log may show it.
SECRET = "hush-7f3a"


class Broken(Exception):
    """Something that a user would call broken. Its text says what."""


@dataclass(frozen=True)
class Story:
    """One job. `interrupted`: it runs until it is told to end, after a command was run in it."""

    name: str
    does: str
    says: str
    leaves: dict[str, bytes]
    ends: State
    interrupted: bool = False


STORIES = (
    Story(
        "a job with data",
        f"cat /in/word; test $KEY = {SECRET} && echo right; rm /out/gone; echo weights > /out/model",
        "said\nright\n",
        {"in/word": b"said\n", "out/kept": b"2", "out/model": b"weights\n"},
        State.DONE,
    ),
    Story(
        "a job that is interrupted",
        "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
        "ready\nbye\n",
        {"in/word": b"said\n", "out/gone": b"1", "out/kept": b"2"},
        State.INTERRUPTED,
        interrupted=True,
    ),
)


@dataclass
class User:
    """Talks to whichever service is at work."""

    ground: Ground
    http: aiohttp.ClientSession
    answers: list[tuple[str, int]] = field(default_factory=list)

    async def once(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        url = await self.ground.url()
        async with self.http.request(method, url + path, **more) as response:
            answer = await response.json() if "json" in response.content_type else await response.text()
            self.answers.append((f"{method} {path}", response.status))
            return response.status, answer

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        """Until it is answered. Raises `Broken` for an answer that is none of success."""
        while True:
            try:
                status, answer = await self.once(method, path, **more)
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)  # as any client does that was cut off
                continue
            if status not in (200, 204):
                raise Broken(f"{method} {path} was answered with {status}: {answer}")
            return answer


async def submitted(user: User, story: Story) -> UUID:
    bucket = {"alias": "local", "container": user.ground.bucket.name}
    body = {
        "image": BUSYBOX,
        "command": ["sh", "-c", story.does],
        "resources": {"cpu": 1},
        "envVars": [{"name": "KEY", "value": SECRET}],
        "labels": {"story": "points"},
        "volumes": [
            {
                "mountPath": "/in",
                "permission": "RO",
                "cache": True,
                "dataStore": bucket | {"prefix": "in/"},
            },
            {"mountPath": "/out", "permission": "RWD", "dataStore": bucket | {"prefix": "out/"}},
        ],
    }
    key = {"Idempotency-Key": str(uuid4())}
    answer = await user.ask("POST", "/v1/job", json=body, headers=key)
    return UUID(answer["id"])


async def told(user: User, story: Story) -> UUID:
    """The job, which is over. Raises `Broken`, or `AssertionError` for what never happens."""
    world = user.ground.world
    job = await submitted(user, story)
    if await world.ledger.find_job(job) is None:
        raise Broken(f"job {job} was answered for and is not there")
    if story.interrupted:
        await world.reach(job, State.RUNNING)
        with suppress(aiohttp.ClientError):  # a command that was cut off is for its user to repeat
            status, answer = await user.once(
                "GET", f"/v1/job/{job}/exec", params=[("command", "echo"), ("command", "hello")]
            )
            if (status, answer) != (200, "hello\n"):
                raise Broken(f"exec was answered with {status}: {answer}")
        await world.printed(job)
        await user.ask("PUT", f"/v1/job/{job}/kill")
    ended = await world.end(job)
    if ended.state is not story.ends:
        raise Broken(f"it ended as {ended.state}: {ended.info.message}")
    said = await user.ask("GET", f"/v1/job/{job}/log")
    if said != story.says:
        raise Broken(f"the log says {said!r}")
    volumes = world.settings.volumes_dir
    await until(lambda: not any(volumes.iterdir()), DEADLINE_S, what="the volumes are removed")
    return job
