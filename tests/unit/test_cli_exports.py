"""What is written to a file takes the place of the one before only if the service has written all of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from service.cli.exits import Exit
from service.cli.main import app_for

TRAILER = {"events": 2, "first": 7, "last": 8, "header": "00", "sha256": "11", "of another version": 1}
EXPORT = b"".join(json.dumps(line).encode() + b"\n" for line in ({"format": "x"}, {}, {}, TRAILER))


class Service:
    """Answers each request with the same."""

    def __init__(self) -> None:
        self.url = ""
        self.body = b""
        self.media = "text/html"

    async def answer(self, _: web.Request) -> web.Response:
        return web.Response(body=self.body, headers={"Content-Type": self.media})


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made, app = Service(), web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def left_with(service: Service, *words: str) -> int:
    """The status of a command, in a thread: it has an event loop of its own."""

    def run() -> int:
        with pytest.raises(SystemExit) as left:
            app_for(words[0])([*words, "--url", service.url, "--token", "x"], prog_name="jobyard")
        return int(left.value.code or 0)

    return await asyncio.to_thread(run)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>\n", b"{}\n", EXPORT[: len(EXPORT) // 2], EXPORT + b"<html>\n", b"[1]\n", b"\xff\n"],
)
async def test_an_export_that_is_none_leaves_the_file_of_before(
    service: Service, tmp_path: Path, capfd: pytest.CaptureFixture[str], body: bytes
) -> None:
    file = tmp_path / "trail.jsonl"
    file.write_text("the one before")
    service.body = body
    assert await left_with(service, "audit", "export", str(file)) == Exit.UNREACHABLE
    assert file.read_text() == "the one before" and list(tmp_path.iterdir()) == [file]
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", f"jobyard: what answers at {service.url} is not Jobyard\n")


async def test_an_export_takes_the_place_of_the_file_of_before(
    service: Service, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trail.jsonl"
    file.write_text("the one before")
    service.body = EXPORT
    assert await left_with(service, "audit", "export", str(file)) == 0
    assert file.read_bytes() == EXPORT
    assert capfd.readouterr().out == f"exported 2 events, 7 to 8, to {file}\n"


@pytest.mark.parametrize(
    ("form", "media"),
    [("csv", "text/csv"), ("parquet", "application/vnd.apache.parquet"), ("jsonl", "application/jsonl")],
)
async def test_a_bill_that_is_none_leaves_the_file_of_before(
    service: Service, tmp_path: Path, capfd: pytest.CaptureFixture[str], form: str, media: str
) -> None:
    file = tmp_path / "bill"
    file.write_text("the one before")
    service.body = b"some bytes"
    words = ("billing", "export", "--format", form, "--file")
    assert await left_with(service, *words, str(file)) == Exit.UNREACHABLE
    assert await left_with(service, *words, "-") == Exit.UNREACHABLE
    assert file.read_text() == "the one before" and list(tmp_path.iterdir()) == [file]
    assert capfd.readouterr().out == ""
    service.media = f"{media}; charset=utf-8"
    assert await left_with(service, *words, str(file)) == 0
    assert file.read_bytes() == b"some bytes"
