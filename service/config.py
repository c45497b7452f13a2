"""One validated configuration object, read once from the environment and passed down.

Every setting is `JOBYARD_<NAME>` (and `DATABASE_URL`, `DOCKER_HOST`, which others know too). Sizes are
bytes, times seconds; the unit stands last in the name.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal

import msgspec

from service.domain.flavors import DEFAULT_CATALOGUE, Catalogue
from service.domain.job_names import is_domain
from service.domain.registries import RegistryUrl, check_username, read_registry_url
from service.errors import Invalid, Misconfigured
from service.vault import Secret

PREFIX = "JOBYARD_"
_ADDRESS = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[1-9][0-9]{0,4})?"
)
SSH_PORT = 8722

_DAY_S = 86_400
_MIB = 1024**2

#: The least and the most of every number that can be set.
BOUNDS: dict[str, tuple[float, float]] = {
    "port": (0, 65_535),
    "api_workers": (1, 64),
    "default_quota_cpu": (0, 1_000_000),
    "default_quota_gpu": (0, 1_000_000),
    "node_cpus": (1, 4096),
    "node_memory": (1, 1024**5),
    "patience_s": (0, 365 * _DAY_S),
    "stop_grace_s": (1, _DAY_S),
    "lease_ttl_s": (0.5, _DAY_S),
    "poll_s": (0.01, 3600),
    "pull_stall_s": (1, _DAY_S),
    "pull_attempts": (1, 1000),
    "store_attempts": (1, 1000),
    "retry_s": (0.01, 3600),
    "data_concurrency": (1, 1024),
    "progress_s": (0.01, 3600),
    "volume_max_objects": (1, 100_000_000),
    "cache_max_age_s": (0, 10 * 365 * _DAY_S),
    "cache_max_bytes": (0, 1024**6),
    "log_cap_bytes": (_MIB, 1024**4),
    "max_body_bytes": (1024, 1024**3),
    "pids_limit": (16, 4_194_304),
    "storage_check_s": (0.01, 3600),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Secrets are of the type `Secret`, which has no repr."""

    state_dir: Path = Path(".jobyard")
    host: str = "127.0.0.1"
    port: int = 8790
    api_workers: int = 1
    #: Where clients reach the API; `up` fills it in when it is empty.
    public_url: str = ""
    #: Jobs' own HTTP services are at `<job id>[-<port>].job.<this>`, with a port if clients need one.
    job_domain: str = ""
    #: Where SSH listens, or that it does not. None: `SSH_PORT`, or a free one where `port` is free as well.
    ssh_port: int | Literal["off"] | None = None
    ssh_host: str | None = None
    #: `host[:port]` where clients reach it; `up` fills it in when it is empty and SSH is on.
    ssh_address: str = ""
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
    pids_limit: int = 4096
    #: At least so long between two looks at what a running job takes of the node's storage.
    storage_check_s: float = 5.0

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
    def master_key_file(self) -> Path:
        return self.state_dir / "master.key"


def read_settings(environment: Mapping[str, str], **overrides: Any) -> Settings:
    """Settings from the environment; `overrides` (from the command line) win, None leaves them alone.

    Raises `Misconfigured` that names the variable.
    """
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        text = environment.get(PREFIX + field.name.upper())
        if text is None:
            continue
        try:
            given[field.name] = (
                _catalogue(Path(text)) if field.name == "catalogue" else _value(text, field.type)
            )
        except (msgspec.MsgspecError, ValueError) as error:
            raise Misconfigured(f"{PREFIX}{field.name.upper()}: {text!r} is not allowed; {error}") from error
    given |= {name: value for name, value in overrides.items() if value is not None}
    given.setdefault("state_dir", Path(".jobyard"))
    settings = Settings(**given)
    settings = msgspec.structs.replace(settings, state_dir=Path(settings.state_dir).absolute())
    where = f"{PREFIX}CATALOGUE: {environment.get(f'{PREFIX}CATALOGUE', 'as it was given')}"
    problems = [f"{where}: {problem}" for problem in settings.catalogue.problems()]
    problems += _problems(settings)
    if problems:
        raise Misconfigured("; ".join(problems))
    return settings


def _value(text: str, kind: Any) -> Any:
    if kind == tuple[str, ...]:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return msgspec.convert(text, kind, strict=False, dec_hook=lambda to, value: to(value))


def _catalogue(path: Path) -> Catalogue:
    """A catalogue file: YAML or JSON, `flavors:`, `images:` and `presets:` with their fields in camelCase."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{PREFIX}CATALOGUE: {path} cannot be read: {error.strerror}") from error
    return msgspec.yaml.decode(text, type=Catalogue, strict=False)


def _problems(settings: Settings) -> list[str]:
    found = []
    for name, (low, high) in BOUNDS.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:  # so that nan is refused too
            found.append(f"{PREFIX}{name.upper()}: {value} is not {low} to {high}")
    if len(set(settings.node_gpus)) != len(settings.node_gpus):
        found.append(f"{PREFIX}NODE_GPUS: each GPU may stand once")
    if settings.job_domain and not is_domain(settings.job_domain):
        found.append(
            f"{PREFIX}JOB_DOMAIN: {settings.job_domain!r} is not a domain such as example.org[:8790]"
        )
    if isinstance(settings.ssh_port, int) and not 0 <= settings.ssh_port <= 65_535:
        found.append(f"{PREFIX}SSH_PORT: {settings.ssh_port} is not 0 to 65535; `off` switches SSH off")
    if settings.ssh_address and _ADDRESS.fullmatch(settings.ssh_address) is None:
        found.append(
            f"{PREFIX}SSH_ADDRESS: {settings.ssh_address!r} is not a host such as yard.example.org[:22]"
        )
    return found + _shared_problems(settings) + _fetch_problems(settings)


def _fetch_problems(settings: Settings) -> list[str]:
    found = []
    try:
        _ = settings.fetch_networks
    except ValueError as error:
        found.append(f"{PREFIX}FETCH_ALLOW: {error}; write networks such as 10.1.0.0/16,fd00::/8")
    try:
        if settings.fetch_ca is not None:
            ssl.create_default_context(cafile=settings.fetch_ca)
    except (OSError, ssl.SSLError) as error:
        found.append(f"{PREFIX}FETCH_CA: {settings.fetch_ca} holds no readable PEM certificates ({error})")
    return found


def _shared_problems(settings: Settings) -> list[str]:
    name = f"{PREFIX}SHARED_REGISTRY"
    try:
        shared = settings.shared
        if settings.shared_registry_username:
            check_username(settings.shared_registry_username)
    except Invalid as error:
        return [error.message if error.field == name else f"{name}_USERNAME: {error.allowed}"]
    given = (bool(settings.shared_registry_username), bool(settings.shared_registry_password))
    if shared is None and any(given):
        return [f"{name}: it must be set as {name}_USERNAME or {name}_PASSWORD is"]
    if any(given) and not all(given):
        return [f"{name}_USERNAME and {name}_PASSWORD: set both or none"]
    return []
