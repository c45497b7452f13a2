"""Cursors: where a list goes on, as text that a client hands back unread."""

from __future__ import annotations

import base64
import binascii

import msgspec

from service.api.errors import Said
from service.api.reads import After
from service.errors import Invalid


class _Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`of`: the order that it belongs to. Another order would make nonsense of it."""

    of: tuple[str, ...]
    position: int
    key: str


_decoder = msgspec.json.Decoder(_Cursor)


def write(of: tuple[str, ...], after: After) -> str:
    text = msgspec.json.encode(_Cursor(of, after.position, after.key))
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def read(field: str, text: str, of: tuple[str, ...]) -> After:
    """Raises `Invalid` for text that is no cursor, or one of a list in another order."""
    try:
        found = _decoder.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise Invalid(field, text, "the one in `links.next`, or empty for the first page") from None
    if found.of != of or not 0 <= found.position < 2**63 or "\0" in found.key:
        raise Invalid(
            field, Said("it belongs to a list in another order"), f"one of this list: {' '.join(of)}"
        )
    return After(found.position, found.key)
