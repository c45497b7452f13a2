"""What a real engine does with a bound on storage, and what it says where its disk cannot be seen."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.errors import ImageUnavailable
from service.supervisor.engine.create import create_body, spec_hash
from service.supervisor.engine.docker import DockerEngine
from service.supervisor.engine.sized import Sized
from service.supervisor.engine.usage import container_usage
from service.supervisor.engine.wire import Answer, Wire
from tests.images import KEEPS_TMP, import_keeps_tmp
from tests.supervisor.lab import DONE, WRITES, Lab

MIB = 1024**2


class Recorded(Wire):
    """A connection that remembers the bodies it sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Any] = []

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        timeout_s: float = 30.0,
    ) -> Answer:
        self.sent.append(body)
        return await super().call(method, path, params=params, body=body, timeout_s=timeout_s)


@pytest.fixture
async def wire() -> AsyncIterator[Recorded]:
    made = Recorded()
    yield made
    await made.close()


def bounds(wire: Recorded) -> list[str | None]:
    """Of each create that was asked for."""
    return [body["HostConfig"].get("StorageOpt", {}).get("size") for body in wire.sent]


async def test_an_engine_that_cannot_bound_storage_is_asked_once(lab: Lab, wire: Recorded) -> None:
    sized = Sized(wire)
    with capture_logs() as lines:
        for _ in range(2):
            spec = lab.spec(DONE)
            answer = await sized.create(spec.name, create_body(spec), 64 * MIB, 60)
            assert answer.status == 201
    if sized.refusal is None:  # a driver that can
        assert bounds(wire) == [str(64 * MIB)] * 2
        return
    assert "storage" in sized.refusal
    assert bounds(wire) == [str(64 * MIB), None, None]
    assert [line["engine_says"] for line in lines] == [sized.refusal]


async def test_what_is_refused_for_another_reason_says_nothing_of_storage(lab: Lab, wire: Recorded) -> None:
    sized = Sized(wire)
    spec = lab.spec(DONE)
    body = create_body(spec)
    body["HostConfig"]["Memory"] = 1  # far too little: refused with and without a bound
    assert (await sized.create(spec.name, body, 64 * MIB, 60)).status == 400
    assert sized.refusal is None
    missing = lab.spec(DONE, image="jobyard-test/no-such-image:1", storage_bytes=64 * MIB)
    with pytest.raises(ImageUnavailable):
        await lab.engine.create(missing)


async def test_without_a_bound_none_is_asked_for(lab: Lab, wire: Recorded) -> None:
    spec = lab.spec(DONE)
    await Sized(wire).create(spec.name, create_body(spec), None, 60)
    assert bounds(wire) == [None]


def test_the_bound_is_no_part_of_what_a_container_is(lab: Lab) -> None:
    spec = lab.spec(DONE)
    bounded = replace(spec, storage_bytes=64 * MIB)
    assert spec_hash(bounded) == spec_hash(spec)
    assert "StorageOpt" not in json.dumps(create_body(bounded))


async def test_without_root_the_engines_own_figure_is_taken(
    lab: Lab, docker: DockerEngine, wire: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows nothing of a volume that the image asked for, and that is said."""
    import_keeps_tmp()
    plain = await lab.started(WRITES)
    keeps = await lab.started(WRITES, image=KEEPS_TMP)
    for container_id in (plain, keeps):
        await lab.printed(container_id, b"ready")
    seen = await docker.usage(keeps)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    told = await container_usage(wire, plain, 60)
    assert MIB <= told.bytes < 2 * MIB
    assert told.missed == ()
    told = await container_usage(wire, keeps, 60)
    assert told.bytes < MIB
    assert told.missed == ("the volume at /tmp",)
    assert MIB <= seen.bytes < 2 * MIB, "root sees it"
