"""What a container takes of the engine's disk besides its mounts: its own layer and its anonymous volumes.

Where the engine's host is ours and we are root, the layer's folder is added up by its blocks, and what its
processes hold open without a name. Elsewhere the engine is asked (`SizeRw`): it counts the lengths of files,
and knows of nothing else.
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
    if wire.socket_path is not None and (layer := layer_of(found)) is not None:
        return await added_up(partial(_add, found, layer))
    sized = await _inspect(wire, container_id, timeout_s, size="1")
    unseen = tuple(f"the volume at {path}" for path, _ in _anonymous(found))
    if sized.get("SizeRw") is None:
        return Usage(0, ("the engine does not tell the size of the container", *unseen))
    return Usage(sized["SizeRw"], unseen)


async def _inspect(wire: Wire, container_id: str, timeout_s: float, **params: str) -> dict[str, Any]:
    path = f"/containers/{safe_name(container_id)}/json"
    answer = await wire.call("GET", path, params=params or None, timeout_s=timeout_s)
    if answer.status == 404:
        raise NoSuchContainer(f"no container {container_id}")
    if answer.status != 200:
        raise refused(f"inspect {container_id}", answer)
    found: dict[str, Any] = answer.body
    return found


def layer_of(found: dict[str, Any]) -> Path | None:
    """The folder that holds what the container wrote, where it is on this machine and can be read."""
    upper = ((found.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir")
    if not upper or os.geteuid() != 0 or not os.path.isdir(upper):  # noqa: PTH112
        return None
    return Path(upper)


def _anonymous(found: dict[str, Any]) -> list[tuple[str, Path]]:
    """Volumes that the image asked for: where the container sees each, and where it lies."""
    mounts = found.get("Mounts") or []
    return [(each["Destination"], Path(each["Source"])) for each in mounts if each["Type"] == "volume"]


def _add(found: dict[str, Any], layer: Path, tally: Tally) -> None:
    # First what has no name: a file that loses its name in between is then in neither, and not in both.
    pid = found["State"]["Pid"]
    if pid:
        mounts = [each["Source"] for each in found.get("Mounts") or [] if each.get("RW")]
        add_unlinked(tally, found["Id"], pid, [str(layer), *mounts])
    tally.tree(layer)
    for target, source in _anonymous(found):
        try:
            tally.tree(source)
        except FileNotFoundError:
            tally.miss(f"the volume at {target}")
