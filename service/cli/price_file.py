"""Prices in a file, YAML or JSON. Every number is read as the text that it is, so that `0.03` stays exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from service.errors import Invalid

MOST_BYTES = 4 * 1024 * 1024
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_BOOK = "a list of entries {flavor, hourlyPrice, validFrom, validTo, currency}"
_PRICES = "a price for each flavor, such as `ai1-1-cpu: 0.03`"


def book(option: str, name: str) -> list[dict[str, str]]:
    """The entries of a price book, as the API takes them; what is in them is for the service to check."""
    held = _read(option, name)
    if isinstance(held, dict) and set(held) == {"entries"}:
        held = held["entries"]
    if not isinstance(held, list):
        raise Invalid(option, name, f"it must hold {_BOOK}")
    return [_entry(option, at, entry) for at, entry in enumerate(held)]


def prices(option: str, name: str) -> dict[str, str]:
    """A price for each flavor."""
    held = _read(option, name)
    if not isinstance(held, dict) or not all(isinstance(price, str) for price in held.values()):
        raise Invalid(option, name, f"it must hold {_PRICES}")
    return held


def _entry(option: str, at: int, entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
        raise Invalid(f"{option}[{at}]", entry, f"the file must hold {_BOOK}")
    return {field: value for field, value in entry.items() if value not in _NOTHING}


def _read(option: str, name: str) -> Any:
    """What a file holds, all of its values as text. Raises `Invalid`."""
    try:
        with Path(name).expanduser().open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "no such name"
        raise Invalid(option, name, f"a file that can be read; this cannot: {why}") from error
    if len(raw) > MOST_BYTES:
        raise Invalid(option, name, f"a file of at most {MOST_BYTES} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Invalid(option, name, f"a file in UTF-8; byte {error.start} is not") from error
    try:
        if text.lstrip()[:1] in ("{", "["):
            return json.loads(
                text, parse_float=str, parse_int=str, parse_constant=str, object_pairs_hook=_once
            )
        return yaml.load(text, Loader=_Texts)  # noqa: S506 (it makes text, lists and mappings alone)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        why = " ".join(str(error).split())[:200]
        raise Invalid(option, name, f"YAML or JSON that can be read; this cannot: {why}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key that stands twice nobody knows which counts. A null is no value."""
    found = {key: "" if value is None else value for key, value in pairs}
    if len(found) != len(pairs):
        again = next(key for at, (key, _) in enumerate(pairs) if key in dict(pairs[:at]))
        raise ValueError(f"{again!r} stands twice")
    return found


class _Texts(yaml.BaseLoader):
    """YAML whose scalars are the text that they are written with."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        pairs = [(self.construct_object(key, deep=True), value) for key, value in node.value]
        if not all(isinstance(key, str) for key, _ in pairs):
            raise yaml.constructor.ConstructorError(None, None, "a key must be text", node.start_mark)
        try:
            _once(pairs)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error
        return {key: self.construct_object(value, deep=True) for key, value in pairs}
