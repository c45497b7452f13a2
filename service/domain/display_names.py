"""Names that people are shown, as of tokens and projects: any letters, and nothing that cannot be seen. Pure.

A character that turns round what follows it, or that has no width, makes a name look like another one. This
is asked where a name comes in, and not by `decide`: older ledgers have others, and their history is decided
again.
"""

from __future__ import annotations

import unicodedata

from service.errors import Invalid

MAX_CHARS = 255
#: Control and format characters, private ones, halves of surrogate pairs, ends of lines and of paragraphs.
_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})

PLAIN = "none of them a control or format character"


def is_plain(text: str) -> bool:
    """Whether each character of a text can be seen, or is a space."""
    return not any(unicodedata.category(char) in _UNSEEN for char in text)


def check_display_name(field: str, name: str) -> None:
    """Raise `Invalid` for a name that is empty, too long, not all to be seen, or blank."""
    if not 1 <= len(name) <= MAX_CHARS or not is_plain(name):
        raise Invalid(field, name, f"1 to {MAX_CHARS} characters of plain text, {PLAIN}")
    if not name.strip():  # of any script's blanks
        raise Invalid(field, name, f"it is blank; 1 to {MAX_CHARS} characters, of which one can be seen")
