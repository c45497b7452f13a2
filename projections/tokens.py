"""`tokens`: one row a token, found by the SHA-256 of its value."""

from __future__ import annotations

from msgspec.structs import replace

from projections.fold import Fold
from service.domain.directory import Token
from service.domain.events import Event, TokenCreated, TokenRenewed, TokenRevoked


def key(event: Event) -> str | None:
    concerned = isinstance(event.body, TokenCreated | TokenRenewed | TokenRevoked)
    return event.body.token_id if concerned else None


def evolve(row: Token | None, event: Event) -> Token:
    match event.body:
        case TokenCreated() as body:
            return Token(
                id=body.token_id,
                project=event.project or "",
                name=body.name,
                role=body.role,
                sha256=body.sha256,
                label_selector=body.label_selector,
                created_at=row.created_at if row else event.recorded_at,
                updated_at=event.recorded_at,
            )
        case TokenRenewed() as body if row is not None:
            return replace(row, sha256=body.sha256, version=row.version + 1, updated_at=event.recorded_at)
        case TokenRevoked() if row is not None:
            return replace(row, revoked=True, updated_at=event.recorded_at)
        case _:
            raise ValueError(f"event {event.position}: {event.type} of a token that does not exist")


FOLD = Fold("tokens", Token, key, evolve, TokenCreated | TokenRenewed | TokenRevoked)
