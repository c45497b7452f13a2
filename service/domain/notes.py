"""Notes of a synchronisation, as one sentence can hold them; and what others said, as one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

SAID = 3


def in_short(notes: Sequence[str], count: int) -> str:
    """The first few, and how many more there are: of the `count` in all not each has a note."""
    said = notes[:SAID]
    more = f" and {count - len(said)} more" if count > len(said) else ""
    return f"{'; '.join(said)}{more}"


def as_sentence(text: str) -> str:
    """With a full stop unless it has its end: what engines and disks say has none, and more may follow."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
