"""Files that a command writes for its user alone: they hold digests, addresses, ciphertext or money."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600


@contextmanager
def private_file(into: Path) -> Iterator[BinaryIO]:
    """The whole file or none, whatever was there; readable by its owner alone. Raises `OSError`."""
    draft = into.with_name(f".{into.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(into)) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(into)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        raise
