"""In which order the files of tests are run: the longest first, so that nobody waits for one at the end.

xdist gives each process a file at a time, and by itself those with most tests first: files of a few tests
that take minutes each would come last, while the other processes had nothing to do.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]

#: Those that take longest, the longest first, as measured over a whole run.
LONGEST: tuple[str, ...] = ()


def arrange(items: list[pytest.Item]) -> None:
    """Those files first, then by the number of tests; what one file holds stays as it is."""
    rank = {_ROOT / name: number for number, name in enumerate(LONGEST)}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (rank.get(item.path, len(rank)), -tests[item.path]))
