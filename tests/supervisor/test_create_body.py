"""The body of a create: what is always in it, what never is, and what counts for adoption."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.errors import EngineError
from service.supervisor.engine.create import create_body, spec_hash
from service.supervisor.engine.protocol import LABEL_SPEC, ContainerSpec, Mount

SPEC = ContainerSpec(
    name="job-1",
    image="an/image:1",
    command=("run", "it"),
    env=(("TOKEN", "s3cret"),),
    labels={"jobyard.job": "1", "jobyard.epoch": "7"},
    mounts=(Mount("/data/v1", "/workspace", read_only=True),),
    network="project-net",
)


def test_the_whole_body() -> None:
    assert create_body(SPEC) == {
        "Image": "an/image:1",
        "User": "42420:42420",
        "Env": ["TOKEN=s3cret", "NVIDIA_VISIBLE_DEVICES=void"],
        "Healthcheck": {"Test": ["NONE"]},
        "Entrypoint": [""],
        "Cmd": ["run", "it"],
        "StopSignal": "SIGTERM",
        "StopTimeout": 30,
        "Labels": {"jobyard.job": "1", "jobyard.epoch": "7", LABEL_SPEC: spec_hash(SPEC)},
        "HostConfig": {
            "NanoCpus": 1_000_000_000,
            "Memory": 4 * 1024**3,
            "MemorySwap": 4 * 1024**3,
            "PidsLimit": 4096,
            "ShmSize": 64 * 1024**2,
            "Ulimits": [
                {"Name": "nofile", "Soft": 16384, "Hard": 16384},
                {"Name": "core", "Soft": 0, "Hard": 0},
            ],
            "DeviceRequests": [],
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": "/data/v1",
                    "Target": "/workspace",
                    "ReadOnly": True,
                    "BindOptions": {"Propagation": "rprivate"},
                }
            ],
            "NetworkMode": "project-net",
            "IpcMode": "private",
            "CgroupnsMode": "private",
            "Privileged": False,
            "PublishAllPorts": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "Init": True,
            "AutoRemove": False,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "LogConfig": {
                "Type": "local",
                "Config": {"max-size": "16777216", "max-file": "3", "compress": "false"},
            },
        },
    }


def test_no_command_leaves_the_image_its_own() -> None:
    assert not {"Entrypoint", "Cmd"} & create_body(replace(SPEC, command=None)).keys()


@pytest.mark.parametrize(("gpus", "env"), [((), ["A=1", "NVIDIA_VISIBLE_DEVICES=void"]), (("0",), ["A=1"])])
def test_no_job_names_gpus_itself(gpus: tuple[str, ...], env: list[str]) -> None:
    """With a request for GPUs the engine says which; without one, the image or the job might: all of them."""
    asked = replace(SPEC, gpus=gpus, env=(("NVIDIA_VISIBLE_DEVICES", "all"), ("A", "1")))
    assert create_body(asked)["Env"] == env


def test_the_hash_follows_what_runs_and_not_who_asked() -> None:
    same: list[dict[str, Any]] = [{"name": "job-2"}, {"labels": {"jobyard.epoch": "8"}}]
    other: list[dict[str, Any]] = [
        {"env": (("TOKEN", "other"),)},
        {"image": "an/image:2"},
        {"command": None},
        {"gpus": ("0",)},
        {"memory_bytes": 1},
        {"mounts": ()},
        {"network": "else"},
    ]
    assert {spec_hash(replace(SPEC, **change)) for change in same} == {spec_hash(SPEC)}
    assert len({spec_hash(replace(SPEC, **change)) for change in other} | {spec_hash(SPEC)}) == len(other) + 1


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(SPEC)


@pytest.mark.parametrize(
    "change",
    [
        {"mounts": (Mount("/var/run/docker.sock", "/x"),)},
        {"mounts": (Mount("/x", "/var/run/docker.sock"),)},
        {"mounts": (Mount("/run", "/x"),)},
        {"mounts": (Mount("/", "/x"),)},
        {"mounts": (Mount("/x", "/"),)},
        {"mounts": (Mount("relative", "/x"),)},
        {"mounts": (Mount("/a/../run", "/x"),)},
        {"network": "host"},
        {"network": "container:abc"},
        {"network": ""},
        {"log_max_file": 2},
        {"command": ()},
        {"env": (("A=B", "c"),)},
        {"env": (("", "c"),)},
        {"env": (("A", "c\0"),)},
        {"labels": {LABEL_SPEC: "forged"}},
    ],
)
def test_what_must_never_reach_an_engine(change: dict[str, Any]) -> None:
    with pytest.raises(EngineError):
        create_body(replace(SPEC, **change))
