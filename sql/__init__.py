"""The SQL of Jobyard: migrations in order, and queries by name.

A file of `sql/queries` holds blocks that begin with `-- name: read_after`; `queries("events")` gives
them as attributes: `queries("events").read_after`. A name that is missing fails at import, not in use.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parent
_NAME = re.compile(r"^-- name: ([a-z_]+)\s*$", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class Queries:
    """The named statements of one file."""

    def __init__(self, noun: str, statements: dict[str, str]) -> None:
        self._noun = noun
        self._statements = statements

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"sql/queries/{self._noun}.sql has no statement {name!r}") from None


@lru_cache
def queries(noun: str) -> Queries:
    parts = _NAME.split((_ROOT / "queries" / f"{noun}.sql").read_text())[1:]
    return Queries(noun, {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)})


class Migration(NamedTuple):
    version: int
    name: str
    text: str
    sha256: str


def migrations() -> list[Migration]:
    """Every migration, in order. They only go forward."""
    found = []
    for path in sorted((_ROOT / "migrations").glob("*.sql")):
        match = _MIGRATION.fullmatch(path.name)
        if match is None:
            raise ValueError(f"{path.name}: a migration is named 0001_what.sql")
        text = path.read_text()
        found.append(Migration(int(match[1]), match[2], text, hashlib.sha256(text.encode()).hexdigest()))
    return found
