"""A job that tries everything a job may not: none of it works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from service.domain.states import State
from tests.api.yard import opened
from tests.chaos.hostile.place import Counts, Place
from tests.chaos.hostile.probes import ATTEMPTS
from tests.supervisor.world import volume

PROBES = Path(__file__).with_name("probes.py").read_text()
#: The one that must win, as the same server is asked at an address that is nobody's metadata.
CONTROL = "address beside it"


async def won(place: Place, api_port: int) -> set[str]:
    """The attempts of a job that worked."""
    job = await place.submit(
        PROBES,
        cpu=2,
        variables={
            "METADATA": place.beyond.metadata,
            "CONTROL": place.beyond.control,
            "NEIGHBOUR": place.neighbour,
            "API_PORT": api_port,
            "STORE_PORT": port_of(place.access.endpoint),
        },
        volumes=[volume("/ro", "RO")],
    )
    ended = await place.world.end(job)
    log = await place.world.log(job)
    assert ended.state is State.DONE, log
    report: dict[str, dict[str, Any]] = json.loads(log.splitlines()[-1])
    assert set(report) == set(ATTEMPTS)
    return {name for name, came in report.items() if came["won"]}


async def probes(place: Place) -> Counts:
    folder = place.world.settings.state_dir.parent / "api"
    async with opened(place.world.url, folder, {}) as api:
        worked = await won(place, port_of(api.url))
        assert worked == {CONTROL}, f"walls: {sorted(worked)}"
        assert (await api.call("GET", "/healthz", token=None)).status == 200
    return {"attempts": len(ATTEMPTS) - 1, "worked": len(worked - {CONTROL})}


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
