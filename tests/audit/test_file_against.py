"""`verify --file --against`: an export of a ledger that was rewritten and signed again with the same key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from service.audit import exported
from service.audit.evidence import Evidence
from service.audit.export import exported as lines_of
from service.audit.exported import ExportCorrupt
from service.audit.log import Log
from service.audit.places import Directory
from service.audit.reading import Wanted
from service.cli.exits import Exit
from service.domain.checkpoint import PublicKey, origin_of, read_note
from service.ledger import database
from tests.audit.conftest import SIGNING, grown, signer
from tests.audit.test_cli import left_with
from tests.ledger.tampering import by_force, recompute
from tests.support.yard import Yard

#: Checkpoints were kept of these sizes, and event 15 is another since. Both ledgers end at the last size.
KEPT = (12, 20, 30)
CHANGED = 15


class Both(NamedTuple):
    """What was kept, and exports of the ledger as it was then (`genuine-…`) and as it is now (`forged-…`)."""

    folder: Path
    kept: Log
    key: PublicKey

    async def found(self, file: str, *size: int) -> tuple[exported.Exported, list[str]]:
        """An export verified against one note, or without a size against all that was kept."""
        if size:
            evidence = Evidence.of_note(await self.kept.note(*size) or "", self.key)
        else:
            evidence = await Evidence.gathered(self.kept, self.key)
        found = await exported.check(self.folder / file, self.key, evidence)
        return found, evidence.problems

    async def wrong(self, file: str, *size: int) -> ExportCorrupt:
        with pytest.raises(ExportCorrupt) as error:
            await self.found(file, *size)
        return error.value


@pytest.fixture
async def both(yard: Yard, database_url: str, tmp_path: Path) -> AsyncIterator[Both]:
    ledger_id = (await yard.ledger.head()).ledger_id
    for size in KEPT:
        await grown(yard, size)
        assert await signer(yard.ledger, tmp_path / "kept").run_once(now=True) is not None
    kept = Log.of(Directory(tmp_path / "kept"), ledger_id)
    await _export(yard, kept, tmp_path, "genuine")
    await _exported(yard, kept, 20, Wanted(upto=20), tmp_path / "genuine-under-20")
    admin = await database.connect(database_url, admin=True)
    await by_force(
        admin,
        f"UPDATE events SET actor = 'someone else' WHERE position = {CHANGED}",
        "DELETE FROM checkpoints",
    )
    await recompute(admin, CHANGED, head=True)
    await admin.close()
    assert await signer(yard.ledger, tmp_path / "forged").run_once(now=True) is not None
    await _export(yard, Log.of(Directory(tmp_path / "forged"), ledger_id), tmp_path, "forged")
    yield Both(tmp_path, kept, PublicKey(origin_of(ledger_id), SIGNING.public))


async def _export(yard: Yard, log: Log, folder: Path, name: str) -> None:
    wanted = {
        "whole": Wanted(upto=KEPT[-1]),
        "to-25": Wanted(upto=25),
        "from-16": Wanted(after=CHANGED, upto=KEPT[-1]),
        "part": Wanted(types=("QuotaSet",), after=CHANGED, upto=KEPT[-1]),
    }
    for which, each in wanted.items():
        await _exported(yard, log, KEPT[-1], each, folder / f"{name}-{which}")


async def _exported(yard: Yard, log: Log, size: int, wanted: Wanted, path: Path) -> None:
    note = await log.note(size) or ""
    ledger_id = (await yard.ledger.head()).ledger_id
    lines = lines_of(yard.ledger.pool, log, note, read_note(note).checkpoint, ledger_id, wanted)
    path.write_bytes(b"".join([line async for line in lines]))


@pytest.mark.parametrize("which", ["whole", "to-25", "from-16", "part"])
async def test_a_note_of_the_same_size_is_compared_by_its_root(both: Both, which: str) -> None:
    """Also where the event that was changed is not in the file."""
    found, problems = await both.found(f"genuine-{which}", 30)
    assert (found.compared, problems) == (30, [])
    error = await both.wrong(f"forged-{which}", 30)
    assert (error.line, error.position) == (1, 0)
    assert "the checkpoint of size 30 is not the one that was kept" in error.message


@pytest.mark.parametrize("which", ["whole", "to-25"])
async def test_the_tree_of_a_whole_export_is_grown_to_a_smaller_note(both: Both, which: str) -> None:
    for size in (12, 20):
        found, problems = await both.found(f"genuine-{which}", size)
        assert (found.compared, problems) == (size, [])
    assert (await both.found(f"forged-{which}", 12))[0].compared == 12
    error = await both.wrong(f"forged-{which}", 20)
    assert (error.line, error.position) == (21, 1)
    assert "event 1, or one after it up to 20, is not the one that was signed" in error.message


@pytest.mark.parametrize("which", ["from-16", "part"])
async def test_a_smaller_note_tells_nothing_of_a_part(both: Both, which: str) -> None:
    for name in ("genuine", "forged"):
        found, problems = await both.found(f"{name}-{which}", 20)
        assert (found.compared, len(problems)) == (0, 1)
        assert "checkpoint of size 20 cannot tell of this file, which is under one of size 30" in problems[0]


async def test_a_larger_note_tells_nothing(both: Both) -> None:
    """But the folder that it is from does: its tiles have each event."""
    found, problems = await both.found("genuine-under-20", 30)
    assert (found.compared, len(problems)) == (0, 1)
    assert "checkpoint of size 30 cannot tell of this file, which is under one of size 20" in problems[0]
    found, problems = await both.found("genuine-under-20")
    assert (found.compared, problems) == (30, [])


async def test_a_place_tells_of_every_event_up_to_its_newest(both: Both) -> None:
    for which in ("whole", "to-25", "from-16", "part"):
        found, problems = await both.found(f"genuine-{which}")
        assert (found.compared, problems) == (30, [])
        assert (await both.wrong(f"forged-{which}")).line == 1


async def test_the_command_says_what_was_compared(both: Both, capfd: pytest.CaptureFixture[str]) -> None:
    """In this process, in a thread: a command has an event loop of its own. A file needs no database."""

    async def said(file: str, size: int) -> tuple[int, str]:
        capfd.readouterr()
        note = both.folder / "kept" / both.kept.name(size)
        words = ("--file", str(both.folder / file), "--against", str(note), "--key", both.key.text)
        return await asyncio.to_thread(left_with, "verify", *words), capfd.readouterr().out

    code, out = await said("genuine-whole", 30)
    assert code == Exit.DONE and "alone" not in out
    code, out = await said("genuine-whole", 20)
    assert code == Exit.DONE and "those after event 20 are under the file's own checkpoint alone" in out
    code, out = await said("genuine-part", 20)
    assert code == Exit.FAILED and out.startswith("CORRUPT: the file holds, but what it is verified")
    code, out = await said("forged-whole", 30)
    assert code == Exit.FAILED and out.startswith("CORRUPT: line 1: the checkpoint of size 30 is not")
