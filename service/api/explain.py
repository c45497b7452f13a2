"""Why a JSON body does not fit a type: the first thing that is wrong, as an `Invalid` with a dotted path.

This is the slow path. A body that fits never comes here: typed decoding has taken it already.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import Any

import msgspec
from msgspec import inspect as mi

from service.errors import Invalid

#: Below these, what was given is never shown: it may be a secret, or hold one.
_SECRET = re.compile(r"\A(envVars|credentials)\b(?!.*\.name\Z)")
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


def refuse_duplicates(body: bytes) -> None:
    """Raise `Invalid` when an object names a key twice; which of the two would count is anybody's guess."""
    try:
        json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Invalid("body", "JSON that cannot be read", str(error)) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Invalid(key, "two values", "each field may stand once")
            seen.add(key)
    return found


def explain(body: bytes, kind: Any) -> None:
    """Raise an `Invalid` that says why `body` is not a `kind`. Returns only when nothing was found."""
    value = _parsed(body)
    refuse_duplicates(body)
    if not isinstance(value, dict):
        raise Invalid("body", _kind_of(value), "send one JSON object")
    walk(value, mi.type_info(kind), "")


def _parsed(body: bytes) -> Any:
    if not body.strip():
        raise Invalid("body", "nothing", "send one JSON object")
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Invalid(
            "body", f"a byte that is not UTF-8 (byte {error.start})", "JSON is sent as UTF-8"
        ) from None
    if lone := _LONE_SURROGATE.search(body):
        raise Invalid("body", f"half a surrogate pair (byte {lone.start()})", "text of whole characters")
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError as error:
        raise Invalid("body", "a number out of range", f"{error}") from None
    except msgspec.DecodeError as error:
        text = str(error).removeprefix("JSON is malformed: ")
        where = "" if "(byte" in text else f" (byte {len(body)})"
        raise Invalid("body", f"malformed JSON: {text}{where}", "send one JSON object") from None
    except RecursionError:
        raise Invalid("body", "JSON that is nested too deeply", "send one JSON object") from None


def walk(value: Any, info: mi.Type, path: str) -> None:
    """Compare a decoded value with a type, depth first, and raise for the first difference."""
    match info:
        case mi.UnionType():
            options = [option for option in info.types if not isinstance(option, mi.NoneType)]
            if value is not None or len(options) == len(info.types):
                walk(value, options[0], path)
        case mi.StructType():
            _object(value, info, path)
        case mi.ListType():
            _require(isinstance(value, list), value, path, "a list")
            for index, item in enumerate(value):
                walk(item, info.item_type, f"{path}[{index}]")
        case mi.DictType():
            _require(isinstance(value, dict), value, path, "an object")
            for key, item in value.items():
                walk(item, info.value_type, f"{path}.{key}")
        case mi.StrType():
            _require(isinstance(value, str), value, path, "text")
        case mi.BoolType():
            _require(isinstance(value, bool), value, path, "true or false")
        case mi.IntType():
            _require(isinstance(value, int) and not isinstance(value, bool), value, path, "a whole number")
        case mi.LiteralType():
            _require(value in info.values, value, path, " or ".join(map(str, info.values)))


def _object(value: Any, info: mi.StructType, path: str) -> None:
    _require(isinstance(value, dict), value, path, "an object")
    known = {field.encode_name: field for field in info.fields}
    for key in value:
        if key not in known and info.forbid_unknown_fields:
            raise Invalid(_join(path, key), "an unknown field", _nearest(key, list(known)))
    for name, field in known.items():
        if name in value:
            walk(value[name], field.type, _join(path, name))
        elif field.required:
            raise Invalid(_join(path, name), None, "it is needed")


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key[:64], known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"the fields are {', '.join(known) or 'none'}"


def _require(holds: bool, value: Any, path: str, wanted: str) -> None:
    if not holds:
        raise Invalid(path or "body", _shown(value, path), f"it must be {wanted}")


def _shown(value: Any, path: str) -> Any:
    """What was given, or only its kind where it may be a secret or is long."""
    if value is None or isinstance(value, dict | list | bool):
        return _kind_of(value)
    return _kind_of(value) if _SECRET.match(path) else value


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
