"""What the supervisor needs of a container engine: a Protocol and its types.

Implementation: `docker.DockerEngine` (one Docker Engine). The tests have another one, for simulation.
Both pass tests/supervisor/test_engine_conformance.py. A Swarm engine would be a third.

Every method may raise `Unavailable`: the engine did not answer (in time), and what was asked may or may
not have happened; look again before asking again. Sizes are bytes, times aware UTC, `_s` is seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from service.supervisor.storage.usage import Usage

State = Literal["created", "running", "paused", "restarting", "removing", "exited", "dead"]

LABEL_SPEC = "jobyard.spec"
"""Label that holds `spec_hash`, so that a container found under a taken name can be compared and adopted."""

JOB_USER = "42420:42420"
"""User and group every job runs as (api.md: OVHcloud's guides promise it)."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """The engine and the machine under it.

    `id` outlives restarts of the engine. `gpu_driver` is a hint (the NVIDIA runtime or its hook was
    seen); the proof is a start that does not raise `GpuDriverMissing`.
    """

    id: str
    name: str
    cpus: int
    memory_bytes: int
    gpu_driver: bool
    version: str
    #: Where it keeps images and containers; empty where that cannot be seen from here.
    root_dir: str = ""


class RepoDigest(NamedTuple):
    """Under which name an image came from a registry, in the engine's spelling, and its `sha256:…` there."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image the engine holds. `id` is its content; `digests` has none for what came from no registry."""

    id: str
    digests: tuple[RepoDigest, ...]
    os: str
    architecture: str
    size_bytes: int

    @property
    def digest(self) -> str | None:
        """The registry's `sha256:…` of it; None for an image that came from no registry."""
        return self.digests[0].digest if self.digests else None


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """Credentials, for exactly this `server` (host and port as in the image reference)."""

    server: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is. `total_bytes` grows while layers become known; 0 when nothing is known yet."""

    image: str
    layers: int
    layers_done: int
    downloaded_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the engine's host (`source`, absolute, must exist) seen in the container at `target`."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """Everything that decides what one run's container is.

    `command` None runs the image's own entrypoint and command; otherwise it replaces both.
    `env` may hold secrets and is never shown. `gpus` are device ids (index or UUID) of this host.
    `storage_bytes` bounds what it may change of its image, where the engine's storage driver can.
    """

    name: str
    image: str
    command: tuple[str, ...] | None = None
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    nano_cpus: int = 1_000_000_000
    memory_bytes: int = 4 * 1024**3
    gpus: tuple[str, ...] = ()
    user: str = JOB_USER
    network: str = "bridge"
    stop_grace_s: int = 30
    pids_limit: int = 4096
    nofile: int = 16_384
    shm_bytes: int = 64 * 1024**2
    log_max_size_bytes: int = 16 * 1024**2
    log_max_file: int = 3
    storage_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ContainerSummary:
    """One line of a list by label. Inspect (`find`) before deciding anything that cannot be undone."""

    id: str
    name: str
    labels: Mapping[str, str]
    state: State


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine knows it at one moment.

    `exit_code` is None until it ended. `oom_killed` says the kernel killed some process in it for
    memory, not necessarily the main one; when it is False, the engine did not notice any (it misses
    some: see `engine/memory.py`). `error` is the engine's own text about a failed start. `lost`: the engine
    lost hold of the process and then had it killed, so that the code is not how it would have ended.
    """

    id: str
    name: str
    labels: Mapping[str, str]
    state: State
    exit_code: int | None
    oom_killed: bool
    error: str
    started_at: datetime | None
    finished_at: datetime | None
    image_id: str
    ip: str | None
    lost: bool = False

    @property
    def spec_hash(self) -> str | None:
        """The hash it was created with, to compare with `spec_hash(spec)`; None if it is not ours."""
        return self.labels.get(LABEL_SPEC)


class Hint(NamedTuple):
    """Something happened to a container, which was made with these labels."""

    container_id: str
    labels: Mapping[str, str]


SUBSCRIBED = Hint("", {})
"""The first hint of a subscription, also of one taken up anew: it stands, list now."""


class LogChunk(msgspec.Struct, frozen=True, gc=False):
    """Output as the engine hands it over: up to one line, its newline included.

    A line too long for one chunk comes in several of one timestamp, of which at most the last ends with
    a newline: Docker 20.10 loses it.
    `timestamp` is RFC 3339 UTC with nine digits of a second. The two streams are stamped before they are
    put in order, so it can step back a little between them. There can be hundreds of thousands in a second.
    """

    stream: Literal[1, 2]
    timestamp: str
    payload: bytes


LogChunks = list[LogChunk]


#: Is told what an engine did not do as it was asked to: some lines, each fit for the log.
OnWarnings: TypeAlias = Callable[[tuple[str, ...]], None]


class Engine(Protocol):
    """A container engine. Safe for concurrent use within one event loop."""

    async def info(self) -> EngineInfo:
        """Identity and capacity."""
        ...

    async def image(self, ref: str) -> ImageInfo | None:
        """The image the engine holds under this reference or image id, or None."""
        ...

    async def pull(
        self,
        ref: str,
        *,
        auth: RegistryAuth | None = None,
        on_progress: Callable[[PullProgress], None] | None = None,
        stall_s: float = 120.0,
    ) -> ImageInfo:
        """Fetch one image (no tag means `latest`); callers of one reference share one fetch.

        Raises `ImageUnavailable`, with `passing` True for no progress in `stall_s`, a registry out of
        reach or throttling; False for not found, denied, or not linux/amd64.
        """
        ...

    async def create(self, spec: ContainerSpec, *, on_warnings: OnWarnings | None = None) -> str:
        """Create, not start; answers the id.

        `on_warnings`: called at most once, where the engine made it otherwise than it was asked to.

        Raises `NameTaken`, `ImageUnavailable` (passing: the engine does not hold it, pull again),
        `CommandUnusable` (neither image nor spec has a command), `EngineError` (refused).
        """
        ...

    async def find(self, name_or_id: str) -> Container | None:
        """Inspect one container, or None if there is none."""
        ...

    async def list(self, labels: Mapping[str, str]) -> list[ContainerSummary]:
        """Containers in any state that carry all these labels; an empty value asks for the key alone."""
        ...

    async def start(self, container_id: str) -> None:
        """Start it; nothing happens if it runs already.

        Raises `NoSuchContainer`, `CommandUnusable`, `MountRefused` (a volume's path is no place for one in
        this image), `GpuDriverMissing`, `EngineError`. After a failed start the container is still there, in
        state "created". A command that does not exist starts
        all the same: Docker's init runs it, fails, says so on stderr, and exits with 127 (126 when it
        is there but may not be executed).
        """
        ...

    async def was_started(self, labels: Mapping[str, str]) -> bool:
        """Whether a container with all these labels was started, also one that is gone. As far as the engine
        remembers: its last events, none from before it began. Raises `Unavailable`, `EngineError`."""
        ...

    async def began_anew(self, labels: Mapping[str, str]) -> bool:
        """Whether the engine has begun anew since it started a container with all these labels: it remembers
        no start of one. False also where it has had so many other events since that it may have forgotten
        that one, and nobody can tell. Raises `Unavailable`, `EngineError`."""
        ...

    async def was_removed(self, container_id: str) -> bool:
        """Whether the engine remembers that it removed the container, and so all that came after that. Raises
        `Unavailable`, `EngineError`."""
        ...

    async def stop(self, container_id: str, grace_s: int) -> None:
        """SIGTERM, and SIGKILL after `grace_s`; returns once it ended. Nothing happens if it already had.

        Raises `NoSuchContainer`.
        """
        ...

    async def remove(self, container_id: str, *, force: bool = False) -> None:
        """Remove it with its anonymous volumes; nothing happens if it is gone or going.

        Raises `EngineError` for a running container unless `force`, which kills it.
        """
        ...

    async def usage(self, container_id: str) -> Usage:
        """What the container takes of the engine's disk besides the mounts that it was given: what it changed
        of its image, and the volumes that the image asked for. Its log does not count.

        By allocated blocks where the engine's disk can be seen, else by the lengths of files.
        Raises `NoSuchContainer`, `OSError`.
        """
        ...

    def logs(
        self, container_id: str, *, since: str | None = None, tail: int | None = None, follow: bool = False
    ) -> AsyncGenerator[LogChunks, None]:
        """Output in order, as many chunks at a time as have come, never none: what the engine still holds,
        from `since` (a chunk's timestamp, inclusive), at most the last `tail` chunks.

        Without `follow` this is a faithful snapshot. With it, chunks keep coming until the container
        ends, but may be skipped, repeated and cut off at the end when output is faster than the reader:
        for a human who watches, never for keeping (`logs.keeper.LogKeeper` reads snapshots).
        Raises `NoSuchContainer` also of one that is half removed (`dead`), `Unavailable` when the connection
        breaks, `LogBroken` where the engine cannot read its log on; from its end (`tail`) it then may not
        read it at all.
        """
        ...

    async def was_told_to_stop(self, ended: Container) -> bool:
        """Whether the engine told the process of a container that has ended to end: for a client, somebody
        on the node, or as it was stopped or began itself. As far as it is known: not what happened before an
        engine's own end, unless `events` was being read. Raises `Unavailable`, `EngineError`.
        """
        ...

    def events(self) -> AsyncGenerator[Hint, None]:
        """What something happened to: hints, which may be lost or repeated.

        The first is `SUBSCRIBED`. It comes again when the stream had to be taken up anew. Raises
        `Unavailable` when the stream ends; subscribe again and list again.
        """
        ...

    async def ensure_network(self, name: str, labels: Mapping[str, str]) -> str:
        """The id of the bridge network of this name, made if need be. Where the firewall is ours to set,
        nobody outside of it can begin to talk to who is in it. Raises `EngineError`."""
        ...

    async def drop_network(self, name: str, labels: Mapping[str, str], *, broken: str) -> bool:
        """Take away the network of this name whose id begins with `broken`, as its link is gone; then
        `ensure_network` makes it anew. One that is gone already is fine.

        False when containers are connected to it: it is left to them. Raises `EngineError`.
        """
        ...

    async def spare_networks(self, labels: Mapping[str, str], used: AbstractSet[str]) -> None:
        """Take away networks with these labels whose names are not `used`, but for a few: an engine has
        addresses for some dozens. One that containers are connected to stays. Raises `EngineError`."""
        ...

    async def block_metadata(self) -> bool:
        """Keep containers from cloud metadata addresses, and from the networks of other projects that there
        are; False when this cannot be done from here."""
        ...

    async def close(self) -> None:
        """Let go of all connections; streams in flight end."""
        ...
