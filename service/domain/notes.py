"""Notes of a synchronisation, as one sentence can hold them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

SAID = 3


def in_short(notes: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(notes) - SAID} more" if len(notes) > SAID else ""
    return f"{'; '.join(notes[:SAID])}{more}"
