"""The file that the catalogue of flavors and images is read from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from service.config.settings import PREFIX
from service.domain.bills import reading
from service.domain.flavors import Catalogue
from service.errors import Invalid, Misconfigured

_TEXT = "tag:yaml.org,2002:str"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def read_catalogue(path: Path) -> Catalogue:
    """A catalogue file: YAML or JSON, `flavors:`, `images:` and `presets:` with their fields in camelCase.

    Raises `Misconfigured`, and ValueError or msgspec's errors where it has another shape.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{PREFIX}CATALOGUE: {path} cannot be read: {error.strerror}") from error
    try:
        held = yaml.load(text, Loader=_PricesAsText)  # noqa: S506 (a safe loader)
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())[:300]}") from error
    for at, price in _prices(held):
        if isinstance(price, str):
            try:
                reading.price(f"flavors[{at}].hourlyPrice", price)
            except Invalid as error:
                raise Misconfigured(f"{PREFIX}CATALOGUE: {path}: {error.message}") from error
    return msgspec.convert(held, Catalogue, strict=False)


def _prices(held: Any) -> Iterator[tuple[int, Any]]:
    """What a catalogue file has for prices, if it has the shape of one at all."""
    flavors = held.get("flavors") if isinstance(held, dict) else None
    for at, flavor in enumerate(flavors if isinstance(flavors, list) else ()):
        if isinstance(flavor, dict) and "hourlyPrice" in flavor:
            yield at, flavor["hourlyPrice"]


class _PricesAsText(yaml.SafeLoader):
    """A price is the text that it is written with: no float, nor what YAML makes of 010 and 1_000."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        for key, value in node.value:
            if key.value == "hourlyPrice" and value.tag in _NUMBERS:
                value.tag = _TEXT
        return super().construct_mapping(node, deep)
