"""Text of others' making, fit for messages and logs. Pure."""

from __future__ import annotations

_MOST_SAID = 2000


def said(text: str) -> str:
    """What others said, fit for the ledger and for a message: without what cannot be printed, or is no text,
    and about 2,000 characters at most."""
    text = " ".join(text[: 2 * _MOST_SAID].encode("utf-8", "replace").decode().split())
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}…"


def shown(name: str) -> str:
    """`name` fit for a message: one line, printable, at most about 160 characters."""
    text = name.encode("utf-8", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 160 else text[:120] + "…" + text[-39:]
