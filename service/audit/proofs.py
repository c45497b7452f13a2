"""Proofs: that one event is in the ledger that was signed. Whoever checks one needs nothing but the key.

SHA-256(previous hash + canonical JSON of the event) is the event's hash; that is the data of leaf
`position - 1`; the path leads from the leaf to the root of the checkpoint; the checkpoint is signed.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from service.domain import merkle
from service.domain.checkpoint import Checkpoint, NotACheckpoint, PublicKey, read_note
from service.domain.merkle import HASH_BYTES
from service.errors import LedgerCorrupt, Unreadable
from service.ledger.chain import UNREADABLE
from service.vault import is_signed

_sorted = msgspec.json.Encoder(order="sorted")
_NO_PROOF = "it is no proof that `jobyard audit prove` wrote"


class Proof(msgspec.Struct, frozen=True, rename="camel", kw_only=True, forbid_unknown_fields=True):
    """One event with what proves it. Hashes are hex; `checkpoint` is a signed note."""

    format: Literal["jobyard-audit-proof/1"] = "jobyard-audit-proof/1"
    position: int
    event: msgspec.Raw
    previous: str
    hash: str
    proof: list[str]
    checkpoint: str


class Stood(msgspec.Struct, frozen=True):
    """What a proof proves: this event, at this position, under this checkpoint."""

    event: dict[str, Any]
    checkpoint: Checkpoint


def unhexed(text: str) -> bytes | None:
    """A hash from its hex, or None for what is none."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return None
    return found if len(found) == HASH_BYTES and found.hex() == text else None


def signed_checkpoint(text: str, key: PublicKey | None) -> Checkpoint:
    """A checkpoint from its note; with a key, only one that it signed. Raises `NotACheckpoint`."""
    note = read_note(text)
    if key is None:
        return note.checkpoint
    if note.checkpoint.origin != key.name or note.name != key.name:
        raise NotACheckpoint(f"it is of {note.checkpoint.origin}, and the key is of {key.name}")
    if note.key_id != key.id or not is_signed(key.key, note.signature, note.checkpoint.text.encode()):
        raise NotACheckpoint("its signature is not by the key")
    return note.checkpoint


def is_included(position: int, chain_hash: bytes, path: list[str], checkpoint: Checkpoint) -> bool:
    """Whether the path leads from an event's hash to the root."""
    siblings = [unhexed(each) for each in path]
    if None in siblings:
        return False
    leaf = merkle.leaf(chain_hash)
    root = merkle.root_by_path(position - 1, checkpoint.size, leaf, [each for each in siblings if each])
    return root == checkpoint.root


def check(data: bytes, key: PublicKey) -> Stood:
    """What a proof's file proves. Raises `Unreadable` for none, `LedgerCorrupt` for a false one."""
    try:
        proof = msgspec.json.decode(data, type=Proof)
        # As it was hashed, whatever white space somebody has put into the file since.
        event = msgspec.json.decode(proof.event, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise Unreadable(f"{_NO_PROOF}: {error}") from error
    except UNREADABLE as error:
        raise Unreadable(f"{_NO_PROOF}: it is not JSON: {error or type(error).__name__}") from error
    at = proof.position
    try:
        checkpoint = signed_checkpoint(proof.checkpoint, key)
    except NotACheckpoint as error:
        raise LedgerCorrupt(at, f"event {at}: the checkpoint does not hold: {error}") from error
    previous, own = unhexed(proof.previous), unhexed(proof.hash)
    computed = hashlib.sha256((previous or b"") + _sorted.encode(event)).digest()
    if previous is None or own != computed:
        raise LedgerCorrupt(at, f"event {at} does not match its hash")
    if event.get("position") != at:
        raise LedgerCorrupt(at, f"event {at} says that it is at {event.get('position')}")
    if not is_included(at, computed, proof.proof, checkpoint):
        raise LedgerCorrupt(at, f"event {at} is not in the tree of the checkpoint of size {checkpoint.size}")
    return Stood(event, checkpoint)


def written(proof: Proof) -> bytes:
    """A proof as the file that `check` reads: canonical JSON, one line."""
    return _sorted.encode(proof) + b"\n"
