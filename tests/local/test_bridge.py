"""The bridge of an own dockerd keeps its addresses, and goes with all that Docker cut from them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from service.local import bridge


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _stands(link: str) -> bool:
    return Path(f"/sys/class/net/{link}").exists()


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "network.json"
    yield path
    bridge.remove(path)


def test_the_networks_of_projects_do_not_drive_their_own_bridge_away(record: Path) -> None:
    """After a kill of dockerd they still stand, with containers in them, while the next one is started."""
    name, project = f"jy-{uuid4().hex[:8]}", f"br-{uuid4().hex[:12]}"
    first = bridge.ensure(name, record)
    pool = list(first.subnet.subnets(1))[1]
    _ip("link", "add", project, "type", "bridge")
    _ip("addr", "add", f"{pool.network_address + 1}/24", "dev", project)
    _ip("link", "set", project, "up")
    assert bridge.ensure(name, record) == first
    bridge.remove(record)
    assert not _stands(name) and not _stands(project)


def test_addresses_that_another_took_meanwhile_are_given_up(record: Path) -> None:
    name, other = f"jy-{uuid4().hex[:8]}", f"x-{uuid4().hex[:8]}"
    first = bridge.ensure(name, record)
    bridge.remove(record)
    _ip("link", "add", other, "type", "bridge")
    try:
        _ip("addr", "add", f"{first.subnet.network_address + 1}/24", "dev", other)
        _ip("link", "set", other, "up")
        assert not bridge.ensure(name, record).subnet.overlaps(first.subnet)
    finally:
        _ip("link", "delete", other)
