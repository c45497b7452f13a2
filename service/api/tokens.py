"""/v1/token: who may call. Values are shown once and kept nowhere; only their SHA-256 is."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from service.api import reads, scope, wire
from service.api.auth import new_value, sha256_of
from service.api.call import Call
from service.api.pages import paged
from service.domain import commands as cmd
from service.domain.directory import Token
from service.domain.display_names import check_display_name
from service.domain.events import Event, TokenCreated, TokenRenewed
from service.domain.selectors import Selector, parse_selector
from service.errors import Forbidden, NotFound


async def create(call: Call) -> wire.Token:
    asked: wire.TokenAsked = call.body
    check_display_name("name", asked.name)
    selector = _selector(call.token, asked.label_selector)
    if scope.ROLE_LEVELS[asked.role] > scope.level_of(call.token):
        raise Forbidden(f"role: {asked.role} is above {call.token.role}, the role of your own token")
    identity = await call.command_id()
    value = new_value()
    command = cmd.CreateToken(
        project=call.project,
        token_id=str(identity.made("token")),
        name=asked.name,
        role=asked.role,
        sha256=sha256_of(value),
        label_selector=selector,
    )
    receipt = await call.submit(command, identity)
    return made(receipt.events[0], value)


def _selector(creator: Token, asked: str | None) -> str | None:
    """The new token's selector: what is asked for, and never more than the creator's own."""
    own = scope.selector_of(creator)
    if asked is None:
        return creator.label_selector
    wanted = parse_selector("labelSelector", asked)
    if own is None:
        return _written(wanted)
    spoken_of = {term.name for term in own.terms}
    if any(term.name in spoken_of and term not in own.terms for term in wanted.terms):
        raise Forbidden(f"labelSelector: your own token is limited to {own}; others can only narrow it")
    return _written(Selector(tuple(dict.fromkeys(own.terms + wanted.terms))))


def _written(selector: Selector) -> str:
    """As it is kept, which is longer than it may have been asked for. Raises `Invalid` for what is too long:
    whoever kept it could not be read any more."""
    text = str(selector)
    parse_selector("labelSelector", text)
    return text


async def find(call: Call) -> wire.TokenList:
    found = await call.ledger.tokens(call.project)
    tokens = [token for token in found if _within(call.token, token) and not token.revoked]
    items, metadata = paged(call, [view(token) for token in tokens], call.query)
    return wire.TokenList(items=items, metadata=metadata)


async def get(call: Call) -> wire.Token:
    return view(await _seen(call))


async def renew(call: Call) -> wire.Token:
    """Another value for the token; the old one stops working."""
    token = await _seen(call, revoked=True)
    value = new_value()
    command = cmd.RenewToken(project=call.project, token_id=token.id, sha256=sha256_of(value))
    receipt = await call.submit(command)
    call.service.tokens.forget(token.id)
    renewed = await _seen(call, revoked=True)
    return view(renewed, _own(receipt.events[0], value))


async def revoke(call: Call) -> None:
    token = await _seen(call, revoked=True)
    if token.revoked and await call.recalled() is None:
        raise _unknown(token.id)
    await call.submit(cmd.RevokeToken(project=call.project, token_id=token.id))
    call.service.tokens.forget(token.id)


async def _seen(call: Call, *, revoked: bool = False) -> Token:
    """The token in the path. `revoked`: also one that was, for the repeat of what was done with it before."""
    token_id = str(call.path_id("token"))
    token = await reads.token(call.ledger.pool, token_id)
    if token is None or not _within(call.token, token) or (token.revoked and not revoked):
        raise _unknown(token_id)
    return token


def _unknown(token_id: str) -> NotFound:
    return NotFound(f"there is no token {token_id}")


def _within(caller: Token, token: Token) -> bool:
    """Whether the caller looks after a token: of its project, and of its scope."""
    if token.project != caller.project:
        return False
    own = scope.selector_of(caller)
    if own is None:
        return True
    its = scope.selector_of(token)
    return its is not None and set(own.terms) <= set(its.terms)


def view(token: Token, value: str | UnsetType = UNSET) -> wire.Token:
    return wire.Token(
        id=token.id,
        created_at=token.created_at,
        updated_at=token.updated_at,
        spec=wire.TokenSpec(
            name=token.name,
            role=token.role,  # type: ignore[arg-type]  # the ledger accepts no other
            label_selector=token.label_selector or UNSET,
        ),
        status=wire.TokenStatus(value=value, version=token.version),
    )


def _own(event: Event, value: str) -> str | UnsetType:
    """The value, if it is this event's; the answer to a repeat is without: the first one is kept nowhere.

    A commit whose answer was lost is found again like a repeat, and is this very call's for all that.
    """
    body: TokenCreated | TokenRenewed = event.body
    return value if body.sha256 == sha256_of(value) else UNSET


def made(event: Event, value: str) -> wire.Token:
    """A token as the event that made it tells, with its value if this very call has made it."""
    body: TokenCreated = event.body
    return wire.Token(
        id=body.token_id,
        created_at=event.recorded_at,
        updated_at=event.recorded_at,
        spec=wire.TokenSpec(
            name=body.name,
            role=body.role,  # type: ignore[arg-type]
            label_selector=body.label_selector or UNSET,
        ),
        status=wire.TokenStatus(value=_own(event, value)),
    )
