"""What `job run` says of a job that no node can hold, and that it asks for nothing that can be in its way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.cli import estimate
from service.cli.client import Client
from service.cli.where import Where
from service.errors import NotNow, Unavailable

HOLDS = {"name": "a", "holds": True, "lacks": None}
LACKS = {"name": "b", "holds": False, "lacks": "1 GPUs, and it has 0"}


class Answering(Client):
    """A service that says this of every estimate, or never answers."""

    def __init__(self, answer: Any) -> None:
        super().__init__(Where("http://127.0.0.1:9", "x"))
        self._answer = answer

    async def post(self, *_: Any, **__: Any) -> Any:
        if self._answer is None:
            await asyncio.Event().wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


async def said(answer: Any, spec: dict[str, Any] | None = None) -> list[str]:
    async with Answering(answer) as client:
        return await estimate.waits_for_ever(client, spec or {"image": "x"})


@pytest.mark.parametrize("answer", [None, Unavailable("away"), NotNow("not now")])
async def test_what_is_not_answered_is_in_nobodys_way(answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "_ASKED_S", 0.05)
    assert await said(answer) == []


@pytest.mark.parametrize("nodes", [[], [HOLDS], [LACKS, HOLDS]])
async def test_nothing_is_said_while_some_node_may_hold_it(nodes: list[Any]) -> None:
    assert await said({"nodes": nodes, "kind": "gpu"}) == []


async def test_only_who_asked_for_no_units_is_told_how_to() -> None:
    never = "No node can hold the job, so it waits for ever as things are: b cannot: 1 GPUs, and it has 0."
    found = {"nodes": [LACKS], "kind": "gpu"}
    assert await said(found, {"resources": {"gpu": 1}}) == [never]
    told = await said(found)
    assert told[0] == never and "-c 1 asks for a CPU" in told[1]
    assert await said(found | {"kind": "cpu"}) == [never]
