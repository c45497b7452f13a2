"""Checkpoints: what the whole ledger was at a size, as text to be signed, and the text with its signature.

The formats are C2SP's `tlog-checkpoint` and `signed-note`, with a key of the type Ed25519 (0x01), so that
other programs read them too. Nothing is signed here: that takes a key, and `service.vault` has those.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from service.domain.merkle import HASH_BYTES
from service.errors import Invalid

#: The type of a key and its signatures in a note.
_ED25519 = b"\1"
_ID_BYTES = 4
_SIGNATURE_BYTES = 64
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_NUMBER = r"0|[1-9][0-9]{0,18}"
_TEXT = re.compile(
    rf"(?P<origin>[^\s+]+)\n(?P<size>{_NUMBER})\n(?P<root>[A-Za-z0-9+/]{{43}}=)\n"
    rf"chain (?P<chain>[A-Za-z0-9+/]{{43}}=)\nepoch (?P<epoch>{_NUMBER})\n"
    rf"previous (?P<previous>{_NUMBER})\n"
    r"time (?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)\n"
)
_SIGNED = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+=*)\n")
_KEY_WANTED = "the line that `jobyard audit key` prints: NAME+ID+KEY, or a file that holds it"


class Checkpoint(NamedTuple):
    """The ledger `origin` had `size` events, whose tree has the root `root` and whose last hash is `chain`.

    `epoch` is the ledger's; `previous` the size of the checkpoint before this one at the same place (0:
    none); `at` when it was made, by the database's clock.
    """

    origin: str
    size: int
    root: bytes
    chain: bytes
    epoch: int
    previous: int
    at: datetime

    @property
    def text(self) -> str:
        """What is signed."""
        return (
            f"{self.origin}\n{self.size}\n{_base64(self.root)}\nchain {_base64(self.chain)}\n"
            f"epoch {self.epoch}\nprevious {self.previous}\ntime {self.at.astimezone(UTC).strftime(_TIME)}\n"
        )


class Note(NamedTuple):
    """A checkpoint with its one signature: the name and the id of the key that is said to have made it."""

    checkpoint: Checkpoint
    name: str
    key_id: bytes
    signature: bytes

    @property
    def text(self) -> str:
        return f"{self.checkpoint.text}\n— {self.name} {_base64(self.key_id + self.signature)}\n"


class NotACheckpoint(ValueError):
    """The text is none, or not to the byte."""


class PublicKey(NamedTuple):
    """Who signs: a name, which is the origin of the checkpoints, and 32 bytes of Ed25519."""

    name: str
    key: bytes

    @property
    def id(self) -> bytes:
        """By which a signature names its key."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.key).digest()[:_ID_BYTES]

    @property
    def text(self) -> str:
        """For whoever verifies to keep: the `vkey` of a signed note."""
        return f"{self.name}+{self.id.hex()}+{_base64(_ED25519 + self.key)}"


def origin_of(ledger_id: UUID) -> str:
    """What a ledger's checkpoints begin with."""
    return f"jobyard/{ledger_id}"


def id_in(origin: str) -> str:
    """The ledger's id in what its checkpoints begin with; all of it where it is of no such form."""
    return origin.removeprefix("jobyard/")


def read_key(text: str) -> PublicKey:
    """A key from its text. Raises `Invalid`."""
    name, _, rest = text.strip().partition("+")
    raw = rest.partition("+")[2]
    try:
        decoded = base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    found = PublicKey(name, decoded[1:])
    if decoded[:1] != _ED25519 or len(found.key) != HASH_BYTES or found.text != text.strip():
        raise Invalid("key", text, _KEY_WANTED)
    return found


def read_note(text: str) -> Note:
    """A signed checkpoint from its text. Whether the signature holds is not looked at.

    Raises `NotACheckpoint` for anything that is not, to the byte, what `Note.text` writes.
    """
    found = _TEXT.match(text)
    signed = _SIGNED.fullmatch(text, found.end() + 1) if found and text[found.end() :][:1] == "\n" else None
    if found is None or signed is None:
        raise NotACheckpoint("it is no checkpoint with one signature")
    try:
        checkpoint = Checkpoint(
            origin=found["origin"],
            size=int(found["size"]),
            root=base64.b64decode(found["root"]),
            chain=base64.b64decode(found["chain"]),
            epoch=int(found["epoch"]),
            previous=int(found["previous"]),
            at=datetime.strptime(found["time"], _TIME).replace(tzinfo=UTC),
        )
        blob = base64.b64decode(signed[2], validate=True)
    except ValueError as error:
        raise NotACheckpoint(f"it is no checkpoint: {error}") from error
    note = Note(checkpoint, signed[1], blob[:_ID_BYTES], blob[_ID_BYTES:])
    if len(note.signature) != _SIGNATURE_BYTES or note.text != text:
        raise NotACheckpoint("it is not written as a checkpoint is")
    return note


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
