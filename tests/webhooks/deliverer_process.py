"""A process that delivers: `python -m tests.webhooks.deliverer_process URL`. It says `on duty` when it is."""

from __future__ import annotations

import asyncio
import sys

from service.ledger.ledger import Ledger
from service.webhooks.deliverer import Deliverer
from tests.conftest import MASTER
from tests.webhooks.house import AT_ONCE, sender


async def main(url: str) -> None:
    async with Ledger.open(url, MASTER, readers=2) as ledger:
        deliverer = Deliverer(ledger, sender(), backoff=AT_ONCE, ask_s=0.05)
        task = asyncio.create_task(deliverer.run())
        await deliverer.on_duty.wait()
        print("on duty", flush=True)
        await task


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
