"""From the engine's JSON to our types."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from service.errors import EngineError
from service.supervisor.engine.protocol import Container, ContainerSummary, ImageInfo, RepoDigest, State

_STATES: dict[str, State] = {
    "created": "created",
    "running": "running",
    "paused": "paused",
    "restarting": "restarting",
    "removing": "removing",
    "exited": "exited",
    "dead": "dead",
}
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")


def moment(text: str) -> datetime | None:
    """An engine's time as aware UTC, cut to microseconds; None for its zero time (year 1)."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise EngineError(f"the engine sent a time that is not understood: {text[:40]!r}")
    if text.startswith("0001-"):
        return None
    whole, fraction, zone = match.groups()
    micros = f"{fraction or '':0<6}"[:6]
    return datetime.fromisoformat(f"{whole}.{micros}{'+00:00' if zone == 'Z' else zone}").astimezone(UTC)


def container(found: dict[str, Any]) -> Container:
    state = found["State"]
    status = _state(state["Status"])
    started = moment(state["StartedAt"])
    ended = status in ("exited", "dead")
    return Container(
        id=found["Id"],
        name=found["Name"].removeprefix("/"),
        labels=found["Config"]["Labels"] or {},
        state=status,
        exit_code=state["ExitCode"] if ended else None,
        oom_killed=state["OOMKilled"],
        error=state["Error"],
        started_at=started,
        finished_at=moment(state["FinishedAt"]),
        image_id=found["Image"],
        ip=_ip(found["NetworkSettings"]),
    )


def summary(listed: dict[str, Any]) -> ContainerSummary:
    names = listed["Names"] or [""]  # a container on its way out can be without a name
    return ContainerSummary(
        id=listed["Id"],
        name=names[0].removeprefix("/"),
        labels=listed["Labels"] or {},
        state=_state(listed["State"]),
    )


def image(found: dict[str, Any]) -> ImageInfo:
    return ImageInfo(
        id=found["Id"],
        digests=tuple(_digest(text) for text in found.get("RepoDigests") or []),
        os=found["Os"],
        architecture=found["Architecture"],
        size_bytes=found["Size"],
    )


def _digest(text: str) -> RepoDigest:
    name, _, digest = text.rpartition("@")
    return RepoDigest(name, digest)


def _state(text: str) -> State:
    # An unknown state must stop whoever looks, not pass for one that is known.
    if text not in _STATES:
        raise EngineError(f"the engine reports a container state that is not known: {text!r}")
    return _STATES[text]


def _ip(settings: dict[str, Any]) -> str | None:
    for network in (settings.get("Networks") or {}).values():
        if network.get("IPAddress"):
            return str(network["IPAddress"])
    return None
