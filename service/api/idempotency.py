"""`Idempotency-Key`: the same key in the same project names the same command, for ever.

A repeat is answered from the first one's events. The same key with another request is refused by the
ledger, which keeps a keyed digest of the first. A request that was refused has done nothing: its key is
free, and a repeat is decided anew.

The digest of a request that holds a job's secrets is keyed by the job's own key, and goes with it: else
whoever has the project's could still try, after the job was erased, what its secrets might have been.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID, uuid4, uuid5

from aiohttp import web

from service.domain.directory import Token
from service.errors import Invalid
from service.ledger.ledger import Ledger
from service.vault import JobKey

HEADER = "Idempotency-Key"
MOST_CHARS = 255
_NAMESPACE = UUID("5f0c7a4e-7d0e-4c39-9f6a-3a4f0e8b9c11")


@dataclass(frozen=True)
class CommandId:
    """The id of one command, and the digest of the request it came with, of which `parts` are kept."""

    id: UUID
    digest: bytes | None = None
    parts: tuple[bytes, ...] = field(default=(), repr=False)

    def made(self, what: str) -> UUID:
        """The id of something this command makes: a repeat names the same one."""
        return uuid4() if self.digest is None else uuid5(self.id, what)

    def under(self, key: JobKey) -> CommandId:
        """The same with the digest that goes with a job's key."""
        return self if self.digest is None else replace(self, digest=key.digest(*self.parts))


async def command_id(request: web.Request, body: bytes, token: Token, ledger: Ledger) -> CommandId:
    """The id of the request's command; a random one without a key. Raises `Invalid` for a bad key."""
    given = request.headers.getall(HEADER, [])
    if not given:
        return CommandId(uuid4())
    key = given[0]
    if len(given) > 1:
        raise Invalid(HEADER, f"{len(given)} of them", "one header of this name")
    if not 1 <= len(key) <= MOST_CHARS or not (key.isascii() and key.isprintable()):
        raise Invalid(HEADER, key.encode("ascii", "replace").decode(), f"1 to {MOST_CHARS} printable letters")
    sealing = await ledger.keys.of(token.project)
    scope = token.label_selector or ""
    parts = (request.method.encode(), request.path_qs.encode(), scope.encode(), body)
    return CommandId(uuid5(_NAMESPACE, f"{token.project}\0{key}"), sealing.digest(*parts), parts)
