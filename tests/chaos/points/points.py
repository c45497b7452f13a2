"""Points: each crossing of a seam has a name and a number, and the process can be ended at any of them."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from pathlib import Path

#: As a process ends that was killed with SIGKILL.
CRASHED = 137

_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{16,}|(?<=making-)[0-9a-f]{8}")

# The seams replace what they watch; what is written here is not to be watched.
_open, _write = os.open, os.write


class Points:
    """Writes down each crossing in the order they come, and ends the process at `crash_at`, whatever is in
    its memory. A crossing is named `<what> #<how often by now>`: its number does not depend on what goes on
    beside it."""

    def __init__(self, log: Path, crash_at: str | None) -> None:
        self._log = _open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._crash_at = crash_at
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def cross(self, what: str) -> None:
        with self._lock:
            self._seen[what] += 1
            name = f"{what} #{self._seen[what]}"
            _write(self._log, f"{name}\n".encode())
            if name == self._crash_at:
                os._exit(CRASHED)


def without_ids(path: str) -> str:
    """The same for the same file of another story."""
    return _IDS.sub("*", path)


def crossed(log: Path) -> list[str]:
    """The names that a process wrote down."""
    return log.read_text().splitlines() if log.exists() else []
