"""`jobyard job exec` at its end: what it was told counts, not what it could not say any more."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import aiohttp
import pytest

from service.cli import exec as cli
from service.cli.exec import ERROR, _Session
from service.errors import Unavailable


class Socket:
    """One that takes no input; what it was told before, if anything, is read only when that was seen."""

    def __init__(self, *told: bytes) -> None:
        self.close_code = 1006
        self._told = list(told)
        self._refused = asyncio.Event()

    async def send_bytes(self, _data: bytes) -> None:
        self._refused.set()
        raise ConnectionResetError

    def __aiter__(self) -> Socket:
        return self

    async def __anext__(self) -> aiohttp.WSMessage:
        await self._refused.wait()
        await asyncio.sleep(0)  # the refusal has reached who sent
        if not self._told:
            raise StopAsyncIteration
        return aiohttp.WSMessage(aiohttp.WSMsgType.BINARY, self._told.pop(0), None)


async def test_the_status_counts_though_the_input_could_not_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_read_in", lambda: b"")
    failed: dict[str, Any] = {"causes": [{"reason": "ExitCode", "message": "3"}]}
    told = bytes([ERROR]) + json.dumps({"status": "Failure", "details": failed}).encode()
    assert await _Session(cast(Any, Socket(told)), resizes=False).talk(stdin=True) == 3
    with pytest.raises(Unavailable, match="1006"):
        await _Session(cast(Any, Socket()), resizes=False).talk(stdin=True)
