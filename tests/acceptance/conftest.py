"""One service for all acceptance tests, with every part real and of its own state directory."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from service.domain.flavors import DEFAULT_CATALOGUE
from service.domain.offers import JobImage, Preset
from tests import images
from tests.acceptance import running
from tests.acceptance.running import Service

CATALOGUE = msgspec.structs.replace(
    DEFAULT_CATALOGUE,
    images=(JobImage(id="busybox", name=images.BUSYBOX, versions=("1",)),),
    presets=(Preset(id="hello", name="Hello", snippet=images.BUSYBOX),),
)


@pytest.fixture(scope="session")
def service(parts: None) -> Iterator[Service]:
    images.import_busybox()
    state = running.new_state()
    file = state / "catalogue.yaml"
    file.write_bytes(msgspec.yaml.encode(CATALOGUE))
    with running.service(state, JOBYARD_CATALOGUE=str(file)) as started:
        yield started
    running.remove(state)
