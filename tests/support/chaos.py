"""How long the tests that break things go on, and the table of what they did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from tests.support import summary

OPTION = "--chaos"


def add_option(parser: pytest.Parser) -> None:
    """The switch between the short form and the long one."""
    parser.addoption(OPTION, action="store_true", help="Break things for as long as it takes.")


@dataclass(frozen=True)
class Chaos:
    """`long` in a run with `--chaos`."""

    long: bool
    config: pytest.Config

    def times(self, *, short: int, long: int) -> int:
        """How often to do it."""
        return long if self.long else short

    def told(self, attack: str, **counts: int | str) -> None:
        """Show a line at the end of the output: what was broken, how often, and what was lost."""
        summary.add_line(self.config, "What was broken, and what was lost", attack, words(counts))


def words(counts: Mapping[str, int | str]) -> str:
    """`kills=3` as `kills 3`, in the order given."""
    return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items())
