"""Query parameters as a typed struct. Unknown ones are ignored; a bad value is refused by its name."""

from __future__ import annotations

from datetime import datetime
from enum import EnumType
from typing import Annotated, Any, NamedTuple, get_args
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web
from msgspec import inspect as mi

from service.api.errors import Said
from service.domain.times import with_zone
from service.errors import Invalid


class Query(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of every set of parameters. A field of a list type may stand more than once."""


#: A moment of the ledger: a position, or a time with its zone. `service.ledger.asof` finds what it means.
Moment = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | Annotated[datetime, msgspec.Meta(tz=True)]


class AsOfAsked(Query, frozen=True):
    """`asOf` answers as of a moment of the past: a position of the ledger, or a time (RFC 3339)."""

    as_of: Moment | None = None


class _Field(NamedTuple):
    """A parameter: its name here and on the wire, its type twice, in words what may stand there, and whether
    it must be there."""

    name: str
    wire: str
    kind: Any
    info: mi.Type
    wanted: str
    required: bool


class QueryReader:
    """Reads the parameters of one `Query` type. Raises `TypeError` for one that has a type without words."""

    def __init__(self, kind: type[Query]) -> None:
        self._kind = kind
        #: What nothing asks for; made once, as it is frozen.
        self._bare: Any = None
        fields = zip(msgspec.structs.fields(kind), mi.type_info(kind).fields, strict=True)  # type: ignore[attr-defined]
        self._fields = [
            _Field(field.name, field.encode_name, field.type, info.type, _wanted(info.type), field.required)
            for field, info in fields
        ]

    def read(self, request: web.Request) -> Any:
        given = request.query
        if not given:
            if self._bare is None:
                self._bare = self._with_defaults({})
            return self._bare
        self._refuse_garbled(request.rel_url.raw_query_string)
        found: dict[str, Any] = {}
        for field in self._fields:
            texts = given.getall(field.wire, [])
            if not texts:
                continue
            many = isinstance(field.info, mi.ListType | mi.VarTupleType)
            if not many and len(set(texts)) > 1:
                raise Invalid(
                    field.wire, texts[-1], f"it may stand once in the query, not {len(texts)} times"
                )
            found[field.name] = _converted(field, texts if many else texts[-1])
        return self._kind(**found) if len(found) == len(self._fields) else self._with_defaults(found)

    def _refuse_garbled(self, sent: str) -> None:
        """Bytes that are no text would become others on the way, and mean other things. Raises `Invalid`."""
        if "%" not in sent and sent.isascii():
            return
        known = {field.wire for field in self._fields}
        for pair in sent.split("&"):
            name, _, value = pair.partition("=")
            if is_garbled(value) and (found := unquoted(name).decode("utf-8", "replace")) in known:
                said = Said(f"{value[:200].encode('ascii', 'backslashreplace').decode()!r} is not UTF-8")
                raise Invalid(found, said, "it must be text in UTF-8, percent-encoded")

    def _with_defaults(self, found: dict[str, Any]) -> Any:
        for field in self._fields:
            if field.required and field.name not in found:
                raise Invalid(field.wire, None, "it must stand in the query")
        return self._kind(**found)


def unquoted(sent: str) -> bytes:
    """What the percent signs of a part of a URL stand for; what came without one stays as it came."""
    return unquote_to_bytes(sent.encode("utf-8", "surrogateescape"))


def is_garbled(sent: str) -> bool:
    """Whether a part of a URL is no text: its bytes are not UTF-8."""
    try:
        unquoted(sent).decode()
    except UnicodeDecodeError:
        return True
    return False


def _converted(field: _Field, value: Any) -> Any:
    if value == "" and _is(field.info, mi.BoolType):
        return True
    if isinstance(value, str) and "\0" in value:
        raise Invalid(field.wire, value, "text without NUL")
    kind = field.kind
    if isinstance(value, str) and _is(field.info, mi.DateTimeType) and "T" not in value.upper():
        # A bare number would be taken for seconds since 1970.
        if not _is(field.info, mi.IntType) or not (value.isascii() and value.isdigit()):
            raise Invalid(field.wire, value, _with_zone(field, value))
        kind = _POSITION
    try:
        return msgspec.convert(value, kind, strict=False)
    except (msgspec.ValidationError, ValueError):
        shown = value if isinstance(value, str) else next(iter(_unfit(value, field.kind)), "")
        raise Invalid(field.wire, shown, _with_zone(field, shown)) from None


def _with_zone(field: _Field, text: str) -> str:
    """What may stand there; of a time whose zone alone is missing, that too."""
    said = with_zone(text) if _is(field.info, mi.DateTimeType) else None
    return field.wanted if said is None else f"{field.wanted}; {said}"


def _unfit(values: list[str], kind: Any) -> list[str]:
    """Those of several values that are at fault."""
    item = get_args(kind)[0]
    found = []
    for value in values:
        try:
            msgspec.convert(value, item, strict=False)
        except (msgspec.ValidationError, ValueError):
            found.append(value)
    return found


#: What a `Moment` without a time in it is.
_POSITION = get_args(Moment)[0]


def _is(info: mi.Type, kind: type[mi.Type]) -> bool:
    return isinstance(info, kind) or (
        isinstance(info, mi.UnionType) and any(isinstance(option, kind) for option in info.types)
    )


def _wanted(info: mi.Type) -> str:
    """What may stand there, in words."""
    match info:
        case mi.UnionType() if _is(info, mi.IntType) and _is(info, mi.DateTimeType):
            return "it must be a position of the ledger, or a time such as 2026-01-31T12:00:00Z"
        case mi.UnionType():
            return _wanted(next(option for option in info.types if not isinstance(option, mi.NoneType)))
        case mi.ListType() | mi.VarTupleType():
            return _wanted(info.item_type)
        case mi.IntType():
            low = "" if info.ge is None else f" from {info.ge}"
            high = "" if info.le is None else f" to {info.le}"
            return f"it must be a whole number{low}{high}"
        case mi.BoolType():
            return "it must be true or false"
        case mi.DateTimeType():
            return "it must be a time such as 2026-01-31T12:00:00Z"
        case mi.UUIDType():
            return "it must be a UUID such as 6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
        case mi.LiteralType():
            return f"it must be one of {', '.join(map(str, info.values))}"
        case mi.EnumType() if isinstance(info.cls, EnumType):
            return f"it must be one of {', '.join(str(member.value) for member in info.cls)}"
        case mi.StrType(max_length=None):
            return "it must be text"
        case mi.StrType():
            return f"it must be text of at most {info.max_length} characters"
        case _:
            raise TypeError(f"there are no words for {info}: add them")
