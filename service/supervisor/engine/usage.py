"""What a container takes of the engine's disk besides its mounts: its own layer and its anonymous volumes.

Where the engine's host is ours and we are root, folders are added up by their blocks, and with them what the
container's processes hold open without a name. What cannot be seen so, the engine is asked for (`SizeRw`): it
tells of the layer alone, by the lengths of files.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from service.errors import NoSuchContainer
from service.supervisor.engine.wire import Wire, refused, safe_name
from service.supervisor.storage.threads import added_up
from service.supervisor.storage.tree import Tally
from service.supervisor.storage.unlinked import add_unlinked
from service.supervisor.storage.usage import Usage


async def container_usage(wire: Wire, container_id: str, timeout_s: float) -> Usage:
    """Raises `NoSuchContainer`, `EngineError`, `Unavailable`, and `OSError` when the disk fails."""
    found = await _inspect(wire, container_id, timeout_s)
    if wire.socket_path is None or os.geteuid() != 0:
        unseen = tuple(f"the volume at {target}" for target, _ in _anonymous(found))
        return await _told(wire, container_id, timeout_s) + Usage(0, unseen)
    layer = _layer(found)
    told = Usage(0) if layer is not None else await _told(wire, container_id, timeout_s)
    return told + await added_up(partial(_add, found, layer))


async def _told(wire: Wire, container_id: str, timeout_s: float) -> Usage:
    """What the engine says of the layer."""
    size = (await _inspect(wire, container_id, timeout_s, size="1")).get("SizeRw")
    if size is None:
        return Usage(0, ("the engine does not tell the size of the container",))
    return Usage(size)


async def _inspect(wire: Wire, container_id: str, timeout_s: float, **params: str) -> dict[str, Any]:
    path = f"/containers/{safe_name(container_id)}/json"
    answer = await wire.call("GET", path, params=params or None, timeout_s=timeout_s)
    if answer.status == 404:
        raise NoSuchContainer(f"no container {container_id}")
    if answer.status != 200:
        raise refused(f"inspect {container_id}", answer)
    found: dict[str, Any] = answer.body
    return found


def _layer(found: dict[str, Any]) -> Path | None:
    """The folder that holds what the container wrote, for a storage driver that has one on this machine."""
    upper = ((found.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir")
    return Path(upper) if upper and Path(upper).is_dir() else None


def _anonymous(found: dict[str, Any]) -> list[tuple[str, Path]]:
    """Volumes that the image asked for: where the container sees each, and where it lies."""
    mounts = found.get("Mounts") or []
    return [(each["Destination"], Path(each["Source"])) for each in mounts if each["Type"] == "volume"]


def _add(found: dict[str, Any], layer: Path | None, tally: Tally) -> None:
    # First what has no name: a file that loses its name in between is then in neither, and not in both.
    pid = found["State"]["Pid"]
    if pid:
        mounts = [each["Source"] for each in found.get("Mounts") or [] if each.get("RW")]
        add_unlinked(tally, found["Id"], pid, mounts if layer is None else [str(layer), *mounts])
    if layer is not None:
        tally.tree(layer)
    for target, source in _anonymous(found):
        try:
            tally.tree(source)
        except FileNotFoundError:
            tally.miss(f"the volume at {target}")
