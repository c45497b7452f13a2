"""What clients were answered, written down at once: what was acknowledged must be there at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

What = Literal["submit", "kill", "start", "delete"]


class Answer(msgspec.Struct, frozen=True):
    """An acknowledged order: its Idempotency-Key, and the job that it was about or that it made."""

    key: str
    what: What
    job: str
    kind: str
    status: int


class Journal:
    """A file with a line for each answer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab", buffering=0)

    def note(self, answer: Answer) -> None:
        self._file.write(msgspec.json.encode(answer) + b"\n")

    def close(self) -> None:
        self._file.close()

    def answers(self) -> list[Answer]:
        """All that was written, read back from the file."""
        return [msgspec.json.decode(line, type=Answer) for line in self.path.read_bytes().splitlines()]
