"""What is to go from the cache, given what there is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.supervisor.cache.entry import Key


@dataclass(frozen=True)
class Seen:
    """An entry. `is_busy`: a pull is inside. `in_use`: the generations that live runs have. `leftovers`: what
    attempts that were cut off have left, and since when. `size_of` tells what would be free without some."""

    key: Key
    is_busy: bool
    used_ns: int
    numbers: tuple[int, ...]
    in_use: frozenset[int]
    leftovers: Mapping[str, int]
    size_of: Callable[[Sequence[str]], int]

    def unused(self) -> Iterator[int]:
        return (number for number in self.numbers if number not in self.in_use)


@dataclass(frozen=True)
class Doomed:
    """A generation or a leftover of an entry, by the name of its folder, and why it goes."""

    key: Key
    name: str
    why: str
    size_bytes: int

    @property
    def facts(self) -> dict[str, str | int]:
        return {
            "project": self.key.project,
            "entry": self.key.digest,
            "generation": self.name,
            "why": self.why,
            "bytes": self.size_bytes,
        }


def by_age(seen: Iterable[Seen], now_ns: int, max_age_s: float) -> list[Doomed]:
    """Outdated generations without a user; newest ones and leftovers that nobody wanted for too long."""
    oldest_ns = now_ns - int(max_age_s * 1e9)
    doomed: list[Doomed] = []
    for entry in seen:
        if entry.is_busy:
            continue
        whys = {
            str(number): "outdated" if number != entry.numbers[-1] else "age"
            for number in entry.unused()
            if number != entry.numbers[-1] or entry.used_ns < oldest_ns
        } | {name: "age" for name, since_ns in entry.leftovers.items() if since_ns < oldest_ns}
        doomed += _doomed(entry, whys)
    return doomed


def by_space(seen: Iterable[Seen], excess: int) -> list[Doomed]:
    """What goes so that `excess` bytes less are there: the least recently used first."""
    doomed: list[Doomed] = []
    for entry in sorted(seen, key=lambda each: each.used_ns):
        if excess <= 0:
            break
        if entry.is_busy:
            continue
        whys = dict.fromkeys((*entry.leftovers, *map(str, entry.unused())), "space")
        some = _doomed(entry, whys)
        excess -= sum(each.size_bytes for each in some)
        doomed += some
    return doomed


def _doomed(entry: Seen, whys: Mapping[str, str]) -> list[Doomed]:
    """Each with what is free once it and those before it are gone: hard links count once."""
    doomed: list[Doomed] = []
    freed = 0
    for count, (name, why) in enumerate(whys.items(), 1):
        total = entry.size_of(list(whys)[:count])
        doomed.append(Doomed(entry.key, name, why, total - freed))
        freed = total
    return doomed
