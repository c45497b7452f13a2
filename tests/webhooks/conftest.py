from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.ledger.ledger import Ledger
from tests.webhooks.house import House, a_house
from tests.webhooks.receiver import Receiver, a_receiver


@pytest.fixture
async def house(ledger: Ledger) -> House:
    return await a_house(ledger)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as made:
        yield made
