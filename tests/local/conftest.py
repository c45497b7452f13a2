from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.local import throwaway


@pytest.fixture
def state() -> Iterator[Path]:
    """A state directory that the user of Postgres can reach, as pytest's own tmp_path is closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="jobyard-state-"))
    folder.chmod(0o755)
    yield folder
    throwaway.remove(folder)
