"""A copy of a folder, told from the one that it was made of: its parts may run there still."""

from __future__ import annotations

from pathlib import Path

from service.local import places

#: Where a folder was made, and as what: a copy brings both along, and is neither.
_MADE = "made.as"


def is_copy(folder: Path) -> bool:
    """Whether `folder` was copied since `mark`. One that was moved or renamed is the same as before; what
    was put back at its place from a copy takes its place. Without a mark nobody knows: then it is none."""
    try:
        number, path = (folder / _MADE).read_text().rstrip("\n").split("\n", 1)
    except (FileNotFoundError, ValueError):
        return False
    return number != _number(folder) and path != str(folder.resolve())


def mark(folder: Path) -> None:
    """Says that `folder` is no copy (any more)."""
    text = f"{_number(folder)}\n{folder.resolve()}\n"
    record = folder / _MADE
    if not record.exists() or record.read_text() != text:
        places.write_whole(record, text)


def _number(folder: Path) -> str:
    found = folder.stat()
    return f"{found.st_dev}:{found.st_ino}"
