"""Sizes for people. Pure."""

from __future__ import annotations

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


def binary(size_bytes: int, *, up: bool = False) -> str:
    """A size in binary units with at most one digit after the point: `8 MiB`, `1.5 GiB`.

    `up` rounds up, so that what is more than a limit also reads as more.
    """
    unit = 0
    while unit + 1 < len(_UNITS) and size_bytes >= 1024 ** (unit + 1):
        unit += 1
    scale = 1024**unit
    tenths = (10 * size_bytes + scale - 1) // scale if up else (10 * size_bytes + scale // 2) // scale
    whole, tenth = divmod(tenths, 10)
    return f"{whole}.{tenth} {_UNITS[unit]}" if tenth else f"{whole} {_UNITS[unit]}"
