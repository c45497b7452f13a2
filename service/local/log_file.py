"""The service's own log: a file of the state directory, or standard error."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.local.places import written_in

#: A file that has grown so large is set aside, in place of the one that was set aside before it.
LIMIT_BYTES = 64 * 1024 * 1024
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_MODE = 0o666  # as of any file that is opened to write: the umask says who reads it


class LogFile:
    """Lines of UTF-8, each written at once and by one call, so that those of several processes stay whole.

    Several processes may write one file, if each opens it for itself; whoever finds it too large sets it
    aside. Nothing is kept here of a line that cannot be written. For one thread at a time.
    """

    def __init__(self, descriptor: int, path: Path | None = None) -> None:
        """`descriptor` of the file; `path` if it is to be set aside when it has grown too large."""
        self.descriptor = descriptor
        self.path = path
        self._torn = False

    def write(self, text: str) -> None:
        """Raises `OSError`."""
        if self.path is not None and os.fstat(self.descriptor).st_size >= LIMIT_BYTES:
            with contextlib.suppress(OSError):  # too large a file is better than no line
                self._turn(self.path)
        # The rest of a line that a full disk cut off is gone: the next one must not continue it.
        rest = memoryview((("\n" if self._torn else "") + text).encode(errors="backslashreplace"))
        while rest:
            written = os.write(self.descriptor, rest)
            self._torn, rest = written < len(rest), rest[written:]

    def flush(self) -> None:
        """Everything is written already."""

    def _turn(self, path: Path) -> None:
        """Goes on in a new file, or in the one that another process has made meanwhile."""
        fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            if path.exists() and os.path.samestat(path.stat(), os.fstat(self.descriptor)):
                path.replace(path.with_name(f"{path.name}.1"))
        finally:  # a child may have the file still, and the lock would last as long
            fcntl.flock(self.descriptor, fcntl.LOCK_UN)
        fresh = os.open(path, _FLAGS, _MODE)
        os.dup2(fresh, self.descriptor, inheritable=os.get_inheritable(self.descriptor))
        os.close(fresh)


@contextmanager
def in_state(path: Path) -> Iterator[LogFile]:
    """A log in the state directory while the context lasts. Raises `Misconfigured` if it cannot be opened."""
    with written_in(path.parent):
        descriptor = os.open(path, _FLAGS, _MODE)
    try:
        yield LogFile(descriptor, path)
    finally:
        os.close(descriptor)


def in_place_of_stderr(path: Path) -> LogFile:
    """The log of a process whose standard error is the log of its parent at `path`: opened by itself."""
    with contextlib.suppress(OSError):  # then it is the parent's
        fresh = os.open(path, _FLAGS, _MODE)
        os.dup2(fresh, 2)
        os.close(fresh)
    return LogFile(2, path)


@contextmanager
def on_stderr() -> Iterator[LogFile]:
    """Standard error as the log while the context lasts."""
    descriptor = os.dup(2)
    try:
        yield LogFile(descriptor)
    finally:
        os.close(descriptor)
