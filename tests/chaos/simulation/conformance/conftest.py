from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from tests.chaos.simulation.conformance.grounds import Fake, Real
from tests.chaos.simulation.machine import silent
from tests.support import databases


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """To write down what fails on purpose, with its locals, takes longer than all the rest."""
    with silent():
        yield


@pytest.fixture
async def real(template_database: str) -> AsyncIterator[Real]:
    async with databases.a_database(template_database) as url, AsyncExitStack() as stack:
        yield Real(url, stack)


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture(params=["postgres", "simulation"])
async def ground(request: pytest.FixtureRequest, template_database: str) -> AsyncIterator[Real | Fake]:
    if request.param == "simulation":
        yield Fake()
        return
    async with databases.a_database(template_database) as url, AsyncExitStack() as stack:
        yield Real(url, stack)
