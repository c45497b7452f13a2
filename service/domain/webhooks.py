"""Webhooks: where a project's events are brought to, which of them, and what signs them.

Source: Standard Webhooks, github.com/standard-webhooks/standard-webhooks, "Signature scheme".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec

from service.domain.selectors import parse_selector
from service.domain.spec import Sealed
from service.domain.states import State
from service.domain.weburls import HTTPS_PORT, WebUrl, read_https
from service.errors import Invalid

MOST_WEBHOOKS = 16
"""Of a project."""
MOST_FILTERED = 100
"""Names in one list of a filter."""
MAX_DESCRIPTION_CHARS = 500
MOST_SECRETS = 3
"""That sign at the same time."""
MOST_OVERLAP_S = 7 * 86_400
SECRET_PREFIX = "whsec_"  # noqa: S105 (what secrets begin with)
HTTP_PORT = 80

Scheme = Literal["https", "http"]
_PORT = re.compile(r"\Ahttp://[^/?#]*:[0-9]+(?:[/?#]|\Z)")
_ALLOWED = "write https://HOST[:PORT][/PATH], without a user or a fragment"


class Wanted(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Which events a webhook gets. All that are named must hold; an empty one asks for nothing.

    `types` are names of events, `states` those that a job comes into, `jobs` ids.
    """

    types: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    jobs: tuple[UUID, ...] = ()
    label_selector: str | None = None


class Signing(msgspec.Struct, frozen=True):
    """A secret that signs, until a time (None: until it is replaced)."""

    secret: Sealed
    until: datetime | None = None


class Pause(msgspec.Struct, frozen=True):
    """Why and since when nothing is delivered. `code` is one of `WebhookPaused`."""

    code: str
    message: str
    since: datetime


class Start(msgspec.Struct, frozen=True):
    """Everything `after` a position is to be delivered: the event at `by` said so. Each has its own `by`."""

    by: int
    after: int


class Webhook(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """One webhook. `touched` is the position of the last event about it; secrets have the newest first."""

    id: str
    place: str
    url: Sealed
    wanted: Wanted
    description: str
    secrets: tuple[Signing, ...]
    start: Start
    touched: int
    created_at: datetime
    updated_at: datetime
    paused: Pause | None = None

    def signing(self, now: datetime) -> list[Sealed]:
        """The secrets that sign at a time, the newest first."""
        return [each.secret for each in self.secrets if each.until is None or each.until > now]


class Webhooks(msgspec.Struct, frozen=True, rename="camel"):
    """A project's webhooks, by id."""

    project: str
    hooks: dict[str, Webhook] = {}


class WebhookUrl(NamedTuple):
    """A webhook's URL in its parts."""

    scheme: Scheme
    at: WebUrl

    @property
    def place(self) -> str:
        """Scheme, host and port: what may be shown to everybody."""
        host = f"[{self.at.host}]" if ":" in self.at.host else self.at.host
        usual = HTTPS_PORT if self.scheme == "https" else HTTP_PORT
        return f"{self.scheme}://{host}{'' if self.at.port == usual else f':{self.at.port}'}"

    @property
    def text(self) -> str:
        return f"{self.place}{self.at.path}{self.at.query}"


def read_webhook_url(field: str, url: str, *, http: bool = False) -> WebhookUrl:
    """Read `https://host[:port]/path[?query]`, or `http://` where that is taken. Raises `Invalid`."""
    plain = http and url.startswith("http://")
    try:
        at, fragment = read_https(field, "https" + url[len("http") :] if plain else url, _ALLOWED)
    except Invalid as error:
        raise Invalid(field, url.partition("?")[0] if plain else error.given, error.allowed) from None
    if fragment is not None:
        raise Invalid(field, url.partition("?")[0], _ALLOWED)
    if plain and not _PORT.match(url):
        at = at._replace(port=HTTP_PORT)
    return WebhookUrl("http" if plain else "https", at)


def check_wanted(wanted: Wanted, known_types: Iterable[str]) -> None:
    """Raise `Invalid` for a filter that names what there is not, or too much."""
    known = frozenset(known_types)
    for index, name in enumerate(wanted.types):
        if name not in known:
            raise Invalid(f"types[{index}]", name, f"the types of events are {', '.join(sorted(known))}")
    for field, names in (("types", wanted.types), ("states", wanted.states), ("jobs", wanted.jobs)):
        if len(names) > MOST_FILTERED:
            raise Invalid(field, f"{len(names)} of them", f"at most {MOST_FILTERED}")
    if wanted.label_selector is not None:
        parse_selector("labelSelector", wanted.label_selector)


def check_description(text: str) -> None:
    """Raise `Invalid` for one that is too long, or no plain text."""
    if len(text) > MAX_DESCRIPTION_CHARS or not text.isprintable():
        raise Invalid("description", text, f"at most {MAX_DESCRIPTION_CHARS} printable characters")


def message_id(ledger_id: UUID, webhook_id: str, position: int) -> str:
    """The same for every attempt and every replay, and for nothing else. It must hold no dot."""
    return f"msg_{ledger_id.hex}_{UUID(webhook_id).hex}_{position}"


def signature(secrets: Iterable[str], message_id: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: one for each secret (`whsec_<base64>`). `timestamp` is Unix seconds."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_signed(secret, signed)}" for secret in secrets)


def _signed(secret: str, text: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
