"""What files, folders and the output of this machine refuse: one line, as every other error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from service.cli import exits, words


@contextmanager
def local_files() -> Iterator[None]:
    """Around the whole of a command. Leaves with 1 for an `OSError`, which is never the service's here."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # what cannot be written any more is found here and not at Python's end
    except OSError as error:
        _silence_output()
        where = f"{words.shown(os.fsdecode(error.filename))}: " if _names_a_file(error) else ""
        print(f"jobyard: {where}{error.strerror or error}", file=sys.stderr)
        sys.exit(exits.Exit.FAILED)


def _silence_output() -> None:
    """Python says nothing at its end of what stdout does not take any more."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _names_a_file(error: OSError) -> bool:
    return isinstance(error.filename, str | bytes)
