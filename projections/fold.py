"""What a fold is: a name, the type of its rows, which row an event touches, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec

from service.domain.events import Event
from service.domain.events.base import Body

R = TypeVar("R")


@dataclass(frozen=True)
class Fold(Generic[R]):
    """A pure fold over the ledger. Live, rebuilt, as-of and what-if all run the same `evolve`.

    `key(event)` is None for events that do not concern it; otherwise the one row that changes.
    `concerned` is a type of bodies, a union or a tuple of them.
    `evolve(row, event)` gives the row after the event; `row` is None before the first one.
    """

    name: str
    row: type[R]
    key: Callable[[Event], str | None]
    evolve: Callable[[R | None, Event], R]
    #: What `key` answers for, by the type of the body: for all others it is not asked.
    concerned: Any = Body
    #: What counts of a row: an earlier program's may have more than `evolve` keeps now, which nobody reads.
    read_as: Callable[[R], R] = lambda row: row

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[R]:
        return msgspec.json.Decoder(self.row)
