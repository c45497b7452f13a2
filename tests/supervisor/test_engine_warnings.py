"""What an engine discards of what it was asked for, it says as it creates a container: that is in the log."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from service.supervisor.engine.create import MOST_WARNINGS, warnings_of
from service.supervisor.engine.docker import DockerEngine
from tests.supervisor.lab import DONE, Lab
from tests.supervisor.world import World

DISCARDED = "Your kernel does not support Pids limit capabilities. Pids limit discarded."


def test_what_is_kept_of_them_is_bounded_and_fit_for_a_line() -> None:
    assert warnings_of({"Id": "a"}) == warnings_of({"Id": "a", "Warnings": None}) == warnings_of("text") == ()
    assert warnings_of({"Warnings": [DISCARDED]}) == (DISCARDED,)
    many = warnings_of({"Warnings": ["x\n\x1b[2J" + "y" * 10_000] * 1000})
    assert len(many) == MOST_WARNINGS + 1 and many[-1] == f"and {1000 - MOST_WARNINGS} more"
    assert all(len(each) <= 160 and each.isprintable() for each in many)


@pytest.fixture
async def discarding(tmp_path: Path) -> AsyncIterator[DockerEngine]:
    """An engine whose kernel lacks what a limit needs, as far as `create` goes: no machine here has one."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/version":
            return web.json_response({"ApiVersion": "1.41"})
        assert request.path.endswith("/containers/create")
        return web.json_response({"Id": "c" * 64, "Warnings": [DISCARDED]}, status=201)

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "engine")).start()
    engine = DockerEngine(f"unix://{tmp_path / 'engine'}")
    yield engine
    await engine.close()
    await runner.cleanup()


async def test_an_engine_that_discards_a_limit_is_heard(discarding: DockerEngine, lab: Lab) -> None:
    said: list[tuple[str, ...]] = []
    assert await discarding.create(lab.spec(DONE), on_warnings=said.append) == "c" * 64
    assert said == [(DISCARDED,)]


async def test_it_stands_on_the_effect_s_line(on_fake: World) -> None:
    warned = replace(DONE, script=replace(DONE.script, warnings=(DISCARDED,)))
    with capture_logs() as lines:
        async with on_fake.supervised():
            await on_fake.end(await on_fake.submit(warned))
    effects: dict[str, Any] = {line["effect"]: line for line in lines if line["event"] == "effect"}
    assert effects["create-container"]["warnings"] == [DISCARDED]
    assert [name for name, line in effects.items() if "warnings" in line] == ["create-container"]
    assert json.dumps(effects["create-container"]["warnings"]), "a list of plain text"
