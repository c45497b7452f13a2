"""The test of the test: the same attacks on a yard whose guards are left out are found to work."""

from __future__ import annotations

import asyncio
import tarfile
from dataclasses import replace
from typing import Any

import pytest

from service.local import engine_api
from service.supervisor.data import keys
from service.supervisor.data.archive import tar
from service.supervisor.data.volume import beneath
from service.supervisor.engine import docker
from service.supervisor.engine.create import create_body
from service.supervisor.engine.protocol import ContainerSpec
from service.supervisor.logs.writer import LogLimits
from tests.chaos.hostile import bombs, data, neighbour, traps, walls
from tests.chaos.hostile.beyond import Beyond
from tests.chaos.hostile.place import Attack, Counts, Place, at_once
from tests.chaos.hostile.test_hostile import MOST_RSS_BYTES
from tests.images import docker_socket
from tests.supervisor.world import MIB

#: By the wall that is left out: the probes that find it.
WALLS = {
    "cap-drop": {"capabilities"},
    "no-new-privileges": {"new privileges", "setuid program"},
    "pids limit": {"no limit of processes"},
    "seccomp": {"no seccomp", "unshare, users", "keyctl"},
    "read-only mounts": {"read-only volume"},
    "block of metadata": {"metadata address"},
    "a network a project": {"a job of another project"},
}
#: By the attack: what the harness has to say of it.
FOUND: dict[str, tuple[Attack, str]] = {
    "forks": (bombs.forks, "processes"),
    "memory": (bombs.memory, "memory: DONE"),
    "storage": (bombs.storage, "storage: DONE"),
    "log": (bombs.log, "log: "),
    "swapped": (traps.swapped, "leaked: "),
    "many": (traps.many, "files: DONE"),
    "keys": (data.object_keys, "key 'a\\tb': "),
    "archive": (data.too_many, "many.tar: "),
    "repository": (data.repository, "repository: "),
}


def weak(spec: ContainerSpec) -> dict[str, Any]:
    """A container without its walls and limits."""
    body = create_body(spec)
    host = body["HostConfig"]
    for name in ("CapDrop", "PidsLimit", "Memory", "MemorySwap"):
        del host[name]
    host["SecurityOpt"] = ["seccomp=unconfined"]
    host["Mounts"] = [mount | {"ReadOnly": False} for mount in host["Mounts"]]
    return body


async def probes(place: Place) -> Counts:
    """What stands for metadata and a neighbour is where jobs may go."""
    reached = Beyond(place.beyond.control, place.beyond.control)
    found = await walls.won(replace(place, beyond=reached, neighbour=place.beyond.control), api_port=1)
    missed = {wall: names - found for wall, names in WALLS.items()}
    assert missed == {wall: set() for wall in WALLS}
    return {}


async def test_a_neighbour_that_is_held_up_is_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbour, "MOST_SILENT_S", 1.0)
    async with place.world.supervised():
        with pytest.raises(AssertionError, match="was silent for"):
            async with neighbour.living(place.world) as found:
                known = await place.world.ledger.job(found.job)
                assert known.container_id is not None
                async with engine_api.session(f"unix://{docker_socket()}", timeout_s=60) as http:
                    await http.post(f"/containers/{known.container_id}/pause")
                    await asyncio.sleep(3)
                    await http.post(f"/containers/{known.container_id}/unpause")


def test_memory_that_was_given_back_was_taken() -> None:
    memory = neighbour.Memory()
    held = bytes(range(256)) * (2 * MOST_RSS_BYTES // 256)
    assert len(held) > MOST_RSS_BYTES
    del held
    assert memory.peak_bytes() > MOST_RSS_BYTES


async def test_what_is_left_out_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each guard is left out by one line, and found by its own attack."""
    monkeypatch.setattr(docker, "create_body", weak)
    # As with O_NOFOLLOW alone, which guards the last name of a path only.
    monkeypatch.setattr(beneath, "_RESOLVE", 0)
    # Any key is taken for a path, and any member of an archive for a file.
    monkeypatch.setattr(keys, "_check", lambda *_: None, raising=True)
    monkeypatch.setattr(tar, "_WHY", {})
    monkeypatch.setattr(tar, "_FILES", tar._FILES | {tarfile.SYMTYPE})
    monkeypatch.setattr(data, "KEYS", ["a\tb"])
    place = replace(place, patience_s=0, tries=60)
    async with place.world.supervised(
        logs=LogLimits(cap_bytes=256 * MIB), volume_max_objects=10**6, storage_check_s=3600.0
    ):
        attacks = {name: attack for name, (attack, _) in FOUND.items()}
        counted, wrong = await at_once({"walls": probes} | attacks, place)
    assert set(counted) == {"walls"}, wrong
    assert {name for name, (_, words) in FOUND.items() if words not in wrong[name]} == set(), wrong
