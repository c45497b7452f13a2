"""`--ssh-public-keys`: a file's keys, or a key's own text. A private key never leaves this machine."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from pathlib import Path

from service.errors import Invalid

OPTION = "--ssh-public-keys"
MOST_BYTES = 64 * 1024

_KEY = re.compile(
    r"(?P<kind>ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp\d+|sk-[a-z0-9-]+@openssh\.com)"
    r"[ \t]+(?P<blob>[A-Za-z0-9+/]+={0,3})(?:[ \t]+[^\r\n]*)?\Z"
)
_PRIVATE = ("PRIVATE KEY", "PuTTY-User-Key-File")
_FORMS = "write a public key's file, such as ~/.ssh/id_ed25519.pub, or its text, ssh-ed25519 AAAA…"


def read(given: Sequence[str]) -> list[str]:
    """The keys that were given, in their order, each once. Raises `Invalid` before anything is sent."""
    return list(dict.fromkeys(key for text in given for key in _keys(text)))


def _keys(text: str) -> list[str]:
    if any(mark in text for mark in _PRIVATE):
        raise Invalid(OPTION, "a private key", f"it stays with you; {_FORMS}")
    if is_key(text.strip()):
        return [text.strip()]
    if text.strip().startswith(("ssh-", "ecdsa-", "sk-")) and " " in text.strip():
        raise Invalid(OPTION, text, f"it is no whole key; {_FORMS}")
    lines = [line.strip() for line in _file(text).splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys or not all(map(is_key, keys)):
        raise Invalid(OPTION, text, f"it holds something else than public keys, one on a line; {_FORMS}")
    return keys


def _file(name: str) -> str:
    """What a file holds, which is never repeated in an error."""
    try:
        path = Path(name).expanduser()
        with path.open("rb") as file:
            held = file.read(MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "it cannot be read"
        raise Invalid(OPTION, name, f"{why}; {_FORMS}") from None
    if any(mark.encode() in held for mark in _PRIVATE):
        beside = path.with_name(f"{path.name}.pub")
        hint = f"give {beside}" if beside.exists() else _FORMS
        raise Invalid(OPTION, name, f"it is a private key, which stays with you; {hint}")
    if len(held) > MOST_BYTES:
        raise Invalid(OPTION, name, f"it is larger than {MOST_BYTES} bytes; {_FORMS}")
    return held.decode(errors="replace")


def is_key(text: str) -> bool:
    """Whether it has the form of a public key: its kind, and a blob that names the same kind."""
    found = _KEY.match(text)
    if found is None:
        return False
    try:
        blob = base64.b64decode(found["blob"], validate=True)
    except binascii.Error:
        return False
    kind = found["kind"].encode()
    return blob.startswith(len(kind).to_bytes(4, "big") + kind)
