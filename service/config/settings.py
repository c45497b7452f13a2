"""Everything that can be set, what it is when it is not, and where things lie because of it."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal

import msgspec

from service.domain.flavors import DEFAULT_CATALOGUE, Catalogue
from service.domain.registries import RegistryUrl, read_registry_url
from service.outward.addresses import OWN, without_metadata
from service.vault import Secret

PREFIX = "JOBYARD_"
SSH_PORT = 8722
#: What a list is in a variable that is to hold nothing.
NONE = "none"
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")

_DAY_S = 86_400


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Secrets are of the type `Secret`, which has no repr."""

    state_dir: Path = Path(".jobyard")
    host: str = "127.0.0.1"
    port: int = 8790
    api_workers: int = 1
    #: Where clients reach the API, without a slash at its end; `up` fills it in when it is empty.
    public_url: str = ""
    #: Jobs' own HTTP services are at `<job id>[-<port>].job.<this>`, with a port if clients need one.
    job_domain: str = ""
    #: Where SSH listens, or that it does not. None: `SSH_PORT`, or a free one where `port` is free as well.
    ssh_port: int | Literal["off"] | None = None
    ssh_host: str | None = None
    #: `host[:port]` where clients reach it; `up` fills it in when it is empty and SSH is on.
    ssh_address: str = ""
    #: Of the JSON log; in capitals as well.
    log_level: str = "info"
    catalogue: Catalogue = DEFAULT_CATALOGUE
    currency: str = "EUR"

    #: Quota of a project that is created without one, and of `default`.
    default_quota_cpu: int = 48
    default_quota_gpu: int = 4

    #: What the node offers. None: what Docker says. GPUs are indices or UUIDs as `nvidia-smi -L` shows them.
    node: str = "local"
    node_cpus: int | None = None
    node_memory: int | None = None
    node_gpus: tuple[str, ...] = ()

    #: A QUEUED job that others have passed by for so long holds the place that it waits for.
    patience_s: float = 300.0
    stop_grace_s: int = 30
    lease_ttl_s: float = 10.0
    poll_s: float = 2.0
    pull_stall_s: float = 120.0
    pull_attempts: int = 3
    store_attempts: int = 5
    retry_s: float = 1.0
    data_concurrency: int = 16
    progress_s: float = 1.0
    volume_max_objects: int = 1_000_000
    #: How long the cache keeps what no job uses, and how much it holds. None: a fifth of its file system.
    cache_max_age_s: float = 7 * _DAY_S
    cache_max_bytes: int | None = None
    log_cap_bytes: int = 256 * 1024**2
    max_body_bytes: int = 1024**2
    #: Connections to one API process. Who comes beyond them is told so, and sent away.
    max_connections: int = 12_000
    #: What one token may ask of one API process: requests a second in the long run (0: as many as it likes),
    #: requests at once, and open streams.
    token_rate: float = 500.0
    token_requests: int = 256
    token_streams: int = 2000
    pids_limit: int = 4096
    #: At least so long between two looks at what a running job takes of the node's storage.
    storage_check_s: float = 5.0
    #: Between two looks at what the runs of a project have come to: a begun minute is billed whole.
    budget_look_s: float = 60.0

    #: A run begins only while so much of the node's disks and memory is free, looked at so often. None: the
    #: smaller of a twentieth and 2 GiB of each disk, 512 MiB of memory.
    disk_reserve_bytes: int | None = None
    memory_reserve_bytes: int | None = None
    room_look_s: float = 1.0

    #: A signed checkpoint is made when so many events are new, or any are and the last one is so old.
    checkpoint_events: int = 1000
    checkpoint_s: float = 60.0
    #: Where to: a directory, or `s3://bucket[/prefix]`, entered with the keys of `checkpoint_s3` (JSON, as
    #: JOBYARD_S3). Empty: in the state directory.
    checkpoint_to: str = ""
    checkpoint_s3: Secret = Secret("")
    #: 32 bytes in base64 that sign them. Empty: a key that is made in the state directory.
    checkpoint_key: Secret = Secret("")

    #: `always`: an image that came from a registry is asked for again, with the project's own credentials,
    #: before each run. `missing`: only one that the engine does not hold; for nodes without a network.
    image_pull: Literal["always", "missing"] = "always"
    #: The operator's registry, whose images `<host>/<project>/...` each project may use. Empty: none.
    shared_registry: str = ""
    shared_registry_username: str = ""
    shared_registry_password: Secret = Secret("")

    #: Networks (CIDR) that public git repositories and archives may come from although they are not public.
    fetch_allow: tuple[str, ...] = ()
    #: PEM file of certificate authorities that are trusted for these beside the system's.
    fetch_ca: Path | None = None

    #: Networks (CIDR) where data stores and registries may be although they are not public.
    store_allow: tuple[str, ...] = OWN

    #: Networks (CIDR) that webhooks may go to although they are not public, also with plain http.
    webhook_allow: tuple[str, ...] = ()
    #: PEM file of certificate authorities that are trusted for webhooks beside the system's.
    webhook_ca: Path | None = None

    @property
    def webhook_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(text) for text in self.webhook_allow)

    @property
    def store_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """Never with the addresses where clouds tell a machine its secrets."""
        return without_metadata(self.store_allow)

    @property
    def fetch_networks(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(text) for text in self.fetch_allow)

    @property
    def shared(self) -> RegistryUrl | None:
        """The shared registry, as `shared_registry` names it."""
        if not self.shared_registry:
            return None
        return read_registry_url(f"{PREFIX}SHARED_REGISTRY", self.shared_registry)

    @property
    def ssh_listens(self) -> tuple[str, int] | None:
        """Address and port that SSH is to listen on (0: a free one), or None when it is off."""
        if self.ssh_port == "off":
            return None
        otherwise = SSH_PORT if self.port else 0
        return self.ssh_host or self.host, otherwise if self.ssh_port is None else self.ssh_port

    @property
    def ssh_key_file(self) -> Path:
        return self.state_dir / "ssh_host_ed25519_key"

    @property
    def volumes_dir(self) -> Path:
        return self.state_dir / "volumes"

    @property
    def user_volumes_dir(self) -> Path:
        return self.state_dir / "user-volumes"

    @property
    def cache_dir(self) -> Path:
        return self.state_dir / "cache"

    @property
    def logs_dir(self) -> Path:
        return self.state_dir / "logs"

    @property
    def checkpoints(self) -> str:
        """Where checkpoints are kept: a directory or an `s3://` URL."""
        return self.checkpoint_to or str(self.state_dir / "checkpoints")

    @property
    def checkpoint_key_file(self) -> Path:
        return self.state_dir / "checkpoint.key"

    @property
    def master_key_file(self) -> Path:
        return self.state_dir / "master.key"
