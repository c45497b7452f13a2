"""The key by which clients know this service again: made once, kept in the state directory."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

import asyncssh

from service.errors import Misconfigured

KIND = "ssh-ed25519"


def host_key(path: Path) -> asyncssh.SSHKey:
    """The key in `path`, which is made when there is none. Of several that make it at once, the first counts.

    Raises `Misconfigured` for one that cannot be read: a new one in its place would look like an attack.
    """
    try:
        if not path.exists():
            _make(path)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Misconfigured(f"the SSH host key {path} can be read by others: chmod 600 it, or replace it")
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Misconfigured(
            f"the SSH host key {path} cannot be read: {why}; put it right,"
            " or remove it and tell all users that it changes"
        ) from error


def _make(path: Path) -> None:
    """Write a new key so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: a draft that a killed process left, maybe of our own pid, must not be in the way.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(asyncssh.generate_private_key(KIND, comment="jobyard").export_private_key())
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process made it first
            os.link(draft, path)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # or a power cut takes it along, and clients meet another
    finally:
        os.close(folder)
