"""What everybody on the machine may see of a process, and what its owner may."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """Its name, its arguments and its environment, as /proc has them."""

    name: str
    words: bytes
    variables: bytes


def spied(folder: Path) -> list[Seen]:
    """Living processes that work in a folder or below it."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if (each / "cwd").readlink().is_relative_to(folder):
                name = (each / "comm").read_text().strip()
                found.append(Seen(name, (each / "cmdline").read_bytes(), (each / "environ").read_bytes()))
        except OSError:
            continue  # it ended just now
    return found
