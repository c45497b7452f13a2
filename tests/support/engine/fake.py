"""An engine without containers, for simulation: same Protocol, same conformance suite, no time of its own.

Nothing here moves by itself. A test scripts what a container does, and lets it happen with `tick`,
`write` and `exit`; faults come from `fail_next`, event loss from `drop_events` and `repeat_events`.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, TypeVar

from service.errors import (
    EngineAway,
    EngineError,
    GpuDriverMissing,
    ImageUnavailable,
    JobyardError,
    LogBroken,
    NameTaken,
    NetworkBroken,
    NoSuchContainer,
    Unavailable,
)
from service.supervisor.engine import image_ref
from service.supervisor.engine.create import create_body
from service.supervisor.engine.events import DueHints
from service.supervisor.engine.network import IDLE_KEPT
from service.supervisor.engine.protocol import (
    SUBSCRIBED,
    Container,
    ContainerSpec,
    ContainerSummary,
    EngineInfo,
    Hint,
    ImageInfo,
    LogChunk,
    LogChunks,
    OnWarnings,
    PullProgress,
    RegistryAuth,
    RepoDigest,
)
from service.supervisor.engine.recent import KEPT
from service.supervisor.engine.refusals import logs_refused
from service.supervisor.engine.wire import Answer, safe_name
from service.supervisor.storage.usage import Usage
from tests.support.engine.scripted import FakeContainer, Script, inspected

When = Literal["before", "after"]
T = TypeVar("T")

#: Word for word what 20.10 answers.
NO_LOGS = "can not get logs from container which is dead or marked for removal"


class Happened(NamedTuple):
    """An event, as the engine remembers it."""

    action: str
    container_id: str
    labels: Mapping[str, str]


class FakeEngine:
    """See `Engine`. `clock` gives aware UTC; `images` are held, `registry` is what a pull can find."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        cpus: int = 8,
        memory_bytes: int = 64 * 1024**3,
        gpu_driver: bool = False,
        metadata_blocked: bool = True,
    ) -> None:
        self._clock = clock
        self._info = EngineInfo("FAKE:ENGINE", "fake", cpus, memory_bytes, gpu_driver, "fake")
        self._metadata_blocked = metadata_blocked
        self.images: dict[str, ImageInfo] = {}
        self.registry: dict[str, ImageInfo | JobyardError] = {}
        self.scripts: dict[str, Script] = {}
        """By container name, else by image; a container without one runs until it is stopped."""
        self.auths: list[RegistryAuth | None] = []
        """What each pull was given to show."""
        self.calls: list[tuple[str, str]] = []
        """Every call: the method's name and what it was about."""
        self._remembered: deque[Happened] = deque(maxlen=KEPT)
        self.drop_events = False
        self.repeat_events = False
        self._containers: dict[str, FakeContainer] = {}
        self._networks: dict[str, tuple[str, dict[str, str]]] = {}
        self._broken: set[str] = set()
        self._dropped: list[str] = []
        self._torn: dict[str, int | None] = {}
        self._faults: list[tuple[str, When, JobyardError]] = []
        self._subscribers: list[DueHints] = []
        self._made = 0
        self._stamped = 0

    # What a test does to it

    def add_image(
        self, ref: str, *, pulled: bool = True, architecture: str = "amd64", from_registry: bool = True
    ) -> ImageInfo:
        """An image that is held already, or that only a pull can find. Not `from_registry`: as if it had
        been imported, with no digest of a registry."""
        digest = "sha256:" + hashlib.sha256(ref.encode()).hexdigest()
        digests = (RepoDigest(image_ref.parse(ref).name, digest),) if from_registry else ()
        info = ImageInfo(digest, digests, "linux", architecture, 1_000_000)
        name = str(image_ref.parse(ref))
        self.registry[name] = info
        if pulled:
            self.images[name] = info
        return info

    def fail_next(self, call: str, when: When = "before", error: JobyardError | None = None) -> None:
        """The next `call` (a method's name) raises, before it did anything or after it did all of it."""
        self._faults.append((call, when, error or EngineAway(f"fake fault {when} {call}")))

    def break_network(self, name_or_id: str) -> None:
        """The link of the network is taken away on the engine's host."""
        self._broken |= {found for name, (found, _) in self._networks.items() if name_or_id in (name, found)}

    def tear_log(self, container_id: str, *, after: int | None) -> None:
        """The engine cannot read its log of the container beyond so many chunks, and not from its end; None:
        it can again."""
        self._torn[container_id] = after

    def half_remove(self, container_id: str) -> None:
        """As a removal that failed, or that was cut off, leaves a container that does not run."""
        self._must_find(container_id).state = "dead"

    @property
    def begun(self) -> list[Mapping[str, str]]:
        """The labels of what was started, as far as its events remember."""
        return [each.labels for each in self._remembered if each.action == "start"]

    def begin_anew(self) -> None:
        """It forgets all its events, as they are of its own life alone."""
        self._remembered.clear()

    def have_others(self, events: int = KEPT) -> None:
        """So much happens to what is not ours."""
        for _ in range(events):
            self._remember("tag")

    def become_another(self, engine_id: str, *, breaks: bool = True) -> None:
        """Its data is wiped and it begins anew: nothing is there, and its id is another. Not `breaks`: nobody
        who listens is told, as behind a link that was cut without an end."""
        self._info = replace(self._info, id=engine_id)
        self._containers.clear()
        self._networks.clear()
        self.begin_anew()
        if breaks:
            self.end_events()

    def take_events_up_anew(self) -> None:
        """Every event stream was silent, and is subscribed to once more."""
        for due in self._subscribers:
            due.add(SUBSCRIBED)

    def end_events(self) -> None:
        """Every event stream breaks."""
        for due in self._subscribers:
            due.end(Unavailable("the event stream ended"))

    async def tick(self, times: int = 1) -> None:
        """Every running container with ticks left does one; at none it exits as scripted."""
        for _ in range(times):
            for fake in [each for each in self._containers.values() if each.state == "running"]:
                if fake.ticks_left is not None:
                    fake.ticks_left -= 1
                    if fake.ticks_left <= 0:
                        await self._end(fake, fake.script.exit_code, fake.script.oom_killed)

    async def exit(self, name_or_id: str, code: int = 0, *, oom_killed: bool = False) -> None:
        """The container's main process ends now."""
        await self._end(self._must_find(name_or_id), code, oom_killed)

    async def write(self, name_or_id: str, payload: bytes, stream: Literal[1, 2] = 1) -> None:
        """The container prints; one chunk."""
        fake = self._must_find(name_or_id)
        fake.log.append(LogChunk(stream, self._stamp(), payload))
        async with fake.changed:
            fake.changed.notify_all()

    def takes(self, name_or_id: str, usage: Usage) -> None:
        """From now on the container takes so much of the disk."""
        self._must_find(name_or_id).usage = usage

    def output(self, name_or_id: str) -> list[LogChunk]:
        """What the engine keeps of a container's output, to add to or to lose."""
        return self._must_find(name_or_id).log

    # The Protocol

    async def info(self) -> EngineInfo:
        self._enter("info", "")
        return self._leave("info", self._info)

    async def image(self, ref: str) -> ImageInfo | None:
        self._enter("image", ref)
        name = image_ref.local(ref)
        by_id = next((held for held in self.images.values() if held.id == name), None)
        return self._leave("image", self.images.get(name, by_id))

    async def pull(
        self,
        ref: str,
        *,
        auth: RegistryAuth | None = None,
        on_progress: Callable[[PullProgress], None] | None = None,
        stall_s: float = 120.0,
    ) -> ImageInfo:
        self._enter("pull", ref)
        self.auths.append(auth)
        name = str(image_ref.parse(ref))
        found = self.registry.get(name)
        if found is None:
            message = f"{name} cannot be pulled: there is no such image or tag"
            raise ImageUnavailable(message, reason="missing")
        if isinstance(found, JobyardError):
            raise found
        if on_progress is not None:
            on_progress(PullProgress(name, 1, 1, found.size_bytes, found.size_bytes))
        if (found.os, found.architecture) != ("linux", "amd64"):
            message = f"{name} is {found.os}/{found.architecture}; jobs run linux/amd64 images"
            raise ImageUnavailable(message, reason="architecture")
        self.images[name] = found
        return self._leave("pull", found)

    async def create(self, spec: ContainerSpec, *, on_warnings: OnWarnings | None = None) -> str:
        self._enter("create", spec.name)
        labels: dict[str, str] = create_body(spec)["Labels"]
        if self._look_up(spec.name) is not None:
            raise NameTaken(f"a container named {spec.name} exists")
        image = self.images.get(image_ref.local(spec.image))
        if image is None:
            raise ImageUnavailable(f"the engine does not hold {spec.image}", passing=True)
        script = self.scripts.get(spec.name) or self.scripts.get(spec.image) or Script()
        self._made += 1
        container_id = hashlib.sha256(f"container {self._made}".encode()).hexdigest()
        ip = f"172.30.{self._made // 250}.{self._made % 250 + 2}"
        made = FakeContainer(container_id, spec, labels, script, image.id, ip)
        self._containers[container_id] = made
        self._remember("create", made)
        self._tell(made)
        if on_warnings is not None and script.warnings:
            on_warnings(script.warnings)
        return self._leave("create", container_id)

    async def find(self, name_or_id: str) -> Container | None:
        self._enter("find", name_or_id)
        fake = self._look_up(name_or_id)
        return self._leave("find", None if fake is None else inspected(fake))

    async def list(self, labels: Mapping[str, str]) -> list[ContainerSummary]:
        self._enter("list", ",".join(labels))
        found = [
            ContainerSummary(fake.id, fake.spec.name, dict(fake.labels), fake.state)
            for fake in self._containers.values()
            if all(name in fake.labels and value in ("", fake.labels[name]) for name, value in labels.items())
        ]
        return self._leave("list", found)

    async def start(self, container_id: str) -> None:
        self._enter("start", container_id)
        fake = self._must_find(container_id)
        if fake.state in ("removing", "dead"):
            raise EngineError(f"start {container_id}: it is marked for removal")
        if fake.state != "running":
            self._refuse_start(fake)
            fake.state, fake.exit_code, fake.oom_killed = "running", None, False
            fake.told_to_stop = False
            fake.started_at, fake.finished_at = self._clock(), None
            self._remember("connect")
            self._remember("start", fake)
            fake.ticks_left = fake.script.ticks
            fake.usage = Usage(fake.script.writes_bytes)
            self._tell(fake)
            for stream, payload in fake.script.output:
                await self.write(fake.id, payload, stream)
            if fake.script.ticks == 0:
                await self._end(fake, fake.script.exit_code, fake.script.oom_killed)
        self._leave("start", None)

    async def was_started(self, labels: Mapping[str, str]) -> bool:
        self._enter("was_started", ",".join(labels))
        return self._leave("was_started", any(labels.items() <= each.items() for each in self.begun))

    async def began_anew(self, labels: Mapping[str, str]) -> bool:
        self._enter("began_anew", ",".join(labels))
        remembers = any(labels.items() <= each.items() for each in self.begun)
        return self._leave("began_anew", not remembers and len(self._remembered) < KEPT)

    async def was_removed(self, container_id: str) -> bool:
        self._enter("was_removed", container_id)
        removed = {each.container_id for each in self._remembered if each.action == "destroy"}
        return self._leave("was_removed", container_id in removed)

    async def stop(self, container_id: str, grace_s: int) -> None:
        self._enter("stop", container_id)
        fake = self._must_find(container_id)
        if fake.state == "running":
            fake.told_to_stop = True
            code = fake.script.sigterm_code
            await self._end(fake, 137 if code is None else code, False)
        self._leave("stop", None)

    async def remove(self, container_id: str, *, force: bool = False) -> None:
        self._enter("remove", container_id)
        fake = self._look_up(container_id)
        if fake is not None:
            if fake.state == "running" and not force:
                raise EngineError(f"remove {container_id}: it is running")
            if fake.state == "running":
                await self._end(fake, 137, False)
            del self._containers[fake.id]
            self._remember("destroy", fake)
            self._tell(fake)
        self._leave("remove", None)

    async def usage(self, container_id: str) -> Usage:
        self._enter("usage", container_id)
        return self._leave("usage", self._must_find(container_id).usage)

    async def logs(
        self, container_id: str, *, since: str | None = None, tail: int | None = None, follow: bool = False
    ) -> AsyncGenerator[LogChunks, None]:
        self._enter("logs", container_id)
        fake = self._must_find(container_id)
        if fake.state in ("removing", "dead"):
            raise logs_refused(container_id, Answer(409, {"message": NO_LOGS}))
        given = max(0, len(fake.log) - tail) if tail is not None else 0
        torn = self._torn.get(container_id)
        while True:
            whole = len(fake.log) if torn is None else 0 if tail is not None else min(torn, len(fake.log))
            come = fake.log[given:whole]
            if chunks := [chunk for chunk in come if since is None or chunk.timestamp >= since]:
                yield chunks
            given += len(come)
            if given < len(fake.log) and torn is not None and given >= whole:
                raise LogBroken("the engine cannot read the log")
            if not follow or fake.state != "running":
                break
            async with fake.changed:
                while given >= len(fake.log) and fake.state == "running":
                    await fake.changed.wait()
        self._leave("logs", None)

    async def was_told_to_stop(self, ended: Container) -> bool:
        self._enter("was_told_to_stop", ended.id)
        return self._leave("was_told_to_stop", self._must_find(ended.id).told_to_stop)

    async def events(self) -> AsyncGenerator[Hint, None]:
        self._enter("events", "")
        due = DueHints()
        due.add(SUBSCRIBED)
        self._subscribers.append(due)
        try:
            while True:
                yield await due.next()
        finally:
            with suppress(ValueError):
                self._subscribers.remove(due)

    async def ensure_network(self, name: str, labels: Mapping[str, str]) -> str:
        self._enter("ensure_network", name)
        made = hashlib.sha256(f"network {name} {len(self._dropped)}".encode()).hexdigest()
        network_id, has = self._networks.setdefault(name, (made, dict(labels)))
        if not labels.items() <= has.items():
            raise EngineError(f"a network named {name} exists and is not ours")
        return self._leave("ensure_network", network_id)

    async def drop_network(self, name: str, labels: Mapping[str, str], *, broken: str) -> bool:
        self._enter("drop_network", name)
        network_id, has = self._networks.get(name, ("", {}))
        dropped = True
        if network_id and network_id.startswith(broken) and labels.items() <= has.items():
            dropped = not any(
                each.state == "running" and each.spec.network in (name, network_id)
                for each in self._containers.values()
            )
            if dropped:
                self._dropped.append(self._networks.pop(name)[0])
        return self._leave("drop_network", dropped)

    async def spare_networks(self, labels: Mapping[str, str], used: AbstractSet[str]) -> None:
        self._enter("spare_networks", "")
        idle = [
            name
            for name, (network_id, has) in self._networks.items()
            if labels.items() <= has.items()
            and name not in used
            and not any(each.spec.network in (name, network_id) for each in self._containers.values())
        ]
        for name in idle[:-IDLE_KEPT]:
            self._dropped.append(self._networks.pop(name)[0])
        self._leave("spare_networks", None)

    async def block_metadata(self) -> bool:
        self._enter("block_metadata", "")
        return self._leave("block_metadata", self._metadata_blocked)

    async def close(self) -> None:
        self.end_events()

    # Inside

    def _enter(self, call: str, about: str) -> None:
        self.calls.append((call, about))
        self._raise_fault(call, "before")

    def _leave(self, call: str, answer: T) -> T:
        self._raise_fault(call, "after")
        return answer

    def _raise_fault(self, call: str, when: When) -> None:
        for fault in self._faults:
            if fault[:2] == (call, when):
                self._faults.remove(fault)
                raise fault[2]

    def _refuse_start(self, fake: FakeContainer) -> None:
        error = fake.script.start_error
        known = {key: found for name, (found, _) in self._networks.items() for key in (name, found)}
        network = known.get(fake.spec.network or "")
        if error is None and network in self._broken:
            error = NetworkBroken(f"the link of network {network[:12]} is gone", network[:12])
        if error is None and fake.spec.gpus and not self._info.gpu_driver:
            error = GpuDriverMissing("the engine has no GPU driver: install the NVIDIA Container Toolkit")
        if error is not None:
            fake.error = error.message
            raise error

    async def _end(self, fake: FakeContainer, code: int, oom_killed: bool) -> None:
        fake.state, fake.exit_code, fake.oom_killed = "exited", code, oom_killed
        fake.finished_at = self._clock()
        self._remember("die", fake)
        self._remember("disconnect")
        self._tell(fake)
        async with fake.changed:
            fake.changed.notify_all()

    def _remember(self, action: str, fake: FakeContainer | None = None) -> None:
        """`fake`: the container it happens to; None: something else."""
        labels = {} if fake is None else fake.labels
        self._remembered.append(Happened(action, "" if fake is None else fake.id, labels))

    def _tell(self, fake: FakeContainer) -> None:
        if self.drop_events:
            return
        hint = Hint(fake.id, fake.labels)
        for due in self._subscribers:
            due.add(hint)
            if self.repeat_events:
                due.add(hint, again=True)

    def _stamp(self) -> str:
        # Growing even while the clock stands still, as an engine's nanoseconds do.
        self._stamped += 1
        moment = self._clock() + timedelta(microseconds=self._stamped // 1000)
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}{self._stamped % 1000:03d}Z"

    def _look_up(self, name_or_id: str) -> FakeContainer | None:
        safe_name(name_or_id)
        by_name = (fake for fake in self._containers.values() if fake.spec.name == name_or_id)
        return self._containers.get(name_or_id) or next(by_name, None)

    def _must_find(self, name_or_id: str) -> FakeContainer:
        fake = self._look_up(name_or_id)
        if fake is None:
            raise NoSuchContainer(f"no container {name_or_id}")
        return fake
