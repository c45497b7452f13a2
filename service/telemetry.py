"""Logging: structlog JSON lines on standard error, one canonical line per command and per effect."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

#: Tracebacks without the values of local variables: a secret may stand in any of them.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def set_up_logging(level: str = "info", file: TextIO | None = None) -> None:
    """JSON lines with UTC times, to `file` or standard error. Secrets never get here: see `vault.Secret`."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _TRACEBACKS,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        ),
        logger_factory=structlog.PrintLoggerFactory(file=file or sys.stderr),
        cache_logger_on_first_use=True,
    )
