"""What every command is, and how one travels to the ledger."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every command. `project` is None for those about the whole yard."""

    project: str | None = None


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A command on its way to the ledger, with who sent it and the id by which it is known for ever.

    `client_address` is where the request came from. `digest` tells a repeat of the same request from another
    one under the same id; None skips the check.
    """

    id: UUID
    command: Any
    actor: str
    request_id: str | None = None
    client_address: str | None = None
    digest: bytes | None = None
