"""A container of the fake engine, and the script that it plays."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from service.errors import JobyardError
from service.supervisor.engine.protocol import Container, ContainerSpec, LogChunk, State
from service.supervisor.storage.usage import Usage


@dataclass(frozen=True, slots=True)
class Script:
    """What a container does once started.

    `ticks` None runs until stopped or told to `exit`; 0 ends within the start. `sigterm_code` is the
    exit code a stop leads to, None for a program that ignores SIGTERM and is killed (137). `writes_bytes`
    is what it takes of the disk from its start on. `warnings` are said when it is created.
    """

    ticks: int | None = None
    exit_code: int = 0
    oom_killed: bool = False
    output: tuple[tuple[Literal[1, 2], bytes], ...] = ()
    sigterm_code: int | None = 143
    start_error: JobyardError | None = None
    writes_bytes: int = 0
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class FakeContainer:
    """A container of the fake engine; `script` says what becomes of it."""

    id: str
    spec: ContainerSpec
    labels: dict[str, str]
    script: Script
    image_id: str
    ip: str
    state: State = "created"
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    ticks_left: int | None = None
    told_to_stop: bool = False
    usage: Usage = field(default_factory=lambda: Usage(0))
    log: list[LogChunk] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


def inspected(fake: FakeContainer) -> Container:
    """What `Engine.find` answers of it."""
    running = fake.state == "running"
    return Container(
        id=fake.id,
        name=fake.spec.name,
        labels=dict(fake.labels),
        state=fake.state,
        exit_code=fake.exit_code,
        oom_killed=fake.oom_killed,
        error=fake.error,
        started_at=fake.started_at,
        finished_at=fake.finished_at,
        image_id=fake.image_id,
        ip=fake.ip if running else None,
    )
