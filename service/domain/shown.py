"""Text of others' making, fit for messages and logs. Pure."""

from __future__ import annotations


def shown(name: str) -> str:
    """`name` fit for a message: one line, printable, at most about 160 characters."""
    text = name.encode("utf-8", "backslashreplace").decode()
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 160 else text[:120] + "…" + text[-39:]
