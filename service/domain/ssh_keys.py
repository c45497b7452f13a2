"""OpenSSH public keys, read by hand: which kinds are taken, and what tells two of them apart.

A key is one line, `<kind> <base64> [comment]`, as in an `id_ed25519.pub`. What the base64 holds are fields,
each after its length in four bytes (RFC 4251, 4253, 5656, 8709; OpenSSH's PROTOCOL.u2f for keys in hardware).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from service.errors import Invalid

FIELD = "sshPublicKeys"
MAX_KEYS = 32
MAX_KEY_CHARS = 8192
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 16_384

_ED25519_BYTES = 32
#: Bytes of a coordinate on each curve.
_CURVES = {"nistp256": 32, "nistp384": 48, "nistp521": 66}
_UNCOMPRESSED = b"\x04"
_PRIVATE = "PRIVATE KEY"


class PublicKey(NamedTuple):
    """`blob` is what a client proves to hold; keys are the same when their blobs are."""

    kind: str
    blob: bytes
    comment: str = ""

    @property
    def fingerprint(self) -> str:
        """As `ssh-keygen -l` shows it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return f"SHA256:{digest.rstrip('=')}"

    def __str__(self) -> str:
        line = f"{self.kind} {base64.b64encode(self.blob).decode()}"
        return f"{line} {self.comment}" if self.comment else line


class _Wrong(Exception):
    """What is wrong with a key, in words."""


def read_keys(asked: list[str]) -> tuple[str, ...]:
    """Check keys and write each as one plain line. Raises `Invalid` that names the first wrong one."""
    if len(asked) > MAX_KEYS:
        raise Invalid(FIELD, f"{len(asked)} keys", f"at most {MAX_KEYS}")
    return tuple(str(read_key(f"{FIELD}[{index}]", line)) for index, line in enumerate(asked))


def read_key(field: str, line: str) -> PublicKey:
    """Read one line of an `authorized_keys` that has no options. Raises `Invalid` for `field`."""
    try:
        return parse_key(line)
    except _Wrong as wrong:
        kinds = ", ".join(_READERS)
        given = "a private key" if _PRIVATE in line else line  # which is not to be shown any further
        raise Invalid(field, given, f"{wrong}; a key is '<kind> <base64> [comment]', of {kinds}") from None


def parse_key(line: str) -> PublicKey:
    """As `read_key`; what is wrong is said by an exception of this module."""
    if len(line) > MAX_KEY_CHARS:
        raise _Wrong(f"a key has at most {MAX_KEY_CHARS} characters")
    if _PRIVATE in line:
        raise _Wrong("take another one from now on, and send the file that ends with .pub")
    line = line.strip()
    if not line.isprintable():
        raise _Wrong("each key is one line of plain text")
    kind, *rest = line.split(" ", 2)
    reader = _READERS.get(kind)
    if reader is None:
        raise _Wrong(_why_not(kind, line))
    if not rest:
        raise _Wrong("nothing follows the kind")
    try:
        blob = base64.b64decode(rest[0], validate=True)
    except (binascii.Error, ValueError):
        raise _Wrong("what follows the kind is no base64") from None
    fields = _Fields(blob)
    if fields.text("its kind") != kind:
        raise _Wrong("its base64 is of another kind than the line says")
    reader(fields)
    fields.end()
    return PublicKey(kind, blob, rest[1].strip() if len(rest) > 1 else "")


def _why_not(kind: str, line: str) -> str:
    if kind == "ssh-dss":
        return "DSA keys are too weak"
    if "-cert-v01@openssh.com" in kind:
        return "certificates are not taken"
    if any(f" {known} " in line for known in _READERS):
        return "options before a key are not taken"
    return "its kind is not taken" if kind else "it is empty"


class _Fields:
    """The fields of a blob, one after the other."""

    def __init__(self, blob: bytes) -> None:
        self._left = blob

    def next(self, what: str) -> bytes:
        size = int.from_bytes(self._left[:4], "big")
        if len(self._left) < 4 or len(self._left) - 4 < size:
            raise _Wrong(f"its base64 is cut off in {what}")
        found, self._left = self._left[4 : 4 + size], self._left[4 + size :]
        return found

    def text(self, what: str) -> str:
        try:
            return self.next(what).decode("ascii")
        except UnicodeDecodeError:
            raise _Wrong(f"{what} is no plain text") from None

    def number(self, what: str) -> int:
        """A positive number in its one shortest form."""
        found = self.next(what)
        if not found or found[0] & 0x80 or (found[0] == 0 and (len(found) == 1 or not found[1] & 0x80)):
            raise _Wrong(f"{what} is no positive number in its shortest form")
        return int.from_bytes(found, "big")

    def end(self) -> None:
        if self._left:
            raise _Wrong("something follows the key in its base64")


def _ed25519(fields: _Fields) -> None:
    if len(fields.next("the key")) != _ED25519_BYTES:
        raise _Wrong(f"the key must be {_ED25519_BYTES} bytes")


def _ecdsa(curve: str) -> Callable[[_Fields], None]:
    def read(fields: _Fields) -> None:
        if fields.text("its curve") != curve:
            raise _Wrong("its curve is not the one of its kind")
        point = fields.next("its point")
        if len(point) != 1 + 2 * _CURVES[curve] or not point.startswith(_UNCOMPRESSED):
            raise _Wrong("its point is none of its curve")

    return read


def _rsa(fields: _Fields) -> None:
    exponent, modulus = fields.number("its exponent"), fields.number("its modulus")
    if exponent < 3 or exponent % 2 == 0 or modulus % 2 == 0 or exponent >= modulus:
        raise _Wrong("its numbers are none of an RSA key")
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        allowed = f"an RSA key has {MIN_RSA_BITS} to {MAX_RSA_BITS} bits"
        raise _Wrong(f"{allowed}, this one {modulus.bit_length()}")


def _in_hardware(read: Callable[[_Fields], None]) -> Callable[[_Fields], None]:
    def with_application(fields: _Fields) -> None:
        read(fields)
        if not fields.text("its application"):
            raise _Wrong("its application is empty")

    return with_application


_READERS: Mapping[str, Callable[[_Fields], None]] = {
    "ssh-ed25519": _ed25519,
    **{f"ecdsa-sha2-{curve}": _ecdsa(curve) for curve in _CURVES},
    "ssh-rsa": _rsa,
    "sk-ssh-ed25519@openssh.com": _in_hardware(_ed25519),
    "sk-ecdsa-sha2-nistp256@openssh.com": _in_hardware(_ecdsa("nistp256")),
}
KINDS = tuple(_READERS)
