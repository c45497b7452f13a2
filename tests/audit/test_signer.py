"""Signing: what is written, when, and what is never signed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from service.audit import reading
from service.audit.evidence import Evidence
from service.audit.log import Log
from service.audit.places import Directory
from service.audit.signer import Signer
from service.config import Settings
from service.domain.checkpoint import PublicKey, origin_of
from service.errors import CheckpointRefused
from service.ledger import database
from service.ledger.ledger import Ledger
from service.ledger.verify import verify
from service.vault import SigningKey
from tests.audit.conftest import SIGNING, grown, signer
from tests.ledger.tampering import by_force, recompute
from tests.support.waiting import until
from tests.support.yard import Yard

DAY_S = 86_400.0


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await database.connect(database_url, admin=True)
    yield connection
    await connection.close()


async def log_of(ledger: Ledger, folder: Path) -> Log:
    return Log.of(Directory(folder), (await ledger.head()).ledger_id)


async def evidence(ledger: Ledger, folder: Path, known: int = 0) -> Evidence:
    ledger_id = (await ledger.head()).ledger_id
    return await Evidence.gathered(
        Log.of(Directory(folder), ledger_id), PublicKey(origin_of(ledger_id), SIGNING.public), known
    )


async def test_killed_between_the_tiles_and_the_checkpoint(
    yard: Yard, tmp_path: Path, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the next one is signed it looks as if a checkpoint had been taken away; both are said."""
    assert (await signer(yard.ledger, tmp_path).run_once(now=True)) is not None
    await grown(yard, 20)

    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(Log, "keep_note", killed)
        with pytest.raises(asyncio.CancelledError):
            await signer(yard.ledger, tmp_path).run_once(now=True)
    found = await evidence(yard.ledger, tmp_path, await reading.newest_size(admin))
    assert len(found.problems) == 1 and "or whoever signed was killed before writing it" in found.problems[0]
    assert (await signer(yard.ledger, tmp_path).run_once(now=True)) is not None
    assert (await evidence(yard.ledger, tmp_path)).problems == []


async def test_the_note_is_the_format_that_others_read(yard: Yard, tmp_path: Path) -> None:
    """By the words of C2SP's signed-note and tlog-checkpoint, and not by ours."""
    made = await signer(yard.ledger, tmp_path).run_once()
    assert made is not None
    text = (await (await log_of(yard.ledger, tmp_path)).note(made.size)) or ""
    signed, _, rest = text.partition("\n\n")
    origin, size, root, *more = signed.split("\n")
    head = await yard.ledger.head()
    assert (origin, size) == (f"jobyard/{head.ledger_id}", str(head.position))
    assert more[:3] == [f"chain {base64.b64encode(head.hash).decode()}", "epoch 1", "previous 0"]
    dash, name, blob = rest.removesuffix("\n").split(" ")
    key_id = hashlib.sha256(origin.encode() + b"\n\x01" + SIGNING.public).digest()[:4]
    raw = base64.b64decode(blob)
    assert (dash, name, raw[:4], len(raw)) == ("—", origin, key_id, 68)
    SIGNING._key.public_key().verify(raw[4:], (signed + "\n").encode())
    assert base64.b64decode(root) == made.root


async def test_the_first_is_signed_at_once_and_the_next_when_it_is_due(yard: Yard, tmp_path: Path) -> None:
    signing = signer(yard.ledger, tmp_path, checkpoint_events=5, checkpoint_s=DAY_S)
    first = await signing.run_once()
    assert first is not None and first.size == 2
    await grown(yard, 6)
    assert await signing.run_once() is None  # four are new, and the last is young
    await grown(yard, 7)
    second = await signing.run_once()
    assert second is not None and (second.size, second.previous) == (7, 2)
    assert await signing.run_once(now=True) is None  # nothing is new


async def test_time_alone_makes_one_due(yard: Yard, tmp_path: Path) -> None:
    signing = signer(yard.ledger, tmp_path, checkpoint_events=10**9, checkpoint_s=0.01)
    assert await signing.run_once() is not None
    await grown(yard, 3)
    await until(signing.run_once)


async def test_a_clock_that_was_ahead_does_not_put_the_next_one_off(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing = signer(yard.ledger, tmp_path, checkpoint_events=10**9, checkpoint_s=DAY_S)
    now = yard.ledger.now

    async def ahead() -> datetime:
        return await now() + timedelta(days=30)

    with monkeypatch.context() as patched:
        patched.setattr(yard.ledger, "now", ahead)
        assert await signing.run_once() is not None
    await grown(yard, 3)
    assert await signing.run_once() is not None
    await grown(yard, 4)
    assert await signing.run_once() is None  # the clock is right again


async def test_another_process_goes_on_where_the_first_was(yard: Yard, tmp_path: Path) -> None:
    """From the edge of the tree that lies there, over the end of a tile, without the ledger's beginning."""
    for size in (3, 255, 256, 257, 515, 1030):
        await grown(yard, size)
        made = await signer(yard.ledger, tmp_path).run_once(now=True)
        assert made is not None and made.size == size
    found = await evidence(yard.ledger, tmp_path)
    assert (found.told, found.problems) == (1030, [])


async def test_two_at_once_write_the_same(yard: Yard, tmp_path: Path) -> None:
    await grown(yard, 300)
    made = await asyncio.gather(*(signer(yard.ledger, tmp_path).run_once() for _ in range(4)))
    assert len({each.root for each in made if each is not None}) == 1  # None: too late, all was signed
    found = await evidence(yard.ledger, tmp_path)
    assert (found.covered, found.problems) == (300, [])


async def test_who_is_not_on_duty_writes_nothing(yard: Yard, tmp_path: Path) -> None:
    idle = Signer(yard.ledger, Directory(tmp_path), SIGNING, Settings(), lambda: False)
    assert await idle.run_once(now=True) is None
    assert list(tmp_path.iterdir()) == []


async def test_a_new_place_begins_with_all_of_the_ledger(yard: Yard, tmp_path: Path) -> None:
    await grown(yard, 270)
    assert await signer(yard.ledger, tmp_path / "old").run_once()
    await grown(yard, 280)
    assert await signer(yard.ledger, tmp_path / "new").run_once()
    found = await evidence(yard.ledger, tmp_path / "new")
    assert (found.told, found.problems) == (280, [])


# -- what is refused --------------------------------------------------------------------------------


async def refused(ledger: Ledger, folder: Path, signing: Signer | None = None) -> str:
    """Why nothing is signed; and that nothing was."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(CheckpointRefused) as error:
        await (signing or signer(ledger, folder)).run_once(now=True)
    assert [each for each in sorted(folder.rglob("*")) if "checkpoint" in each.parts] == [
        each for each in before if "checkpoint" in each.parts
    ]
    return error.value.message


@pytest.mark.parametrize("remembers", [True, False])
async def test_a_rewritten_ledger_is_not_signed(
    yard: Yard, tmp_path: Path, admin: asyncpg.Connection, remembers: bool
) -> None:
    await grown(yard, 20)
    signing = signer(yard.ledger, tmp_path)
    assert await signing.run_once()
    await grown(yard, 30)
    await by_force(admin, "UPDATE events SET actor = 'someone else' WHERE position = 11")
    await recompute(admin, 11, head=True)
    assert (await verify(admin)).events == 30
    said = await refused(yard.ledger, tmp_path, signing if remembers else None)
    assert "event 20 has another hash" in said


async def test_a_shorter_ledger_is_not_signed(yard: Yard, tmp_path: Path, admin: asyncpg.Connection) -> None:
    await grown(yard, 20)
    assert await signer(yard.ledger, tmp_path).run_once()
    await by_force(
        admin,
        "DELETE FROM events WHERE position > 15",
        "UPDATE ledger_head SET position = 15, hash = (SELECT hash FROM events WHERE position = 15)",
    )
    assert "event 16 is missing" in await refused(yard.ledger, tmp_path)


async def test_a_ledger_with_a_hole_is_not_signed(
    yard: Yard, tmp_path: Path, admin: asyncpg.Connection
) -> None:
    await grown(yard, 20)
    await by_force(admin, "DELETE FROM events WHERE position = 12")
    assert await refused(yard.ledger, tmp_path) == "event 12 is missing"


async def test_a_head_that_does_not_fit_is_not_signed(
    yard: Yard, tmp_path: Path, admin: asyncpg.Connection
) -> None:
    await by_force(admin, "UPDATE ledger_head SET hash = sha256('x')")
    assert "than the ledger's head says" in await refused(yard.ledger, tmp_path)


async def test_other_tiles_are_not_gone_on_with(yard: Yard, tmp_path: Path) -> None:
    await grown(yard, 20)
    assert await signer(yard.ledger, tmp_path).run_once()
    (file,) = tmp_path.glob("*/tile/0/000.p/20")
    file.write_bytes(file.read_bytes()[::-1])
    await grown(yard, 21)
    assert "the tiles do not give the root" in await refused(yard.ledger, tmp_path)
    file.unlink()
    assert "is missing" in await refused(yard.ledger, tmp_path)


async def test_another_key_does_not_go_on(yard: Yard, tmp_path: Path) -> None:
    assert await signer(yard.ledger, tmp_path).run_once()
    await grown(yard, 21)
    other = Signer(yard.ledger, Directory(tmp_path), SigningKey(b"o" * 32), Settings())
    assert "not signed with this service's key" in await refused(yard.ledger, tmp_path, other)


async def test_an_emptied_place_does_not_make_a_rewritten_ledger_good(
    yard: Yard, tmp_path: Path, admin: asyncpg.Connection
) -> None:
    """What the database knows of what was signed still counts."""
    await grown(yard, 20)
    assert await signer(yard.ledger, tmp_path / "old").run_once()
    await by_force(admin, "UPDATE events SET actor = 'someone else' WHERE position = 11")
    await recompute(admin, 11, head=True)
    await grown(yard, 30)
    assert "one of them was rewritten" in await refused(yard.ledger, tmp_path / "new")


async def test_nothing_that_lies_there_is_written_over(yard: Yard, tmp_path: Path) -> None:
    await grown(yard, 20)
    file = tmp_path / str((await yard.ledger.head()).ledger_id) / "tile/0/000.p/20"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"something else")
    assert "holds something else" in await refused(yard.ledger, tmp_path)
    assert file.read_bytes() == b"something else"


async def test_a_refusal_is_loud_and_the_service_goes_on(
    yard: Yard, tmp_path: Path, admin: asyncpg.Connection
) -> None:
    await grown(yard, 20)
    await by_force(admin, "UPDATE ledger_head SET hash = sha256('x')")
    with capture_logs() as lines:
        task = asyncio.create_task(signer(yard.ledger, tmp_path, checkpoint_s=0.01).run())
        await until(lambda: any(line["log_level"] == "error" for line in lines))
        await by_force(admin, "UPDATE ledger_head SET hash = (SELECT hash FROM events WHERE position = 20)")
        await until(lambda: any(line["event"] == "checkpoint signed" for line in lines))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    errors = [line for line in lines if line["log_level"] == "error"]
    assert len(errors) == 1, "it is said once, and not with each look"
    assert errors[0]["event"].startswith("checkpoint refused") and "event 20" in errors[0]["why"]


async def test_what_is_cut_off_anywhere_is_gone_on_with(
    yard: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any number of files, another process finishes what the first began."""
    await grown(yard, 300)
    write, left = Directory.write, [0]

    async def cut(self: Directory, name: str, data: bytes) -> bool:
        if not left[0]:
            raise asyncio.CancelledError
        left[0] -= 1
        return await write(self, name, data)

    for files in range(4):
        monkeypatch.setattr(Directory, "write", cut)
        left[0] = files
        with pytest.raises(asyncio.CancelledError):
            await signer(yard.ledger, tmp_path).run_once()
        monkeypatch.undo()
        assert (await evidence(yard.ledger, tmp_path)).covered == 0
    assert await signer(yard.ledger, tmp_path).run_once()
    found = await evidence(yard.ledger, tmp_path)
    assert (found.told, found.problems) == (300, [])
