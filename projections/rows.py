"""A working set of fold rows: what has been loaded, what has changed, and the folding itself.

Pure. The ledger's writer loads rows into it, folds events through it, and writes the changed ones back;
a rebuild does the same over the whole ledger; as-of and what-if over a part of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from projections.catalogue import FOLDS
from service.domain.events import Event

Key = tuple[str, str]

_encoder = msgspec.json.Encoder(order="deterministic")


class Changed(NamedTuple):
    """One row to write: JSON text, and the position of the event that last touched it."""

    fold: str
    key: str
    position: int
    row: str


class Rows:
    """Rows by fold and key. `None` stands for a row that is known not to exist."""

    def __init__(self, folds: Iterable[str] = FOLDS) -> None:
        self._folds = [FOLDS[name] for name in folds]
        self._rows: OrderedDict[Key, Any] = OrderedDict()
        self._touched: dict[Key, int] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, fold: str, key: str | None) -> Any:
        """The row, or None. It must have been loaded, or be known to be absent."""
        return None if key is None else self._rows[fold, key]

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Those of the keys that have not been loaded yet."""
        return [key for key in dict.fromkeys(keys) if key not in self._rows]

    def put(self, fold: str, key: str, row: str | bytes | None) -> None:
        """A row as the database has it; None when it has none."""
        self._rows[fold, key] = None if row is None else FOLDS[fold].decoder.decode(row)

    def keys_of(self, event: Event) -> list[Key]:
        """The rows an event touches, at most one a fold."""
        found = ((fold.name, fold.key(event)) for fold in self._folds)
        return [(name, key) for name, key in found if key is not None]

    def fold(self, event: Event, only: Iterable[Key] | None = None) -> None:
        """Apply one event to the rows it touches (to `only` those, when given). All must be loaded."""
        for name, key in self.keys_of(event) if only is None else only:
            evolved = FOLDS[name].evolve(self._rows[name, key], event)
            self._rows[name, key] = evolved
            self._rows.move_to_end((name, key))
            self._touched[name, key] = event.position

    def take_changed(self) -> list[Changed]:
        """The rows changed since the last call, ready to be written."""
        changed = [
            Changed(fold, key, position, _encoder.encode(self._rows[fold, key]).decode())
            for (fold, key), position in self._touched.items()
        ]
        self._touched.clear()
        return changed

    def trim(self, most: int) -> None:
        """Forget the rows that were used longest ago. Only after the changed ones have been taken."""
        while len(self._rows) > most:
            self._rows.popitem(last=False)

    def items(self) -> Iterable[tuple[Key, Any]]:
        return self._rows.items()
