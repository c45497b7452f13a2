"""A process that writes to a ledger: `python -m tests.support.writer_process URL WHAT COUNT CONCURRENCY`.

It says `ready`, waits for a line on its input, works, and says as JSON what became of each command.
`WHAT` is `quotas` (commands that always succeed), `submit` (jobs of one CPU) or a command id for all.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any
from uuid import UUID, uuid4

from service.domain import commands as cmd
from service.errors import Rejected
from service.ledger.ledger import Ledger
from service.vault import MasterKey
from tests.support import jobs
from tests.support.jobs import PROJECT


async def main(url: str, what: str, count: int, concurrency: int) -> None:
    async with Ledger.open(url, MasterKey(b"m" * 32), readers=1) as ledger:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        gate = asyncio.Semaphore(concurrency)

        async def one(number: int) -> Any:
            async with gate:
                return await _one(ledger, what, number)

        answers = await asyncio.gather(*(one(number) for number in range(count)))
    print(json.dumps(answers), flush=True)


async def _one(ledger: Ledger, what: str, number: int) -> Any:
    """The positions of a command's events, and whether it was a repeat; or the code of its refusal."""
    command: cmd.Command = cmd.SetQuota(project=PROJECT, cpu=number, gpu=0)
    details: dict[str, Any] = {}
    if what == "submit":
        command = jobs.submit(uuid4())
    elif what != "quotas":
        details = {"command_id": UUID(what), "digest": b"same"}
    try:
        receipt = await ledger.submit(command, actor="process", **details)
    except Rejected as refusal:
        return refusal.code
    return [[event.position for event in receipt.events], receipt.repeated]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
