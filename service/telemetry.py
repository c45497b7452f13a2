"""Logging: structlog JSON lines on standard error, one canonical line per command and per effect."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, Protocol

import msgspec
import structlog

#: Tracebacks without the values of local variables: a secret may stand in any of them.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


_PLAIN = frozenset({str, int, float, bool, type(None)})
_encode = msgspec.json.Encoder().encode


def _json(line: MutableMapping[str, Any]) -> str:
    """A line as JSON. msgspec is the faster one, but would open objects that `repr` shows, so it has those
    lines that hold none; and it refuses what is no text."""
    if all(map(_is_plain, line.values())):
        with suppress(UnicodeEncodeError, OverflowError):
            return _encode(line).decode()
    return json.dumps(line, default=repr)


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in _PLAIN or (kind is list and all(type(each) in _PLAIN for each in value))


class _Line:
    """All that makes a line of what was said: its level, its time (UTC), a traceback if there is one, JSON.

    One processor and not a chain of them: there is a line for each request.
    """

    def __init__(self) -> None:
        self._second = 0
        self._said = ""

    def __call__(self, logger: Any, method: str, line: MutableMapping[str, Any]) -> str:
        line["level"] = "error" if method == "exception" else "warning" if method == "warn" else method
        line["timestamp"] = self._time()
        if "exc_info" in line:
            return _json(_TRACEBACKS(logger, method, line))
        return _json(line)

    def _time(self) -> str:
        """Now, to the microsecond (ISO 8601); what stands before the point is made once a second."""
        seconds, rest_ns = divmod(time.time_ns(), 1_000_000_000)
        if seconds != self._second:
            self._second = seconds
            self._said = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        return f"{self._said}.{rest_ns // 1000:06d}Z"


#: A token, as it is and as a websocket's sub-protocol carries it: aiohttp warns of sub-protocols that it does
#: not know, and quotes them.
_TOKENS = re.compile(r"(jy_|base64url\.bearer\.authorization\.k8s\.io\.)[^\s'\",]+")


class _Libraries(logging.Handler):
    """What libraries say by Python's own logging becomes a line of ours: theirs would be bare text, and a
    traceback of many lines. They do not know what is secret."""

    def emit(self, record: logging.LogRecord) -> None:
        said = structlog.get_logger().bind(library=record.name)
        message = _TOKENS.sub(r"\1***", record.getMessage())
        said.log(record.levelno, message, exc_info=record.exc_info)


class Lines(Protocol):
    """What lines are written to, such as a text file."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class _Writing:
    """Writes each line at once, and loses one that cannot be written.

    A disk is full, or whoever read standard error has gone: then a line is all that may be lost. Who says
    something has work in hand, which must not end where its log does: a supervisor at its first warning, an
    answer to what was carried out.
    """

    def __init__(self, file: Lines) -> None:
        self._file = file
        self._turn = threading.Lock()

    def msg(self, line: str) -> None:
        # ValueError: the file is closed, or has no such letter.
        with suppress(OSError, ValueError), self._turn:
            self._file.write(line + "\n")
            self._file.flush()

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def set_up_logging(level: str = "info", file: Lines | None = None) -> None:
    """JSON lines with UTC times, to `file` or standard error; of libraries, what is a warning or worse.
    A line that cannot be written is lost, and nothing else: no logger raises for it.
    Secrets never get here: see `vault.Secret`."""
    writing = _Writing(file or sys.stderr)
    logging.basicConfig(level=logging.WARNING, handlers=[_Libraries()], force=True)
    structlog.configure(
        processors=[_Line()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: writing,
        cache_logger_on_first_use=True,
    )
