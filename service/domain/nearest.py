"""Which of the known names somebody may have meant. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: How alike two names must be, in `difflib`'s measure: one letter of three may differ, or a transposition.
ALIKE = 0.66
_LONGEST = 64


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The one that is nearest, upper and lower case alike; None where none is really near."""
    spelt = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name[:_LONGEST].lower(), spelt, n=1, cutoff=ALIKE)
    return spelt[close[0]] if close else None


def hint(name: str, known: Iterable[str]) -> str | None:
    """The same as a question."""
    found = nearest(name, known)
    return None if found is None else f"did you mean {found}?"
