"""A soak is for the long form alone: in seconds nothing can be seen to grow."""

from __future__ import annotations

import pytest

from tests.support import chaos


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take it out of the normal tests; whoever names it gets it."""
    named = any("test_soak" in str(argument) for argument in config.invocation_params.args)
    if config.getoption(chaos.OPTION) or named:
        return
    long = [item for item in items if item.path.name == "test_soak.py"]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
