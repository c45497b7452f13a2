"""What is wrong with the parts of a service that has just come up: said before a job waits for them."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec

from service.api.readiness import KEPT_S, SILENT
from service.api.wire import Part, Ready

_TIMEOUT_S = 10.0
_CALLED = {
    "database": "the database",
    "clock": "the database's clock",
    "supervisor": "the supervisor",
    "engine": "Docker",
    "store": "the object store",
}


async def troubles(url: str) -> list[str]:
    """A line for each part that the service at `url` says is down; none when all is well.

    What does not answer is looked at once more: on a busy machine the first look, which makes what all others
    find made, can take longer than a look may.
    """
    try:
        down = await _down(url)
        if any(part.why == SILENT for part in down.values()):
            await asyncio.sleep(KEPT_S)
            down = await _down(url)
    except (TimeoutError, aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
        return [f"But it does not say how its parts are: {str(error) or type(error).__name__}"]
    return [
        f"But {called} is not ready: {part.why}. {url}/readyz tells when it is, and the log tells more."
        for called, part in down.items()
    ]


async def _down(url: str) -> dict[str, Part]:
    """Those that are, by what they are called."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}/readyz", timeout=aiohttp.ClientTimeout(_TIMEOUT_S)) as answer,
    ):
        found = msgspec.json.decode(await answer.read(), type=Ready)
    parts = {called: getattr(found.parts, name) for name, called in _CALLED.items()}
    return {called: part for called, part in parts.items() if part.status == "down"}
