"""Pulls: one image, one fetch for all who want it, and no waiting without progress."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import structlog

from service.errors import ImageReason, ImageUnavailable, NodeFull, Unavailable
from service.supervisor.engine.image_ref import ImageRef
from service.supervisor.engine.protocol import PullProgress, RegistryAuth
from service.supervisor.engine.refusals import without_paths
from service.supervisor.engine.wire import NO_SPACE, Wire, refusal

#: A pull in which nothing moves for so long is told of in the log; it is given up later.
NOTICE_S = 8.0

_log = structlog.get_logger()

OnProgress = Callable[[PullProgress], None]
_Key = tuple[str, RegistryAuth | None]


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[None]
    listeners: list[OnProgress]
    waiting: int = 0


@dataclass(slots=True)
class _Layers:
    """What the engine said of each layer; `moved` tells progress from chatter."""

    image: str
    seen: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def moved(self, line: dict[str, Any]) -> bool:
        status, layer = str(line.get("status", "")), str(line.get("id", ""))
        # The engine counts down to its own retries; a registry that is down must not look alive.
        if status.startswith(("Retrying", "Waiting")):
            return False
        detail = line.get("progressDetail") or {}
        now = (status, int(detail.get("current") or 0), int(detail.get("total") or 0))
        if self.seen.get(layer) == now:
            return False
        self.seen[layer] = now
        return True

    def progress(self) -> PullProgress:
        layers = [entry for name, entry in self.seen.items() if len(name) == 12]
        loading = [entry for entry in layers if entry[0] == "Downloading"]
        return PullProgress(
            image=self.image,
            layers=len(layers),
            layers_done=sum(entry[0] in ("Pull complete", "Already exists") for entry in layers),
            downloaded_bytes=sum(entry[1] for entry in loading),
            total_bytes=sum(entry[2] for entry in loading),
        )


class Puller:
    """Callers of the same reference with the same credentials share one fetch.

    Credentials are part of the key: sharing without them would hand a private image to whoever asks.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._flights: dict[_Key, _Flight] = {}

    async def pull(
        self, ref: ImageRef, *, auth: RegistryAuth | None, on_progress: OnProgress | None, stall_s: float
    ) -> None:
        """Returns when the engine said it is done; inspect the image then, a cut stream can look like that.

        `stall_s` of the first caller counts. Raises as `Engine.pull`.
        """
        key = (str(ref), auth)
        flight = self._flights.get(key)
        if flight is None:
            listeners: list[OnProgress] = []
            task = asyncio.create_task(self._fetch(ref, auth, listeners, stall_s), name=f"pull {ref}")
            flight = self._flights[key] = _Flight(task, listeners)
            task.add_done_callback(partial(self._over, key))
        if on_progress is not None:
            flight.listeners.append(on_progress)
        flight.waiting += 1
        try:
            await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if flight.waiting == 0:
                self._over(key, flight.task)  # who comes now would be ended with it
                flight.task.cancel()  # nobody wants it any more; nothing happens if it is done

    def _over(self, key: _Key, task: asyncio.Task[None]) -> None:
        """Nobody joins it any more. The next of its key may be under way already."""
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]

    async def _fetch(
        self, ref: ImageRef, auth: RegistryAuth | None, listeners: list[OnProgress], stall_s: float
    ) -> None:
        params = {"fromImage": ref.name, "tag": ref.wanted, "platform": "linux/amd64"}
        headers = {"X-Registry-Auth": _encoded(auth)} if auth else {}
        layers = _Layers(str(ref))
        watched = _Silence(ref)
        try:
            async with asyncio.timeout(stall_s) as deadline:
                if ref.digest is not None:
                    await self._require_access(ref, headers)
                async with self._wire.stream(
                    "POST", "/images/create", params=params, headers=headers
                ) as reply:
                    if reply.status != 200:
                        raise explained(ref, (await refusal(reply)).message)
                    async for line in _lines(reply):
                        if "error" in line:
                            raise explained(ref, str(line["error"]))
                        if layers.moved(line):
                            watched.over()
                            deadline.reschedule(asyncio.get_running_loop().time() + stall_s)
                            _tell(listeners, layers.progress())
        except TimeoutError:
            raise ImageUnavailable(
                f"pulling {ref} made no progress for {stall_s:g} s and was given up", passing=True
            ) from None
        finally:
            watched.end()

    async def _require_access(self, ref: ImageRef, headers: dict[str, str]) -> None:
        """Raise as a pull does unless the registry hands out the manifest.

        An engine that holds a digest already takes that for enough: asked to pull it, it asks nobody, and
        would give one project what another one was allowed to pull.
        """
        path = f"/distribution/{quote(str(ref), safe='/:@')}/json"
        async with self._wire.stream("GET", path, headers=headers) as reply:
            if reply.status != 200:
                raise explained(ref, (await refusal(reply)).message)


class _Silence:
    """Logs once each time that nothing has moved for a while."""

    def __init__(self, ref: ImageRef) -> None:
        self._ref = ref
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.call_later(NOTICE_S, self._tell)

    def _tell(self) -> None:
        _log.warning("pull makes no progress", image=str(self._ref), after_s=NOTICE_S)

    def over(self) -> None:
        self._due.cancel()
        self._due = self._loop.call_later(NOTICE_S, self._tell)

    def end(self) -> None:
        self._due.cancel()


def _tell(listeners: list[OnProgress], progress: PullProgress) -> None:
    for listener in listeners:
        listener(progress)


def _encoded(auth: RegistryAuth) -> str:
    words = {"username": auth.username, "password": auth.password, "serveraddress": auth.server}
    return base64.urlsafe_b64encode(json.dumps(words).encode()).decode()


async def _lines(reply: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    buffer = b""
    async for data in reply.content.iter_any():
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)
    if buffer.strip():
        raise Unavailable("the engine's answer to a pull was cut off")


class _Reason(NamedTuple):
    """What an engine's words mean: one of `words` is in them."""

    words: tuple[str, ...]
    said: str
    reason: ImageReason
    passing: bool = False


#: The first that fits counts.
_REASONS = (
    _Reason(("toomanyrequests", "too many requests"), "the registry asks to slow down", "other", True),
    _Reason(
        ("no matching manifest", "does not match the specified platform"),
        "it has no linux/amd64 variant",
        "architecture",
    ),
    _Reason(
        ("denied", "unauthorized", "authentication required", "no basic auth", "forbidden"),
        "the registry denies access, or there is no such image; check name and credentials",
        "denied",
    ),
    _Reason(
        ("not found", "manifest unknown", "name unknown", "does not exist"),
        "there is no such image or tag",
        "missing",
    ),
    _Reason(
        ("x509", "http response to https"), "the registry's TLS certificate is not accepted", "unreachable"
    ),
    _Reason(
        ("connection refused", "i/o timeout", "client.timeout", "no route to host", "unexpected eof"),
        "the registry cannot be reached",
        "unreachable",
        True,
    ),
)


def explained(ref: ImageRef, said: str) -> ImageUnavailable | NodeFull:
    """The engine's words about a failed pull, for people, and whether the same pull may work later."""
    # A name and a URL may hold any of the words below, and a port any number. One begins where a word does: a
    # registry says words of any length, and they would be tried again from each of their letters.
    text = re.sub(r"(?<![a-z])[a-z]+://[^\s\"]*", "", said.lower()).replace(ref.name.lower(), "")
    if NO_SPACE in text:
        return NodeFull(f"the disk of the Docker Engine is full; {ref} could not be stored")
    # "no such host" and its kin hold none of the words below, but "not found" can end a resolver's error.
    if "dial tcp" in text or "lookup " in text:
        message = f"the registry of {ref} cannot be reached"
        return ImageUnavailable(message, passing=True, reason="unreachable")
    for found in _REASONS:
        if any(word in text for word in found.words):
            message = f"{ref} cannot be pulled: {found.said}"
            return ImageUnavailable(message, passing=found.passing, reason=found.reason)
    return ImageUnavailable(f"{ref} cannot be pulled: {without_paths(said[:300])}", passing=True)
