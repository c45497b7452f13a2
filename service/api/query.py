"""Query parameters as a typed struct. Unknown ones are ignored; a bad value is refused by its name."""

from __future__ import annotations

from enum import EnumType
from typing import Any, get_args

import msgspec
from aiohttp import web
from msgspec import inspect as mi

from service.errors import Invalid


class Query(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Base of every set of parameters. A field of a list type may stand more than once."""


class QueryReader:
    """Reads the parameters of one `Query` type."""

    def __init__(self, kind: type[Query]) -> None:
        self._kind = kind
        fields = zip(msgspec.structs.fields(kind), mi.type_info(kind).fields, strict=True)  # type: ignore[attr-defined]
        self._fields = [(field.name, field.encode_name, field.type, info.type) for field, info in fields]

    def read(self, request: web.Request) -> Any:
        given = request.query
        if not given:
            return self._default()
        found: dict[str, Any] = {}
        for name, wire, kind, info in self._fields:
            texts = given.getall(wire, [])
            if not texts:
                continue
            many = isinstance(info, mi.ListType | mi.VarTupleType)
            value = texts if many else texts[-1]
            found[name] = _converted(wire, value, kind, info)
        return self._kind(**found) if len(found) == len(self._fields) else self._with_defaults(found)

    def _default(self) -> Any:
        return self._with_defaults({})

    def _with_defaults(self, found: dict[str, Any]) -> Any:
        for field in msgspec.structs.fields(self._kind):
            if field.required and field.name not in found:
                raise Invalid(field.encode_name, None, "it is needed in the query")
        return self._kind(**found)


def _converted(wire: str, value: Any, kind: Any, info: mi.Type) -> Any:
    if value == "" and _is(info, mi.BoolType):
        return True
    if isinstance(value, str) and "\0" in value:
        raise Invalid(wire, value, "text without NUL")
    try:
        return msgspec.convert(value, kind, strict=False)
    except (msgspec.ValidationError, ValueError):
        shown = value if isinstance(value, str) else next(iter(_unfit(value, kind)), "")
        raise Invalid(wire, shown, _wanted(info, kind)) from None


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


def _is(info: mi.Type, kind: type[mi.Type]) -> bool:
    return isinstance(info, kind) or (
        isinstance(info, mi.UnionType) and any(isinstance(option, kind) for option in info.types)
    )


def _wanted(info: mi.Type, kind: Any) -> str:
    """What may stand there, in words."""
    match info:
        case mi.UnionType():
            return _wanted(next(o for o in info.types if not isinstance(o, mi.NoneType)), kind)
        case mi.ListType() | mi.VarTupleType():
            return _wanted(info.item_type, kind)
        case mi.IntType():
            low = "" if info.ge is None else f" from {info.ge}"
            high = "" if info.le is None else f" to {info.le}"
            return f"it must be a whole number{low}{high}"
        case mi.BoolType():
            return "it must be true or false"
        case mi.DateTimeType():
            return "it must be a time such as 2026-01-31T12:00:00Z"
        case mi.LiteralType():
            return f"it must be one of {', '.join(map(str, info.values))}"
        case mi.EnumType() if isinstance(info.cls, EnumType):
            return f"it must be one of {', '.join(str(member.value) for member in info.cls)}"
        case mi.StrType():
            return f"it must be text of at most {info.max_length} characters"
        case _:
            return "it must be another value"
