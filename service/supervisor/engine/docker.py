"""One Docker Engine behind the Protocol. Facts it stands on: service/ARCHITECTURE.md, and the tests."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from stat import S_ISSOCK
from typing import Any
from urllib.parse import quote

import structlog

from service.errors import (
    CommandUnusable,
    EngineAway,
    EngineError,
    ImageUnavailable,
    NameTaken,
    NoSuchContainer,
)
from service.supervisor.engine import image_ref, inspect
from service.supervisor.engine.create import create_body, spec_hash, warnings_of
from service.supervisor.engine.ended import Ends
from service.supervisor.engine.events import read_events
from service.supervisor.engine.firewall import block_metadata
from service.supervisor.engine.memory import with_oom_events
from service.supervisor.engine.network import Networks
from service.supervisor.engine.output import read_logs
from service.supervisor.engine.protocol import (
    Container,
    ContainerSpec,
    ContainerSummary,
    EngineInfo,
    Hint,
    ImageInfo,
    LogChunks,
    OnWarnings,
    PullProgress,
    RegistryAuth,
)
from service.supervisor.engine.pull import Puller
from service.supervisor.engine.recent import EngineClock, began_anew, was_removed, was_started
from service.supervisor.engine.refusals import start_refused
from service.supervisor.engine.sized import Sized
from service.supervisor.engine.told import ToldToStop, told_to_stop
from service.supervisor.engine.usage import container_usage
from service.supervisor.engine.wire import Answer, Wire, refused, safe_name
from service.supervisor.storage.usage import Usage

_log = structlog.get_logger()

CALL_TIMEOUT_S = 60.0
"""A create or a start on a busy disk takes seconds; beyond this the engine is not well."""

LOOK_TIMEOUT_S = 8.0
"""What only looks is answered from memory; beyond this the engine is not well, or the link to it is cut."""


class DockerEngine:
    """See `Engine`. Calls, log streams, pulls and events have a connection pool each.

    `host` is as in DOCKER_HOST, which is the default. Make it within a running event loop.
    """

    def __init__(self, host: str | None = None, *, call_timeout_s: float | None = None) -> None:
        """`call_timeout_s`: how long a call with an effect may take; None for `CALL_TIMEOUT_S`."""
        self._timeout_s = CALL_TIMEOUT_S if call_timeout_s is None else call_timeout_s
        self._control = Wire(host)
        self._streams = Wire(host)
        self._pulls = Wire(host)
        self._puller = Puller(self._pulls)
        self._networks = Networks(self._control)
        self._sized = Sized(self._control)
        self._clock = EngineClock(self._control)
        self._told, self._ends = ToldToStop(), Ends()

    async def info(self) -> EngineInfo:
        answer = await self._call("GET", "/info")
        if answer.status != 200:
            raise refused("info", answer)
        found = answer.body
        return EngineInfo(
            id=found["ID"],
            name=found["Name"],
            cpus=found["NCPU"],
            memory_bytes=found["MemTotal"],
            gpu_driver="nvidia" in (found["Runtimes"] or {}) or self._nvidia_hook(),
            version=found["ServerVersion"],
            root_dir=found["DockerRootDir"] if self._control.socket_path is not None else "",
        )

    async def image(self, ref: str) -> ImageInfo | None:
        answer = await self._call("GET", f"/images/{quote(image_ref.local(ref), safe='/:@')}/json")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise refused(f"inspect image {ref}", answer)
        return inspect.image(answer.body)

    async def pull(
        self,
        ref: str,
        *,
        auth: RegistryAuth | None = None,
        on_progress: Callable[[PullProgress], None] | None = None,
        stall_s: float = 120.0,
    ) -> ImageInfo:
        wanted = image_ref.parse(ref)
        await self._puller.pull(wanted, auth=auth, on_progress=on_progress, stall_s=stall_s)
        found = await self.image(str(wanted))
        if found is None:
            raise ImageUnavailable(f"{wanted} was pulled but is not there", passing=True)
        if (found.os, found.architecture) != ("linux", "amd64"):
            raise ImageUnavailable(
                f"{wanted} is {found.os}/{found.architecture}; jobs run linux/amd64 images",
                reason="architecture",
            )
        return found

    @property
    def _look_s(self) -> float:
        """How long a call without an effect may take."""
        return min(self._timeout_s, LOOK_TIMEOUT_S)

    async def create(self, spec: ContainerSpec, *, on_warnings: OnWarnings | None = None) -> str:
        body = create_body(spec)
        await asyncio.to_thread(_refuse_sockets, spec)
        asking = self._sized.create(safe_name(spec.name), body, spec.storage_bytes, self._timeout_s)
        answer = await self._late(f"create {spec.name}", asking, lambda: self._made(spec))
        match answer.status:
            case 201:
                if on_warnings is not None and (warned := warnings_of(answer.body)):
                    on_warnings(warned)
                return str(answer.body["Id"])
            case 409:
                raise NameTaken(f"a container named {spec.name} exists")
            case 400 if "No command specified" in answer.message:
                raise CommandUnusable(f"{spec.image} has no command of its own, and none was given")
            case 404:
                raise ImageUnavailable(f"the engine does not hold {spec.image}", passing=True)
            case _:
                raise refused(f"create {spec.name}", answer)

    async def find(self, name_or_id: str) -> Container | None:
        answer = await self._call("GET", f"/containers/{safe_name(name_or_id)}/json")
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise refused(f"inspect {name_or_id}", answer)
        container = self._ends.corrected(inspect.container(answer.body))
        return await with_oom_events(self._control, self._clock, container, self._look_s)

    async def list(self, labels: Mapping[str, str]) -> list[ContainerSummary]:
        wanted = [f"{name}={value}" if value else name for name, value in labels.items()]
        params = {"all": "1", "filters": json.dumps({"label": wanted})}
        answer = await self._call("GET", "/containers/json", params=params)
        if answer.status != 200:
            raise refused("list containers", answer)
        return [inspect.summary(listed) for listed in answer.body]

    async def start(self, container_id: str) -> None:
        asking = self._call("POST", f"/containers/{safe_name(container_id)}/start")
        answer = await self._late(f"start {container_id}", asking, lambda: self._begun(container_id))
        if answer.status not in (204, 304):
            raise start_refused(container_id, answer)

    async def was_started(self, labels: Mapping[str, str]) -> bool:
        return await was_started(self._control, self._clock, labels, self._look_s)

    async def began_anew(self, labels: Mapping[str, str]) -> bool:
        return await began_anew(self._control, self._clock, labels, self._look_s)

    async def was_removed(self, container_id: str) -> bool:
        return await was_removed(self._control, self._clock, container_id, self._look_s)

    async def stop(self, container_id: str, grace_s: int) -> None:
        asking = self._control.call(
            "POST",
            f"/containers/{safe_name(container_id)}/stop",
            params={"t": str(grace_s)},
            timeout_s=grace_s + self._timeout_s,
        )
        answer = await self._late(f"stop {container_id}", asking, lambda: self._over(container_id))
        if answer.status == 404:
            raise NoSuchContainer(f"no container {container_id}")
        if answer.status not in (204, 304):
            raise refused(f"stop {container_id}", answer)

    async def remove(self, container_id: str, *, force: bool = False) -> None:
        params = {"v": "1", "force": "1" if force else "0"}
        asking = self._call("DELETE", f"/containers/{safe_name(container_id)}", params=params)
        answer = await self._late(f"remove {container_id}", asking, lambda: self._gone(container_id))
        going = answer.status == 409 and "already in progress" in answer.message
        if answer.status not in (204, 404) and not going:
            raise refused(f"remove {container_id}", answer)

    async def usage(self, container_id: str) -> Usage:
        return await container_usage(self._control, container_id, self._timeout_s)

    def logs(
        self, container_id: str, *, since: str | None = None, tail: int | None = None, follow: bool = False
    ) -> AsyncGenerator[LogChunks, None]:
        return read_logs(self._streams, container_id, since=since, tail=tail, follow=follow)

    async def was_told_to_stop(self, ended: Container) -> bool:
        return ended.id in self._told or await told_to_stop(self._control, self._clock, ended, self._look_s)

    def events(self) -> AsyncGenerator[Hint, None]:
        return read_events(self._streams, self._hear)

    def _hear(self, event: Mapping[str, Any]) -> None:
        self._told.hear(event)
        self._ends.hear(event)

    async def ensure_network(self, name: str, labels: Mapping[str, str]) -> str:
        return await self._networks.ensure(name, labels)

    async def drop_network(self, name: str, labels: Mapping[str, str], *, broken: str) -> bool:
        return await self._networks.drop(name, labels, broken=broken)

    async def spare_networks(self, labels: Mapping[str, str], used: AbstractSet[str]) -> None:
        await self._networks.spare(labels, used)

    async def block_metadata(self) -> bool:
        await self._networks.all_apart()
        return await block_metadata(engine_is_local=self._control.socket_path is not None)

    async def close(self) -> None:
        for wire in (self._streams, self._pulls, self._control):
            await wire.close()

    async def _call(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None
    ) -> Answer:
        limit_s = self._look_s if method == "GET" else self._timeout_s
        return await self._control.call(method, path, params=params, body=body, timeout_s=limit_s)

    # -- answers that are late ------------------------------------------------------------------------

    async def _late(
        self, what: str, asking: Coroutine[Any, Any, Answer], seen: Callable[[], Awaitable[Answer | None]]
    ) -> Answer:
        """The answer to a call with an effect; or, when it is late, what is `seen` of the effect itself.

        An answer can be late because the engine is slow, or never come because the link was cut without an
        end. The one is waited for, and the other is not: what was asked for is there then.
        """
        task = asyncio.create_task(asking)
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=LOOK_TIMEOUT_S)
                if done:
                    return task.result()
                _log.warning("engine has not answered", what=what, after_s=LOOK_TIMEOUT_S)
                with suppress(EngineAway):  # the call itself says when to give up
                    if (found := await seen()) is not None:
                        return found
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _made(self, spec: ContainerSpec) -> Answer | None:
        found = await self.find(spec.name)
        if found is None or found.spec_hash != spec_hash(spec):
            return None
        ours = spec.labels.items() <= found.labels.items()  # its image has labels too, and so have we
        return Answer(201, {"Id": found.id}) if ours else None

    async def _begun(self, container_id: str) -> Answer | None:
        found = await self.find(container_id)
        return Answer(204, None) if found is not None and found.started_at is not None else None

    async def _over(self, container_id: str) -> Answer | None:
        found = await self.find(container_id)
        return Answer(204, None) if found is None or found.state in ("exited", "dead") else None

    async def _gone(self, container_id: str) -> Answer | None:
        return Answer(204, None) if await self.find(container_id) is None else None

    def _nvidia_hook(self) -> bool:
        local = self._control.socket_path is not None
        return local and shutil.which("nvidia-container-runtime-hook") is not None


def _refuse_sockets(spec: ContainerSpec) -> None:
    """`create_body` refuses known names; this refuses any socket, where the engine's host is ours."""
    for mount in spec.mounts:
        source = Path(mount.source).resolve()
        if source.exists() and S_ISSOCK(source.stat().st_mode):
            raise EngineError("a socket is never mounted into a job")
