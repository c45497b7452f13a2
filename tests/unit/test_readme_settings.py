"""The README names everything that can be set, with what it is when it is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.config.settings import PREFIX, Settings

README = (Path(__file__).parents[2] / "README.md").read_text()
#: What is worked out where it is not set, or is no number.
_TOLD_IN_WORDS = {"state_dir", "catalogue", "disk_reserve_bytes", "memory_reserve_bytes", "cache_max_bytes"}


def rows() -> dict[str, str]:
    """By setting, the default that its row tells."""
    told: dict[str, str] = {}
    for line in README.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) != 5 or not cells[1].startswith(f"`{PREFIX}"):
            continue
        names = re.findall(rf"`{PREFIX}([A-Z0-9_]+)`", cells[1])
        defaults = cells[3].split(", ") if len(names) > 1 else [cells[3]]
        told |= dict(zip(names, defaults * (len(names) if len(defaults) == 1 else 1), strict=True))
    return told


@pytest.mark.parametrize("field", msgspec.structs.fields(Settings), ids=lambda field: field.name)
def test_every_setting_is_in_the_table_with_its_default(field: Any) -> None:
    told = rows().get(field.name.upper())
    assert told is not None, "it has no row"
    if isinstance(field.default, int | float) and field.name not in _TOLD_IN_WORDS:
        assert re.match(rf"{re.escape(f'{field.default:g}')}\b|{field.default}\b", told), told
