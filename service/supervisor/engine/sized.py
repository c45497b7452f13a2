"""Creating containers with a bound on what they may change of their image, where the storage driver can.

Docker's `size` works on overlay2 over xfs with project quotas, and on a few other drivers. Nothing tells
beforehand, so it is tried, and an engine that has refused it is not asked again.
"""

from __future__ import annotations

from typing import Any

import structlog

from service.supervisor.engine.wire import Answer, Wire

_log = structlog.get_logger()

#: How an engine answers what it cannot do: refused as bad, or as its own failure.
_REFUSALS = (400, 500)


class Sized:
    """`refusal` is the engine's own text, once it has refused; None while it has not."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.refusal: str | None = None

    async def create(
        self, name: str, body: dict[str, Any], size_bytes: int | None, timeout_s: float
    ) -> Answer:
        """The engine's answer to the create request `body`, with the bound if it takes it.

        The bound is no part of what the body was hashed as: a container with it and one without are the same.
        """
        if size_bytes is None or self.refusal is not None:
            return await self._ask(name, body, timeout_s)
        host = {**body["HostConfig"], "StorageOpt": {"size": str(size_bytes)}}
        sized = await self._ask(name, {**body, "HostConfig": host}, timeout_s)
        if sized.status not in _REFUSALS:
            return sized
        plain = await self._ask(name, body, timeout_s)
        if plain.status == 201 and "storage" in sized.message.lower():
            self.refusal = sized.message
            _log.info("containers are not bounded by the storage driver", engine_says=self.refusal)
        return plain

    async def _ask(self, name: str, body: dict[str, Any], timeout_s: float) -> Answer:
        params = {"name": name}
        return await self._wire.call(
            "POST", "/containers/create", params=params, body=body, timeout_s=timeout_s
        )
