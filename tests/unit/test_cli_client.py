"""What the client refuses to send, whoever asks it to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from service.cli.client import Client, object_path, segment
from service.cli.where import Where
from service.errors import Rejected

BAD = "caf\udce9/"
ASKS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "a parameter": lambda client: client.get("/job", prefix=BAD),
    "one of a list": lambda client: client.delete("/job", state=["a", BAD]),
    "a body": lambda client: client.post("/job", {"envVars": [{"name": "A", "value": BAD}]}),
    "a body's name": lambda client: client.put("/job", {BAD: 1}),
    "a socket's": lambda client: client.socket("/job", [("command", BAD)], "v5").__aenter__(),
}


@pytest.mark.parametrize("what", ASKS)
async def test_what_is_no_text_is_not_sent(what: str) -> None:
    async with Client(Where("http://127.0.0.1:9", "x")) as client:
        with pytest.raises(Rejected, match=r"caf\\xe9/: not UTF-8"):
            await ASKS[what](client)


def test_a_path_of_no_text_is_not_made() -> None:
    with pytest.raises(Rejected, match="not UTF-8"):
        segment(BAD)
    with pytest.raises(Rejected, match="not UTF-8"):
        object_path("a", "c", BAD)
