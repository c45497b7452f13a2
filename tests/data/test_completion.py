"""The end of a large upload: a store joins its parts before it answers, and its answer may be lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from service.errors import Unavailable
from service.supervisor.data import Source, Store, Timing
from service.supervisor.data.s3.bodies import hashed
from tests.data.canned import Canned, serving
from tests.data.sync import held, pushed, write

CALL_S = 1.0


class Joining(Canned):
    """Takes longer to join parts than any other call may."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and "uploads" in request.query:
            return _xml("Initiate", "<UploadId>1</UploadId>")
        if request.method == "POST":
            self.asked.append("completion")
            await asyncio.sleep(CALL_S * 1.5)
            return _xml("Complete", "<ETag>x</ETag>")
        return await super().answer(request)


def _xml(name: str, inside: str) -> web.Response:
    text = f"<{name}MultipartUploadResult>{inside}</{name}MultipartUploadResult>"
    return web.Response(text=text, content_type="application/xml")


async def test_a_store_may_take_its_time_to_join_parts() -> None:
    joining = Joining([])
    timing = Timing(call_s=CALL_S, attempts=2, backoff_s=0.01)
    async with (
        serving(joining) as access,
        Store.open(access, timing) as store,
        store.multipart("box", "x") as upload,
    ):
        await upload.send(1, hashed(b"1", signed=True))
    assert joining.asked.count("completion") == 1


async def test_an_upload_whose_last_answer_was_lost_has_arrived(
    store: Store, source: Source, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store then knows of no such upload. Repeated, the push finds the object."""
    complete, asked = store._client.complete_multipart_upload, 0

    async def lost(**what: Any) -> Any:
        nonlocal asked
        asked += 1
        answer = await complete(**what)
        if asked == 1:
            raise TimeoutError
        return answer

    monkeypatch.setattr(store._client, "complete_multipart_upload", lost)
    large = {"large": bytes(9 * 1024**2)}
    write(volume, large)
    with pytest.raises(Unavailable, match="NoSuchUpload"):
        await pushed(store, source, volume)
    done = await pushed(store, source, volume)
    assert (done.skipped, done.transferred_bytes) == (1, 0)
    assert await held(store, source) == large
