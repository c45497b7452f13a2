"""What the engine is asked to create for a run: the body of the request, hardened, and its hash. Pure."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable
from typing import Any

from service.domain.shown import shown
from service.errors import EngineError
from service.supervisor.engine.protocol import LABEL_SPEC, ContainerSpec, Mount

#: Which GPUs NVIDIA's container runtime hands out. Source: NVIDIA Container Toolkit, "Specialized
#: Configurations".
_VISIBLE_GPUS = "NVIDIA_VISIBLE_DEVICES"
#: So many lines are kept of what an engine says of a container that it made; `shown` bounds each of them.
MOST_WARNINGS = 8


def create_body(spec: ContainerSpec) -> dict[str, Any]:
    """The exact JSON body of the create request (Docker Engine API 1.41).

    Raises `EngineError` for a spec that must never reach an engine.
    """
    body = _body(spec)
    body["Labels"] = {**spec.labels, LABEL_SPEC: _hash(body)}
    return body | _denied(spec)


def spec_hash(spec: ContainerSpec) -> str:
    """SHA-256 (hex) of what will run: the body without name and labels, environment included.

    Labels say who asked (the epoch changes with the supervisor), so they cannot count.
    """
    return _hash(_body(spec))


def warnings_of(answer: Any) -> tuple[str, ...]:
    """What the engine says of a container that it made otherwise than it was asked to, such as without a
    limit that it cannot keep: as much of it as a line of the log takes."""
    said = (answer.get("Warnings") if isinstance(answer, dict) else None) or ()
    found = tuple(shown(str(each)) for each in said[:MOST_WARNINGS])
    left = len(said) - len(found)
    return (*found, f"and {left} more") if left else found


def _denied(spec: ContainerSpec) -> dict[str, Any]:
    """What an image must not bring along. No part of the hash, which earlier versions took without it.

    A health check is run by the engine, outside of what the job may take, as often as the image says. Where
    the engine's own runtime is NVIDIA's, the variable alone hands out every GPU; with a request for some of
    them the engine sets it itself.
    """
    env = [(name, value) for name, value in spec.env if name != _VISIBLE_GPUS]
    if not spec.gpus:
        env.append((_VISIBLE_GPUS, "void"))
    return {"Healthcheck": {"Test": ["NONE"]}, "Env": _env(env)}


def _env(env: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}={value}" for name, value in env]


def _hash(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _body(spec: ContainerSpec) -> dict[str, Any]:
    _check(spec)
    body: dict[str, Any] = {
        "Image": spec.image,
        "User": spec.user,
        "Env": _env(spec.env),
        "StopSignal": "SIGTERM",
        "StopTimeout": spec.stop_grace_s,
        "HostConfig": _host_config(spec),
    }
    if spec.command is not None:
        body["Entrypoint"] = [""]  # an empty word resets the image's entrypoint; [] would keep its default
        body["Cmd"] = list(spec.command)
    return body


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    return {
        "NanoCpus": spec.nano_cpus,
        "Memory": spec.memory_bytes,
        "MemorySwap": spec.memory_bytes,  # equal to Memory: no swap at all
        "PidsLimit": spec.pids_limit,
        "ShmSize": spec.shm_bytes,
        "Ulimits": [
            {"Name": "nofile", "Soft": spec.nofile, "Hard": spec.nofile},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "DeviceRequests": _device_requests(spec.gpus),
        "Mounts": [_mount(mount) for mount in spec.mounts],
        "NetworkMode": spec.network,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Privileged": False,
        "PublishAllPorts": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],  # and nothing about seccomp: the default profile stays
        "Init": True,
        "AutoRemove": False,  # the exit is recorded first
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "LogConfig": {
            "Type": "local",
            "Config": {
                "max-size": str(spec.log_max_size_bytes),
                "max-file": str(spec.log_max_file),
                "compress": "false",  # every read of a compressed rotated file unpacks it first
            },
        },
    }


def _device_requests(gpus: tuple[str, ...]) -> list[dict[str, Any]]:
    if not gpus:
        return []
    return [{"Driver": "nvidia", "DeviceIDs": list(gpus), "Capabilities": [["gpu"]]}]


def _mount(mount: Mount) -> dict[str, Any]:
    # The Mounts form, unlike Binds, refuses a source that does not exist instead of making it as root.
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


_ENGINE_SOCKETS = ("docker.sock", "containerd.sock", "podman.sock")
_HOLD_ENGINE_SOCKETS = (
    "/",
    "/run",
    "/var",
    "/var/run",
    "/run/docker",
    "/run/containerd",
    "/proc",
    "/sys",
    "/dev",
)


def _check(spec: ContainerSpec) -> None:
    if spec.log_max_file < 3:
        raise EngineError("log_max_file must be at least 3: following a log hangs on rotation below that")
    if spec.network in ("host", "") or spec.network.startswith("container:"):
        raise EngineError("a job needs a network of its own project, never the host's or a container's")
    if spec.command is not None and not spec.command:
        raise EngineError("an empty command cannot run; None means the image's own")
    if any(not name or "=" in name or "\0" in name + value for name, value in spec.env):
        raise EngineError("an environment variable's name is empty or holds '=', or NUL was found")
    if LABEL_SPEC in spec.labels:
        raise EngineError(f"the label {LABEL_SPEC} is computed, not given")
    for mount in spec.mounts:
        _check_mount(mount)


def _check_mount(mount: Mount) -> None:
    for path in (mount.source, mount.target):
        if not path.startswith("/") or posixpath.normpath(path) != path or "\0" in path:
            raise EngineError(f"mount path must be absolute and plain: {path!r}")
        if posixpath.basename(path) in _ENGINE_SOCKETS:
            raise EngineError("an engine's socket is never mounted into a job")
    if mount.source in _HOLD_ENGINE_SOCKETS or mount.target == "/":
        raise EngineError(f"{mount.source} is never mounted into a job")
