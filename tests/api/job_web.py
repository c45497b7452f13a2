"""Jobs with a server in a real container, and the two ways to reach it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.api.yard import READER, Answer, Supervision, Yard
from tests.images import import_python
from tests.supervisor.lab import Behaviour, Lab
from tests.support.engine.scripted import Script
from tests.support.waiting import until

#: Programs for the container's own Python.
WEB, RAW = ((Path(__file__).parent / f"{name}_server.py").read_text() for name in ("web", "raw"))


@dataclass
class Web:
    """A job with a web server on its default port, and another on port 9000."""

    yard: Yard
    supervision: Supervision
    lab: Lab
    job: str
    container: str

    @property
    def port(self) -> str:
        return self.yard.url.rpartition(":")[2]

    async def host(
        self, method: str, path: str, *, port: str = "", token: str | None = READER, **more: Any
    ) -> Answer:
        """By host name, as a browser that resolves `*.localhost` to this machine does."""
        headers = {"Host": f"{self.job}{port}.job.localhost:{self.port}"} | more.pop("headers", {})
        return await self.yard.call(method, path, token=token, headers=headers, allow_redirects=False, **more)

    async def path(
        self, method: str, path: str, *, port: str = "", token: str | None = READER, **more: Any
    ) -> Answer:
        return await self.yard.call(
            method, f"/job/{self.job}{port}{path}", token=token, allow_redirects=False, **more
        )

    async def socket(self, *, token: str = READER, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.yard.tokens[token]}"} | more.pop("headers", {})
        return await self.yard.http.ws_connect(f"{self.yard.url}/job/{self.job}/ws", headers=headers, **more)


async def served(lab: Lab, *ports: int, program: str = WEB) -> str:
    """A container with a server on each of the ports; its id."""
    behaviour = Behaviour(("python3", "-c", program, *map(str, ports)), Script())
    spec = lab.spec(behaviour, image=import_python(), memory_bytes=256 * 1024**2)
    container = await lab.engine.create(spec)
    await lab.engine.start(container)

    async def listening() -> bool:
        return (await lab.text(container)).count("listening") == len(ports)

    await until(listening)
    return container


async def saying(yard: Yard, supervision: Supervision, lab: Lab) -> Web:
    """A job that says what it is told to."""
    container = await served(lab, 8080, program=RAW)
    job = await yard.submit()
    await supervision.running(job["id"], container=container)
    return Web(yard, supervision, lab, job["id"], container)
