"""Values that are kept up to a number of bytes: the one that was not asked for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")


class _Entry(NamedTuple, Generic[V]):
    value: V
    size_bytes: int


class Kept(Generic[V]):
    """`most_bytes` is the sum of what its entries were said to take; one that takes more is not kept."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._entries: OrderedDict[str, _Entry[V]] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> V | None:
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found.value

    def put(self, key: str, value: V, size_bytes: int) -> None:
        self.drop(key)
        if size_bytes > self._most_bytes:
            return
        self._entries[key] = _Entry(value, size_bytes)
        self.size_bytes += size_bytes
        while self.size_bytes > self._most_bytes:
            _, gone = self._entries.popitem(last=False)
            self.size_bytes -= gone.size_bytes

    def drop(self, key: str) -> None:
        gone = self._entries.pop(key, None)
        if gone is not None:
            self.size_bytes -= gone.size_bytes

    def clear(self) -> None:
        self._entries.clear()
        self.size_bytes = 0
