"""Why a JSON body does not fit a type: the first thing that is wrong, as an `Invalid` with a dotted path.

This is the slow path. A body that fits never comes here: typed decoding has taken it already.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from msgspec import inspect as mi

from service.api.errors import Said
from service.domain.nearest import hint
from service.errors import Invalid

#: Below these, what was given is never shown: it may be a secret, or hold one.
_SECRET = re.compile(r"\A(envVars|credentials|password)\b(?!.*\.name\Z)")
_ONE_OBJECT = "send one JSON object"
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


def refuse_duplicates(body: bytes) -> None:
    """Raise `Invalid` when an object names a key twice; which of the two would count is anybody's guess."""
    try:
        json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Invalid("body", Said(f"JSON that cannot be read ({error})"), _ONE_OBJECT) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Invalid(_join("", key), Said("it stands twice"), "each field may stand once")
            seen.add(key)
    return found


def explain(body: bytes, kind: Any) -> None:
    """Raise an `Invalid` that says why `body` is not a `kind`. Returns only when nothing was found."""
    value = _parsed(body)
    refuse_duplicates(body)
    if not isinstance(value, dict):
        raise Invalid("body", Said(f"{_kind_of(value)} was sent"), _ONE_OBJECT)
    walk(value, mi.type_info(kind), "")


def _parsed(body: bytes) -> Any:
    if not body.strip():
        raise Invalid("body", None, _ONE_OBJECT)
    try:
        body.decode()
    except UnicodeDecodeError as error:
        said = Said(f"it is not UTF-8 (byte {error.start})")
        raise Invalid("body", said, "JSON is sent as UTF-8") from None
    if lone := _LONE_SURROGATE.search(body):
        said = Said(f"it holds half a surrogate pair (byte {lone.start()})")
        raise Invalid("body", said, "send text of whole characters")
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError as error:
        said = Said(f"a number in it is out of range ({error})")
        raise Invalid("body", said, "send numbers of a usual size") from None
    except msgspec.DecodeError as error:
        text = str(error).removeprefix("JSON is malformed: ")
        where = "" if "(byte" in text else f" (byte {len(body)})"
        raise Invalid("body", Said(f"it is malformed JSON: {text}{where}"), _ONE_OBJECT) from None
    except RecursionError:
        raise Invalid("body", Said("it is nested too deeply"), _ONE_OBJECT) from None


def walk(value: Any, info: mi.Type, path: str) -> None:
    """Compare a decoded value with a type, depth first, and raise for the first difference."""
    if not _fits(value, info):
        raise Invalid(path or "body", _shown(value, path), f"it must be {wanted(info)}")
    match info:
        case mi.UnionType():
            if value is not None:
                walk(value, _option(info), path)
        case mi.StructType():
            _fields(value, info, path)
        case mi.ListType():
            for index, item in enumerate(value):
                walk(item, info.item_type, f"{path}[{index}]")
        case mi.DictType():
            for key, item in value.items():
                walk(item, info.value_type, f"{path}.{key}")


def wanted(info: mi.Type) -> str:
    """What may stand there, in words. Raises `TypeError` for a type that a body cannot have: `words_for`
    finds those when the table of routes is made."""
    match info:
        case mi.UnionType():
            return wanted(_option(info))
        case mi.StructType() | mi.DictType():
            return "an object"
        case mi.ListType():
            return "a list"
        case mi.StrType(min_length=None, max_length=None, pattern=None):
            return "text"
        case mi.BoolType():
            return "true or false"
        case mi.IntType(gt=None, ge=None, lt=None, le=None, multiple_of=None):
            return "a whole number"
        case mi.DecimalType():
            return 'a number, or its text such as "12.50"'
        case mi.LiteralType():
            return " or ".join(map(str, info.values))
        case mi.AnyType():
            return "any value"
        case _:
            raise TypeError(f"there are no words for {info}: add them to `wanted` and `_fits`")


def words_for(info: mi.Type) -> None:
    """Raise `TypeError` unless all that can be wrong with a value of this type can be said."""
    wanted(info)
    match info:
        case mi.UnionType():
            words_for(_option(info))
        case mi.StructType():
            for field in info.fields:
                words_for(field.type)
        case mi.ListType():
            words_for(info.item_type)
        case mi.DictType():
            words_for(info.value_type)


def _option(info: mi.UnionType) -> mi.Type:
    """What it is, beside null."""
    (option,) = (each for each in info.types if not isinstance(each, mi.NoneType))
    return option


def _fits(value: Any, info: mi.Type) -> bool:
    """Whether the value is of the type, as far as can be told without looking into it."""
    match info:
        case mi.UnionType():
            return value is None or _fits(value, _option(info))
        case mi.StructType() | mi.DictType():
            return isinstance(value, dict)
        case mi.ListType():
            return isinstance(value, list)
        case mi.StrType():
            return isinstance(value, str)
        case mi.BoolType():
            return isinstance(value, bool)
        case mi.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case mi.DecimalType():
            return _is_decimal(value)
        case mi.LiteralType():
            return value in info.values
        case _:
            return True


def _is_decimal(value: Any) -> bool:
    if isinstance(value, str):
        try:
            Decimal(value)
        except InvalidOperation:
            return False
        return True
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fields(value: dict[str, Any], info: mi.StructType, path: str) -> None:
    known = {field.encode_name: field for field in info.fields}
    for key in value:
        if key not in known and info.forbid_unknown_fields:
            raise Invalid(_join(path, key), Said("unknown field"), _nearest(key, list(known)))
    for name, field in known.items():
        if name in value:
            walk(value[name], field.type, _join(path, name))
        elif field.required:
            raise Invalid(_join(path, name), None, f"it must be {wanted(field.type)}")


def _nearest(key: str, known: list[str]) -> str:
    return hint(key, known) or f"the fields are {', '.join(known) or 'none'}"


def _shown(value: Any, path: str) -> Any:
    """What was given, or only its kind where it may be a secret or is long."""
    if value is None or isinstance(value, dict | list | bool) or _SECRET.match(path):
        return Said(f"{_kind_of(value)} was sent")
    return value


def _kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"


def _join(path: str, key: str) -> str:
    shown = key if len(key) <= 64 else key[:61] + "..."
    return f"{path}.{shown}" if path else shown
