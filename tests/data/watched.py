"""A real store whose uploads a test sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from service.supervisor.data import Store
from service.supervisor.data.s3.bodies import Body


class Watched(Store):
    """`sent` has the key of each upload, also of a part; `act` is called before each, with its number."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.sent: list[str] = []
        self.act: Callable[[int], None] = lambda _: None

    async def _put(self, container: str, key: str, body: Body, query: Mapping[str, str]) -> str:
        self.sent.append(key)
        self.act(len(self.sent))
        return await super()._put(container, key, body, query)
