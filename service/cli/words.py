"""What no word of a command line may be, whatever it stands for."""

from __future__ import annotations

import os

from service.errors import Invalid, Rejected


def check(*words: str) -> None:
    """Raises `Rejected` for a word that is not UTF-8.

    The bytes that are no text come as lone surrogates, which get lost on the way: a prefix without them is
    another prefix, and what would be deleted is not what was named.
    """
    for word in words:
        if not is_text(word):
            raise Rejected(f"{shown(word)}: not UTF-8, as every word is here; nothing was sent")


def check_filled(name: str, word: object) -> None:
    """Raises `Invalid` for a word that is empty, as one is of a variable that is not set."""
    if word == "":
        raise Invalid(name, "", "it is empty; write what it stands for")


def check_given(name: str, word: str | None) -> None:
    """Raises `Invalid` for an option or a variable that is there and empty, which is not absent."""
    if word is not None and not word.strip():
        raise Invalid(name, word, "it is empty; give it a value, or leave it out")


def kept_in(variable: str) -> str | None:
    """What a variable of a secret holds; None where there is no such variable. Raises `Invalid`."""
    kept = os.environ.get(variable)
    check_given(variable, kept)
    return kept


def is_text(word: str) -> bool:
    """Whether it can be sent as it is."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(word: str) -> str:
    """Such a word in plain text, its bytes as `\\xff`."""
    try:
        raw = word.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # these never were bytes
        raw = word.encode(errors="backslashreplace")
    text = raw.decode(errors="backslashreplace")
    return "".join(char if char.isprintable() else "�" for char in text)
