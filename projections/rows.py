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
from projections.fold import Fold
from service.domain.events import Event, JobSubmitted

Key = tuple[str, str]

#: Also None is a row that is known.
_NOT_LOADED = object()

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
        self._concerned: dict[type, list[Fold[Any]]] = {}
        self._rows: OrderedDict[Key, Any] = OrderedDict()
        self._touched: dict[Key, int] = {}
        #: Of those that were touched, the ones that the database lacks.
        self._made: set[Key] = set()

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
        folds = self._concerning(type(event.body))
        return [(fold.name, key) for fold in folds if (key := fold.key(event)) is not None]

    def _concerning(self, kind: type) -> list[Fold[Any]]:
        folds = self._concerned.get(kind)
        if folds is None:
            folds = [fold for fold in self._folds if issubclass(kind, fold.concerned)]
            self._concerned[kind] = folds
        return folds

    def fold(self, event: Event, only: Iterable[Key] | None = None) -> None:
        """Apply one event to the rows it touches (to `only` those, when given). All must be loaded."""
        for name, key in self.keys_of(event) if only is None else only:
            row = self._rows[name, key]
            if row is None:
                self._made.add((name, key))
            self._rows[name, key] = FOLDS[name].evolve(row, event)
            self._rows.move_to_end((name, key))
            self._touched[name, key] = event.position

    def fold_at_hand(self, event: Event) -> list[Key]:
        """Apply an event to those of its rows that are loaded; the keys of the others, for `fold`.

        A job that is submitted had no run before, and so no bill of it, which need not be looked for: this is
        for who goes through events as they are, and that there was no such job has been decided.
        """
        rows, missing, kind = self._rows, [], type(event.body)
        for fold in self._concerned.get(kind) or self._concerning(kind):
            key = fold.key(event)
            if key is None:
                continue
            at = (fold.name, key)
            row = rows.get(at, _NOT_LOADED)
            if row is _NOT_LOADED and fold.name == "billing" and kind is JobSubmitted:
                row = None
            if row is _NOT_LOADED:
                missing.append(at)
                continue
            if row is None:
                self._made.add(at)
            rows[at] = fold.evolve(row, event)
            rows.move_to_end(at)
            self._touched[at] = event.position
        return missing

    @property
    def changed(self) -> int:
        """How many rows `take_changed` would answer."""
        return len(self._touched)

    def take_changed(self) -> list[Changed]:
        """The rows changed since the last call, ready to be written."""
        made, changed = self.take_apart()
        return [*made, *changed]

    def take_apart(self) -> tuple[list[Changed], list[Changed]]:
        """The same, those apart that there were none of before."""
        made: list[Changed] = []
        changed: list[Changed] = []
        encode, rows, new = _encoder.encode, self._rows, self._made
        for at, position in self._touched.items():
            row = Changed(*at, position, encode(rows[at]).decode())
            (made if at in new else changed).append(row)
        self._touched.clear()
        new.clear()
        return made, changed

    def trim(self, most: int) -> None:
        """Forget the rows that were used longest ago. Only after the changed ones have been taken."""
        while len(self._rows) > most:
            self._rows.popitem(last=False)

    def items(self) -> Iterable[tuple[Key, Any]]:
        return self._rows.items()
