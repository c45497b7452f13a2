"""Logging: structlog JSON lines on standard error, one canonical line per command and per effect."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up_logging(level: str = "info") -> None:
    """JSON lines with UTC times. Values that are secret never get here: see `service.vault.Secret`."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
        ),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
