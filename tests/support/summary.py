"""What tests want to show at the end of the whole output, from whichever process they ran in."""

from __future__ import annotations

from typing import Any

import pytest

_SHOWN: pytest.StashKey[dict[str, str]] = pytest.StashKey()
_NAME = "jobyard_summary"
_LINE = "\n"


def add(config: pytest.Config, title: str, text: str) -> None:
    """Show a text under a title."""
    config.stash.setdefault(_SHOWN, {})[title] = text


def add_line(config: pytest.Config, title: str, name: str, text: str) -> None:
    """Show a line under a title that others add lines to, from other processes too."""
    add(config, f"{title}{_LINE}{name}", text)


class Summary:
    """The plugin that brings the texts from the processes of a distributed run to the one that prints."""

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_NAME] = session.config.stash.get(_SHOWN, {})

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for title, text in getattr(node, "workeroutput", {}).get(_NAME, {}).items():
            add(node.config, title, text)

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        section = None
        for title, text in sorted(config.stash.get(_SHOWN, {}).items()):
            head, _, name = title.partition(_LINE)
            if head != section:
                terminalreporter.section(head)
                section = head
            terminalreporter.write_line(f"{name:<40} {text}" if name else text)
