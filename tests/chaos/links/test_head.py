"""A writer that is cut off, or stopped, while it holds the head's lock must not keep all others out."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest

from service.domain import commands as cmd
from service.errors import Unavailable
from service.ledger import database as connections
from service.ledger.ledger import Ledger
from tests.chaos.links import sorts
from tests.chaos.links.cases import NOTICED_S
from tests.chaos.links.house import SOCKET, line_url, postgres_address
from tests.chaos.links.line import Fault, line
from tests.supervisor.world import MASTER, database
from tests.support.chaos import Chaos
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def quicker(quick: None, chaos: Chaos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but two writers is at work here."""
    if not chaos.long:
        monkeypatch.setattr(connections, "ANSWER_TIMEOUT_S", 2.0)


def project(name: str) -> cmd.CreateProject:
    return cmd.CreateProject(project=name, name=name, cpu=1, gpu=0)


#: Where in its transaction: as the lock is asked for; holding it, as it appends; and as it commits.
MOMENTS = (b"FROM take_head(", b"INSERT INTO events", b"COMMIT;")


async def held_and_cut(template: str, moment: bytes, noticed_s: float = NOTICED_S) -> None:
    """One writer is cut off without an end in the middle of its transaction; another writes meanwhile."""
    folder = Path(tempfile.mkdtemp(prefix="jobyard-links-"))
    try:
        async with (
            database(template) as url,
            line(postgres_address(url), sorts.of_postgres, str(folder / SOCKET)) as broken,
            Ledger.open(line_url(url, folder), MASTER, readers=1) as cut,
            Ledger.open(url, MASTER, readers=1) as straight,
        ):
            broken.break_after(moment, sorts.WRITER, Fault.HALF_OPEN)
            lost = asyncio.create_task(cut.submit(project("lost"), actor="test"))
            try:
                await until(lambda: broken.broken)
                async with asyncio.timeout(noticed_s):
                    await straight.submit(project("other"), actor="test")
                broken.mend(sorts.WRITER)
                receipt = await lost
            finally:
                lost.cancel()
                await asyncio.gather(lost, return_exceptions=True)
            made = [event for event in await straight.events() if event.project == "lost"]
            assert [event.position for event in made] == [event.position for event in receipt.events]
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


async def test_a_writer_that_is_cut_off_lets_the_head_go(chaos: Chaos, template_database: str) -> None:
    times = chaos.times(short=1, long=10)
    for _ in range(times):
        await asyncio.gather(*(held_and_cut(template_database, moment) for moment in MOMENTS))
    chaos.told("writers cut off in a transaction", cuts=times * len(MOMENTS), locked_out=0)


async def test_a_head_that_stays_locked_is_found(
    template_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted bug: nobody ends the lost transaction."""
    monkeypatch.setattr(connections, "IDLE_IN_TRANSACTION_S", 3600.0)
    with pytest.raises((TimeoutError, Unavailable)):
        await held_and_cut(template_database, MOMENTS[1], noticed_s=2.0)


async def test_a_cut_link_keeps_nobody_from_closing(template_database: str) -> None:
    """Cancelled in the middle of a transaction over a dead link, the driver's own error comes instead."""
    folder = Path(tempfile.mkdtemp(prefix="jobyard-links-"))
    try:
        async with (
            database(template_database) as url,
            line(postgres_address(url), sorts.of_postgres, str(folder / SOCKET)) as broken,
        ):
            ledger = Ledger.open(line_url(url, folder), MASTER, readers=1)
            cut = await ledger.__aenter__()
            broken.break_after(MOMENTS[1], sorts.WRITER, Fault.HALF_OPEN)
            lost = asyncio.create_task(cut.submit(project("lost"), actor="test"))
            await until(lambda: broken.broken)
            async with asyncio.timeout(NOTICED_S):
                await ledger.__aexit__(None, None, None)
            with pytest.raises(Unavailable):
                await lost
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)
