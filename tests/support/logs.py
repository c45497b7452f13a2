"""The log of this process, set up as the service sets it up, and given back as it was."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from service.telemetry import set_up_logging


@contextmanager
def set_up(level: str = "info", file: io.StringIO | None = None) -> Iterator[io.StringIO]:
    """What is logged while the context lasts, as the service would write it."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, root_level = list(root.handlers), root.level
    file = io.StringIO() if file is None else file
    set_up_logging(level, file)
    # Each logger first used in here would else write to this file for as long as the process lives.
    structlog.configure(cache_logger_on_first_use=False)
    try:
        yield file
    finally:
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(root_level)
