"""What the ledger can hold: JSON whose sorted encoding is canonical (RFC 8785), and that Postgres can keep.

Our encoder and RFC 8785 differ in two things, and Postgres lacks one: so these are refused before they are
hashed. Whole numbers beyond 2**53 have no one form among readers that take numbers for floats. Keys are
sorted by code point here and by UTF-16 unit there, which is another order beyond U+FFFF. And a NUL has no
place in Postgres's text.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

MAX_INTEGER = 2**53 - 1

#: The first bytes of what is encoded in four.
_FOUR_BYTES = re.compile(rb"[\xf0-\xf4]")
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_SIXTEEN = b"0" * 16


def problem(body: bytes) -> str | None:
    """What keeps this JSON out of the ledger, in words; None when nothing does."""
    return _problem(msgspec.json.decode(body)) if _is_suspect(body) else None


def _is_suspect(body: bytes) -> bool:
    """What may be wrong shows in the bytes; most bodies have none of it and need no second look.

    Every event passes here under the head lock, so no expression goes over it byte by byte.
    """
    return (
        b"\\u0000" in body
        or _SIXTEEN in body.translate(_DIGITS)
        or (not body.isascii() and _FOUR_BYTES.search(body) is not None)
    )


def _problem(value: Any) -> str | None:
    match value:
        case str():
            return "a text with a NUL character" if "\0" in value else None
        case bool() | None:
            return None
        case int():
            return None if abs(value) <= MAX_INTEGER else "a whole number beyond 2**53"
        case list():
            return next(filter(None, map(_problem, value)), None)
        case dict():
            if any(ord(char) > 0xFFFF for key in value for char in key):
                return "a name with a character beyond U+FFFF"
            return next(filter(None, map(_problem, [*value, *value.values()])), None)
        case _:
            raise TypeError(f"JSON does not hold a {type(value).__name__}")
