"""From what a client asked to a specification that can run, or an `Invalid` that names the field."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import UNSET

from service.domain.asked import EnvVarAsked, JobSpecAsked, ResourcesAsked
from service.domain.display_names import PLAIN, is_plain
from service.domain.flavors import KINDS, Catalogue, Flavor, Kind
from service.domain.images import parse_image
from service.domain.labels import complete
from service.domain.spec import (
    DEFAULT_HTTP_PORT,
    DEFAULT_TIMEOUT_S,
    MAX_TIMEOUT_S,
    MIN_RESTART_TIMEOUT_S,
    EnvVar,
    JobSpec,
    Resources,
    Sealed,
)
from service.domain.ssh_keys import read_keys
from service.domain.volumes import read_volumes
from service.errors import Invalid

_NAME = re.compile(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
_ENV_NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_.-]{0,254}\Z")

MAX_ENV_VARS = 512
MAX_ENV_BYTES = 128 * 1024
MAX_COMMAND_ITEMS = 1024
MAX_COMMAND_BYTES = 128 * 1024

Seal = Callable[[str], Sealed]


def read_spec(asked: JobSpecAsked, *, job_id: str, catalogue: Catalogue, seal: Seal) -> JobSpec:
    """Check a specification and complete it with the defaults.

    `seal` turns a secret into its ciphertext; it is called only after everything has been checked.
    Raises `Invalid` for the first thing that is wrong.
    """
    image = parse_image(asked.image)
    if image is None:
        raise Invalid(
            "image",
            asked.image,
            "an image reference is [host[:port]/]name[:tag][@sha256:digest] in lower case",
        )
    if asked.deletion_requested:
        raise Invalid("deletionRequested", True, "a job that is to be deleted cannot be submitted")
    env = _checked_env(asked.env_vars or [])
    return JobSpec(
        image=str(image),
        name=_name(asked.name, job_id),
        command=_command(asked.command or []),
        volumes=read_volumes(asked.volumes or []),
        resources=read_resources(asked.resources or ResourcesAsked(), catalogue),
        labels=complete(asked.labels or {}, job_id),
        timeout=_timeout(asked),
        timeout_auto_restart=bool(asked.timeout_auto_restart),
        default_http_port=_within("defaultHttpPort", asked.default_http_port, 1, 65535) or DEFAULT_HTTP_PORT,
        unsecure_http=bool(asked.unsecure_http),
        grpc_port=_within("grpcPort", asked.grpc_port, 1, 65535),
        read_user=_text("readUser", asked.read_user),
        shutdown=_shutdown(asked.shutdown),
        ssh_public_keys=read_keys(asked.ssh_public_keys) if asked.ssh_public_keys else UNSET,
        env=tuple(EnvVar(var.name, seal(var.value)) for var in env),
    )


def read_resources(asked: ResourcesAsked, catalogue: Catalogue) -> Resources:
    """Which flavor and how many units: a GPU wins over a CPU, and nothing at all means 1 GPU."""
    for field, value in (("cpu", asked.cpu), ("gpu", asked.gpu)):
        if value is not None and value < 0:
            raise Invalid(f"resources.{field}", value, "it must be a whole number of units, 0 or more")
    kind, units = _kind_and_units(asked, catalogue)
    flavor = _flavor(asked, kind, catalogue)
    if units > flavor.max_units:
        raise Invalid(
            f"resources.{kind}", units, f"a job may have 1 to {flavor.max_units} units of flavor {flavor.id}"
        )
    resources = Resources(
        kind=kind,
        units=units,
        flavor=flavor.id,
        cpus=flavor.cpus * units,
        memory=flavor.memory * units,
        ephemeral_storage=flavor.ephemeral_storage * units,
        public_network=flavor.public_network * units,
        private_network=flavor.private_network * units,
        gpu_brand=flavor.gpu_brand,
        gpu_model=flavor.gpu_model,
        gpu_memory=flavor.gpu_memory,
    )
    _refuse_what_follows_from_units(asked, resources)
    return resources


def _kind_and_units(asked: ResourcesAsked, catalogue: Catalogue) -> tuple[Kind, int]:
    if asked.gpu:
        return "gpu", asked.gpu
    if asked.cpu:
        return "cpu", asked.cpu
    if asked.cpu == 0 and asked.gpu == 0:
        raise Invalid("resources.cpu", 0, "a job needs at least 1 CPU or 1 GPU")
    if asked.cpu == 0:
        raise Invalid("resources.cpu", 0, "a CPU job has at least 1 CPU")
    if asked.gpu == 0:
        raise Invalid("resources.gpu", 0, "with no GPU, say how many CPUs in resources.cpu")
    named = catalogue.find(asked.flavor) if asked.flavor else None
    return (named.kind if named else "gpu"), 1


def _offered(catalogue: Catalogue) -> str:
    """What a job can ask for, to one that asked for a kind that is not there, or for nothing: 1 GPU."""
    kinds = [kind for kind in KINDS if catalogue.ids(kind)]
    return (
        f"only {' and '.join(kinds)} flavors are offered here ({', '.join(catalogue.ids())}): "
        f"say how many units in {' or '.join(f'resources.{kind}' for kind in kinds)}"
    )


def _flavor(resources: ResourcesAsked, kind: Kind, catalogue: Catalogue) -> Flavor:
    asked = resources.flavor
    if asked is None:
        flavor = catalogue.default(kind)
        if flavor is None:
            units = resources.gpu if kind == "gpu" else resources.cpu
            raise Invalid(f"resources.{kind}", units, _offered(catalogue))
        return flavor
    flavor = catalogue.find(asked)
    if flavor is None:
        raise Invalid("resources.flavor", asked, f"the flavors are {', '.join(catalogue.ids())}")
    if flavor.kind != kind:
        raise Invalid(
            "resources.flavor",
            asked,
            f"it is a {flavor.kind} flavor and the job asks for {kind}; "
            f"the {kind} flavors are {', '.join(catalogue.ids(kind)) or 'none'}",
        )
    return flavor


def _refuse_what_follows_from_units(asked: ResourcesAsked, resources: Resources) -> None:
    """Memory and its like cannot be asked for; a specification that was read back repeats what we said."""
    for field, wire in (
        ("memory", "memory"),
        ("ephemeral_storage", "ephemeralStorage"),
        ("public_network", "publicNetwork"),
        ("private_network", "privateNetwork"),
        ("gpu_brand", "gpuBrand"),
        ("gpu_model", "gpuModel"),
        ("gpu_memory", "gpuMemory"),
    ):
        given, ours = getattr(asked, field), getattr(resources, field)
        if given is not None and given != ours:
            raise Invalid(
                f"resources.{wire}",
                given,
                f"it follows from the units and cannot be asked for (here it is {ours}); leave it out",
            )


def _checked_env(env_vars: list[EnvVarAsked]) -> list[EnvVarAsked]:
    if len(env_vars) > MAX_ENV_VARS:
        raise Invalid("envVars", f"{len(env_vars)} variables", f"at most {MAX_ENV_VARS}")
    seen: set[str] = set()
    size = 0
    for index, var in enumerate(env_vars):
        if not _ENV_NAME.match(var.name):
            raise Invalid(
                f"envVars[{index}].name",
                var.name,
                "a letter or _, then letters, digits, _, . or -, at most 255",
            )
        if var.name in seen:
            raise Invalid(f"envVars[{index}].name", var.name, "each name may stand once")
        if "\0" in var.value:
            raise Invalid(f"envVars[{index}].value", "a value with a NUL byte", "text without NUL bytes")
        seen.add(var.name)
        size += len(var.name.encode()) + len(var.value.encode())
    if size > MAX_ENV_BYTES:
        raise Invalid("envVars", f"{size} bytes", f"at most {MAX_ENV_BYTES} bytes together")
    return env_vars


def _command(command: list[str]) -> tuple[str, ...]:
    if len(command) > MAX_COMMAND_ITEMS:
        raise Invalid("command", f"{len(command)} items", f"at most {MAX_COMMAND_ITEMS}")
    for index, word in enumerate(command):
        if "\0" in word:
            raise Invalid(f"command[{index}]", word, "text without NUL bytes")
    if command and not command[0]:
        raise Invalid("command[0]", "", "the program to run")
    size = sum(len(word.encode()) for word in command)
    if size > MAX_COMMAND_BYTES:
        raise Invalid("command", f"{size} bytes", f"at most {MAX_COMMAND_BYTES} bytes")
    return tuple(command)


def _name(name: str | None, job_id: str) -> str:
    if not name:
        return f"job-{job_id[:8]}"
    if not _NAME.match(name):
        raise Invalid("name", name, "letters, digits, '-', '_' and '.', at most 63, not at either end")
    return name


def _timeout(asked: JobSpecAsked) -> int:
    given = DEFAULT_TIMEOUT_S if asked.timeout is None else asked.timeout
    check_timeout(given, restarts=bool(asked.timeout_auto_restart))
    return given


def check_timeout(given: int, *, restarts: bool) -> None:
    """Seconds of RUNNING. Each run bills a begun minute whole: shorter restarts would multiply the bill.

    Raises `Invalid`.
    """
    _within("timeout", given, 1, MAX_TIMEOUT_S, "seconds")
    if restarts and given < MIN_RESTART_TIMEOUT_S:
        allowed = f"with timeoutAutoRestart it must be {MIN_RESTART_TIMEOUT_S} to {MAX_TIMEOUT_S} seconds"
        raise Invalid("timeout", given, f"{allowed}, as each run is billed at least a minute")


def _within(field: str, value: int | None, low: int, high: int, unit: str = "") -> int | None:
    if value is not None and not low <= value <= high:
        raise Invalid(field, value, f"it must be {low} to {high}" + (f" {unit}" if unit else ""))
    return value


def _text(field: str, value: str | None, longest: int = 255) -> str | None:
    if value is not None and (len(value) > longest or not is_plain(value)):
        raise Invalid(field, value, f"plain text of at most {longest} characters, {PLAIN}")
    return value


def _shutdown(value: str | None) -> str | None:
    if value not in (None, "Normal", "Fast"):
        raise Invalid("shutdown", value, "Normal or Fast")
    return value
