"""One service for all acceptance tests, with every part real and of its own state directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import images
from tests.acceptance import running
from tests.acceptance.running import Service


@pytest.fixture(scope="session")
def service(parts: None) -> Iterator[Service]:
    images.import_busybox()
    state = running.new_state()
    with running.service(state) as started:
        yield started
    running.remove(state)
