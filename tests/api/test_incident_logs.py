"""The log in an incident bundle: reading it holds up nobody else, ends with its client, counts as held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import aiohttp
import pytest
from structlog.testing import capture_logs

from service.api import incidents
from service.api.call import SERVICE
from service.api.sent import TOO_MUCH
from service.ledger.incident import bundle as bundles
from tests.api.yard import ADMIN, Answer, Printer, Yard
from tests.support.waiting import until

TEXT = b"a line\n"


class Reading:
    """Of a log: a line comes, and then nothing that is wanted until it is let on."""

    def __init__(self, yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.ended = 0, 0
        self.on = asyncio.Event()
        self.projects = set[str]()
        monkeypatch.setattr(yard.app[SERVICE].parts.logs, "read", self._read)

    async def _read(self, *_: object, project: str, **__: object) -> AsyncGenerator[bytes, None]:
        self.projects.add(project)
        self.begun += 1
        try:
            yield TEXT
            while not self.on.is_set():
                yield b""
                await asyncio.sleep(0.01)
        finally:
            self.ended += 1


@pytest.fixture
async def job(yard: Yard) -> str:
    found: str = (await yard.submit())["id"]
    return found


@pytest.fixture
def reading(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> Reading:
    return Reading(yard, monkeypatch)


def asking(yard: Yard, job: str) -> asyncio.Task[Answer]:
    return asyncio.create_task(yard.call("GET", f"/v1/job/{job}/incident?logs=100000", token=ADMIN))


async def test_a_log_that_takes_long_to_read_holds_no_turn(yard: Yard, job: str, reading: Reading) -> None:
    exports = yard.app[SERVICE].exports
    slow = [asking(yard, job) for _ in range(4)]
    await until(lambda: reading.begun == 4)
    refused = await yard.call("GET", f"/v1/job/{job}/incident", token=ADMIN)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1"), (
        "they are the project's all the same"
    )
    assert (await yard.call("GET", "/v1/billing/export", token="other")).status == 200
    assert exports.asked == {"default": 4}
    reading.on.set()
    for each in slow:
        log = bundles.read((await each).raw).log
        assert log is not None and log.text.encode() == TEXT
    assert reading.projects == {"default"}
    await until(lambda: not exports.asked)


async def test_a_log_is_read_no_further_for_who_has_left(yard: Yard, job: str, reading: Reading) -> None:
    service = yard.app[SERVICE]
    slow = asking(yard, job)
    await until(lambda: service.parts.held.bytes == len(TEXT), what="what is read counts as held")
    slow.cancel()
    await until(lambda: reading.ended == 1)
    await until(lambda: not service.exports.asked and not service.parts.held.bytes)


async def test_who_holds_the_most_of_logs_is_cut_off(
    yard: Yard, job: str, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while he waits for his turn: they would all be held until then."""
    service = yard.app[SERVICE]
    reading.on.set()
    with capture_logs() as lines:
        async with service.exports._free.turn("one"), service.exports._free.turn("two"):
            waits = asking(yard, job)
            await until(lambda: service.exports._free.waiting("default") == 1)
            assert service.parts.held.bytes == len(TEXT)
            monkeypatch.setattr(service.parts.held, "_most", len(TEXT))
            service.parts.held.enter("small", lambda: None).take(1)
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await waits
        await until(lambda: not service.exports.asked)
    assert TOO_MUCH in [line.get("cut") for line in lines]


async def test_of_a_log_too_long_nothing_is_held_after(
    yard: Yard, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = yard.app[SERVICE]
    printer = Printer(yard, job)
    printer.line("x" * 5000)
    printer.end()
    monkeypatch.setattr(incidents, "MOST_LOG_BYTES", 4000)
    assert (await asking(yard, job)).status == 400
    assert not service.exports.asked and not service.parts.held.bytes
