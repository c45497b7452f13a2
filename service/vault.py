"""Sealing secrets, and signing what the ledger was: the keys of the service, and what they do.

Secrets are sealed by AES-256-GCM under a key of the job or of the project. A job's key lies sealed under its
project's, and that under the master key, so that destroying one destroys all that is below it. The master
key is outside the database; the others are outside the ledger. What is bound into each box as associated
data is the project, and the job, so that a ciphertext cannot be moved to another.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from pathlib import Path
from uuid import UUID

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.domain.spec import Sealed
from service.errors import Misconfigured, Unavailable
from service.files import make_once

KEY_BYTES = 32
_NONCE_BYTES = 12


class Secret(str):
    """Text that must not be shown. Its repr says so; formatting it is the only way to read it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(...)"


class SealingKey:
    """What seals and opens, for one owner: `bound` names it, and is in every box."""

    def __init__(self, key_id: str, bound: str, key: bytes) -> None:
        self.id = key_id
        self._bound = bound.encode()
        self._key = key
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r})"

    def seal(self, text: str) -> Sealed:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        box = self._cipher.encrypt(nonce, text.encode(), self._bound)
        return Sealed(self.id, base64.b64encode(nonce).decode(), base64.b64encode(box).decode())

    def open(self, sealed: Sealed) -> Secret:
        """The text again. Raises `Misconfigured` when the box is not of this key, or was changed."""
        if sealed.key_id != self.id:
            raise Misconfigured(f"a secret is sealed under key {sealed.key_id}, not {self.id}")
        try:
            text = self._cipher.decrypt(
                base64.b64decode(sealed.nonce), base64.b64decode(sealed.box), self._bound
            )
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise Misconfigured(f"a secret under key {self.id} cannot be opened") from error
        return Secret(text.decode())

    def digest(self, *parts: bytes) -> bytes:
        """A keyed digest of a request: it tells a repeat from another one, and gives away no secret in it."""
        mac = hmac.new(self._key, digestmod="sha256")
        for part in parts:
            mac.update(len(part).to_bytes(8, "big"))
            mac.update(part)
        return mac.digest()


class JobKey(SealingKey):
    """The key of one job of a project."""

    def __init__(self, key_id: str, project: str, job: UUID, key: bytes) -> None:
        super().__init__(key_id, f"jobyard/{project}/{job}", key)


class ProjectKey(SealingKey):
    """The key of one project; the keys of its jobs lie sealed under it."""

    def __init__(self, key_id: str, project: str, key: bytes) -> None:
        super().__init__(key_id, f"jobyard/{project}", key)

    def wrap(self, job: UUID, key: bytes) -> tuple[bytes, bytes]:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce, self._cipher.encrypt(nonce, key, self._of_job(job))

    def unwrap(self, job: UUID, nonce: bytes, box: bytes) -> bytes:
        try:
            return self._cipher.decrypt(nonce, box, self._of_job(job))
        except InvalidTag as error:
            raise Misconfigured(f"the key of job {job} is not sealed under key {self.id}") from error

    def _of_job(self, job: UUID) -> bytes:
        return self._bound + f"/key/{job}".encode()


class MasterKey:
    """Seals the projects' keys."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise Misconfigured(f"the master key must be {KEY_BYTES} bytes")
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return "MasterKey(...)"

    def wrap(self, project: str, key: bytes) -> tuple[bytes, bytes]:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce, self._cipher.encrypt(nonce, key, project.encode())

    def unwrap(self, project: str, nonce: bytes, box: bytes) -> bytes:
        try:
            return self._cipher.decrypt(nonce, box, project.encode())
        except InvalidTag as error:
            raise Misconfigured(
                f"the key of project {project} was sealed under another master key than this one: give that "
                "one as JOBYARD_MASTER_KEY, or the state directory in which it was made"
            ) from error


class SigningKey:
    """Signs checkpoints: Ed25519."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != KEY_BYTES:
            raise Misconfigured(f"the key that signs checkpoints must be {KEY_BYTES} bytes")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return "SigningKey(...)"

    def sign(self, text: bytes) -> bytes:
        return self._key.sign(text)


def is_signed(public: bytes, signature: bytes, text: bytes) -> bool:
    """Whether the signature of a text is by the key with this public half."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


def master_key(configured: str | None, path: Path) -> MasterKey:
    """The configured key (base64), or the one kept in `path`, which is made when there is none."""
    return MasterKey(_configured_or_kept("JOBYARD_MASTER_KEY", configured, "master key", path))


def signing_key(configured: str | None, path: Path) -> SigningKey:
    """As `master_key`, of the key that signs checkpoints."""
    return SigningKey(_configured_or_kept("JOBYARD_CHECKPOINT_KEY", configured, "checkpoint key", path))


def _configured_or_kept(name: str, configured: str | None, what: str, path: Path) -> bytes:
    if configured is not None:  # an empty one is no key, and none is made in its place
        try:
            return base64.b64decode(configured, validate=True)
        except ValueError as error:  # binascii.Error, or characters that are not ASCII
            raise Misconfigured(f"{name} must be 32 bytes in base64") from error
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return make_once(path, new_key(), 0o600)  # safe on the disk before it is used: what it seals will be
    except OSError as error:
        raise Unavailable(f"the {what} {path} cannot be read: {error.strerror}") from error
