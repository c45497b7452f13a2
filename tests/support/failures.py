"""Which tests failed, told to `python3 -m service test`, which runs them again alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


class Failures:
    """The plugin that writes their ids to a file, a JSON list; of a split run, in the process that prints."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed: dict[str, None] = {}

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed[report.nodeid] = None

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not hasattr(session.config, "workerinput"):
            self._path.write_text(json.dumps(list(self._failed)), encoding="utf-8")
