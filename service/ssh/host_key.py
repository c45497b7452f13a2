"""The key by which clients know this service again: made once, kept in the state directory."""

from __future__ import annotations

import stat
from pathlib import Path

import asyncssh

from service.errors import Misconfigured
from service.files import make_once

KIND = "ssh-ed25519"


def host_key(path: Path) -> asyncssh.SSHKey:
    """The key in `path`, which is made when there is none. Of several that make it at once, the first counts.

    Raises `Misconfigured` for one that cannot be read: a new one in its place would look like an attack.
    """
    try:
        if not path.exists():
            key = asyncssh.generate_private_key(KIND, comment="jobyard")
            make_once(path, key.export_private_key(), 0o600)
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise Misconfigured(f"the SSH host key {path} can be read by others: chmod 600 it, or replace it")
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise Misconfigured(
            f"the SSH host key {path} cannot be read: {why}; put it right,"
            " or remove it and tell all users that it changes"
        ) from error
