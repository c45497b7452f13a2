"""What somebody may have meant, by a name that is none; and which variables are ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service.config import Settings, unknown_variables
from service.domain.events import BODIES
from service.domain.nearest import nearest
from service.supervisor.engine.protocol import EngineInfo
from service.supervisor.supervisor import beyond

ROOT = Path(__file__).parents[2]
FIELDS = ("image", "command", "volumes", "envVars", "resources", "cpu", "gpu")


@pytest.mark.parametrize(
    ("given", "known", "meant"),
    [
        ("commnad", FIELDS, "command"),
        ("url", ("uri", "volumes"), "uri"),
        ("ENVVARS", FIELDS, "envVars"),
        ("bogus", FIELDS, None),
        ("", FIELDS, None),
        ("RunStrated", BODIES, "RunStarted"),
        ("nope", BODIES, None),
        ("x" * 10_000, FIELDS, None),
        ("image", (), None),
    ],
)
def test_only_what_is_really_near_is_meant(given: str, known: tuple[str, ...], meant: str | None) -> None:
    assert nearest(given, known) == meant


def test_every_variable_that_the_repository_reads_is_known() -> None:
    read: set[str] = set()
    for folder in ("service", "tests"):
        for file in (ROOT / folder).rglob("*.py"):
            read |= set(re.findall(r"[\"'](JOBYARD_[A-Z0-9_]*[A-Z0-9])[\"']", file.read_text()))
    assert {"JOBYARD_MASTER_KEY", "JOBYARD_WORKER", "JOBYARD_URL", "JOBYARD_TEST_S3"} <= read
    made_up = {"JOBYARD_NODE_CPU", "JOBYARD_FRIDGE"}
    assert unknown_variables(read - made_up) == []
    assert len(unknown_variables(made_up | {"DATABASE_URL", "PATH", "_JOBYARD_COMPLETE"})) == 2


def test_what_is_on_offer_and_not_there_is_told() -> None:
    there = EngineInfo("e", "docker", 2, 4 * 2**30, gpu_driver=False, version="20.10")
    assert beyond(there, Settings()) == beyond(there, Settings(node_cpus=2, node_memory=2**30)) == []
    cpus, memory = beyond(there, Settings(node_cpus=8, node_memory=5 * 2**30))
    assert cpus.startswith("JOBYARD_NODE_CPUS is 8, more than the 2 that the Docker Engine reports")
    assert memory.startswith(f"JOBYARD_NODE_MEMORY is {5 * 2**30}, more than the {4 * 2**30} that")
