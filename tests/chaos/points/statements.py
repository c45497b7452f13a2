"""One commit of more events than are sent at once, by a process that can be ended between its statements.

`-m tests.chaos.points.statements` forks a writer for each of the orders in its argument, and prints their
exit codes in the same order.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import msgspec
import uvloop

from service.ledger.commit import EVENTS_AT_ONCE, Receipt
from service.ledger.ledger import Ledger
from tests.chaos.points import seams
from tests.chaos.points.points import Points
from tests.supervisor.world import MASTER
from tests.support import jobs

#: So many jobs, submitted at once, are one commit of two statements.
JOBS = EVENTS_AT_ONCE + 50


class Orders(msgspec.Struct, frozen=True):
    """One writer. `torn`: with the bug of a writer that has no transaction."""

    url: str
    points: str
    crash_at: str
    torn: bool = False


async def submit_all(ledger: Ledger) -> list[Receipt]:
    """The same commands with the same ids, whenever it is called."""
    commands = [jobs.submit(UUID(int=1 + number)) for number in range(JOBS)]
    return await asyncio.gather(
        *(
            ledger.submit(command, actor="test", command_id=UUID(int=command.job.int << 64))
            for command in commands
        )
    )


@asynccontextmanager
async def _torn(_: seams.Connection) -> AsyncIterator[None]:
    """The planted bug: each statement commits by itself."""
    yield


async def _write(orders: Orders) -> None:
    async with Ledger.open(orders.url, MASTER, readers=1) as ledger:
        seams.watch_ledger(Points(Path(orders.points), orders.crash_at), ledger)
        await submit_all(ledger)


def _forked(orders: Orders) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if orders.torn:
            setattr(seams.Connection, "transaction", _torn)  # noqa: B010 (mypy knows its type)
        uvloop.run(_write(orders))
    except BaseException:  # noqa: BLE001 (nothing of the parent may go on in here)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    pids = [_forked(each) for each in msgspec.json.decode(sys.argv[1], type=list[Orders])]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    print(msgspec.json.encode(codes).decode())


if __name__ == "__main__":
    main()
