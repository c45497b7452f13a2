"""`verify --against`: who rewrites the ledger, however well, is found at the first event that is another."""

from __future__ import annotations

import shutil
from pathlib import Path

import asyncpg
import pytest

from service.audit.evidence import Evidence
from service.audit.proofs import signed_checkpoint
from service.domain.checkpoint import NotACheckpoint, read_note
from service.errors import LedgerCorrupt
from service.ledger.verify import verify
from service.vault import SigningKey
from tests.audit.conftest import LAST, SIZES, Signed, against
from tests.ledger.tampering import by_force, recompute


async def first_bad(connection: asyncpg.Connection, signed: Signed) -> int:
    with pytest.raises(LedgerCorrupt) as error:
        await against(connection, signed)
    assert str(error.value.position) in error.value.message
    return error.value.position


async def test_an_untouched_ledger_holds(admin: asyncpg.Connection, signed: Signed) -> None:
    found, evidence = await against(admin, signed, known=SIZES[-1])
    assert (found.events, evidence.covered, evidence.told, evidence.problems) == (
        LAST,
        SIZES[-1],
        SIZES[-1],
        [],
    )
    assert [checkpoint.previous for checkpoint in evidence.checkpoints] == [0, *SIZES[:-1]]


@pytest.mark.parametrize("position", [1, 3, 9, 10, 256, 257, 512, 513, 599, 600])
async def test_a_suffix_made_anew_is_found_where_it_begins(
    admin: asyncpg.Connection, signed: Signed, position: int
) -> None:
    """The chain holds again, and so does the head: without checkpoints nothing is to be seen."""
    await by_force(admin, f"UPDATE events SET actor = 'someone else' WHERE position = {position}")
    await recompute(admin, position, head=True)
    assert (await verify(admin)).events == LAST
    assert await first_bad(admin, signed) == position


async def test_one_event_hashed_again_is_found_itself_and_not_the_next(
    admin: asyncpg.Connection, signed: Signed
) -> None:
    await by_force(admin, "UPDATE events SET actor = 'someone else' WHERE position = 77")
    await recompute(admin, 77, head=True)
    await by_force(
        admin,
        "UPDATE events SET hash = kept_events.hash FROM kept_events"
        " WHERE events.position = kept_events.position AND events.position > 77",
    )
    with pytest.raises(LedgerCorrupt) as error:
        await verify(admin)
    assert error.value.position == 78  # all that the chain alone can tell
    assert await first_bad(admin, signed) == 77


async def test_a_removed_event_with_a_chain_made_anew(admin: asyncpg.Connection, signed: Signed) -> None:
    await by_force(
        admin,
        "DELETE FROM events WHERE position = 250",
        "UPDATE events SET position = position - 1 WHERE position > 250",
        f"UPDATE ledger_head SET position = {LAST - 1}",
    )
    await recompute(admin, 250, head=True)
    assert (await verify(admin)).events == LAST - 1
    assert await first_bad(admin, signed) == 250


async def test_two_swapped_with_a_chain_made_anew(admin: asyncpg.Connection, signed: Signed) -> None:
    await by_force(
        admin,
        "UPDATE events SET position = 1004 WHERE position = 4",
        "UPDATE events SET position = 4 WHERE position = 6",
        "UPDATE events SET position = 6 WHERE position = 1004",
    )
    await recompute(admin, 4, head=True)
    assert (await verify(admin)).events == LAST
    assert await first_bad(admin, signed) == 4


@pytest.mark.parametrize("kept", [0, 8, 299, 300, 599])
async def test_a_cut_tail_with_the_head_set_back(
    admin: asyncpg.Connection, signed: Signed, kept: int
) -> None:
    await by_force(
        admin,
        f"DELETE FROM events WHERE position > {kept}",
        f"UPDATE ledger_head SET position = {kept}, hash = coalesce("
        f"(SELECT hash FROM events WHERE position = {kept}), decode(repeat('00', 32), 'hex'))",
    )
    assert (await verify(admin)).events == kept
    assert await first_bad(admin, signed) == kept + 1


async def test_what_came_after_the_last_checkpoint_is_told_as_not_covered(
    admin: asyncpg.Connection, signed: Signed
) -> None:
    await by_force(admin, "UPDATE events SET actor = 'someone else' WHERE position = 605")
    await recompute(admin, 605, head=True)
    found, evidence = await against(admin, signed)
    assert (found.events, evidence.covered) == (LAST, 600)


# -- the evidence itself ----------------------------------------------------------------------------


async def problems(signed: Signed, known: int = 0) -> list[str]:
    return (await Evidence.gathered(signed.log(), signed.key, known)).problems


def file_of(signed: Signed, size: int) -> Path:
    return signed.folder / signed.log().name(size)


async def test_a_forged_checkpoint_is_named_and_not_believed(
    admin: asyncpg.Connection, signed: Signed
) -> None:
    """Someone rewrites the ledger and signs what it is then, with a key that is not the pinned one."""
    await by_force(admin, "UPDATE events SET actor = 'someone else' WHERE position = 550")
    await recompute(admin, 550, head=True)
    file = file_of(signed, 600)
    note = read_note(file.read_text())
    chain = await admin.fetchval("SELECT hash FROM events WHERE position = 600")
    other = note.checkpoint._replace(chain=chain)
    forged = note._replace(checkpoint=other, signature=SigningKey(b"x" * 32).sign(other.text.encode()))
    file.write_text(forged.text)
    found = await problems(signed)
    assert len(found) == 2 and found[0].startswith("checkpoint 600 ("), found
    assert "its signature is not by the key" in found[0]
    file.write_text(note._replace(signature=bytes(64)).text)
    assert "its signature is not by the key" in (await problems(signed))[0]
    assert (await against(admin, signed))[1].covered == 520


async def test_every_byte_of_a_checkpoint_counts(signed: Signed) -> None:
    file = file_of(signed, 300)
    whole = file.read_bytes()
    for at in range(len(whole)):
        data = whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
        with pytest.raises(NotACheckpoint):
            signed_checkpoint(data.decode(errors="replace"), signed.key)
    file.write_bytes(data)
    assert any(each.startswith("checkpoint 300 (") for each in await problems(signed))


async def test_a_checkpoint_of_another_size_under_its_name(signed: Signed) -> None:
    file_of(signed, 600).write_bytes(file_of(signed, 520).read_bytes())
    assert "it is of size 520" in (await problems(signed))[0]


async def test_a_checkpoint_that_was_taken_away(signed: Signed) -> None:
    file_of(signed, 520).unlink()
    assert await problems(signed) == ["checkpoint 520 is missing: checkpoint 600 says that it was before"]


async def test_the_newest_checkpoint_that_was_taken_away_leaves_its_tiles(signed: Signed) -> None:
    file_of(signed, 600).unlink()
    missing = "a checkpoint is missing: the tiles reach to 600, and the newest that holds is of size 520"
    killed = (
        "; it was taken away, or whoever signed was killed before writing it, which the next checkpoint "
        "mends: start the service, and verify again once it has signed"
    )
    assert await problems(signed) == [f"{missing}{killed}"]
    evidence = await Evidence.gathered(signed.log(), signed.key, 600)
    assert evidence.problems[1:] == [missing], "the database knows that it was there"


async def test_a_checkpoint_that_is_being_made_is_waited_for(
    signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tiles lie there before it: whoever verifies just then must not call it missing."""
    file = file_of(signed, 600)
    note = file.read_bytes()
    file.unlink()
    log, looks = signed.log(), 0
    sizes = log.sizes

    async def counted(after: int = 0) -> list[int]:
        nonlocal looks
        looks += 1
        if looks == 3:  # it has been looked at whole once, and once whether anything came
            file.write_bytes(note)
        return await sizes(after)

    monkeypatch.setattr(log, "sizes", counted)
    found = await Evidence.gathered(log, signed.key, 600, settle_s=20)
    assert (found.problems, found.covered) == ([], 600)


async def test_a_folder_set_back_is_seen_by_what_the_database_knows(signed: Signed) -> None:
    file_of(signed, 600).unlink()
    shutil.rmtree(signed.folder / str(signed.ledger_id) / "tile/0/002.p")
    shutil.rmtree(signed.folder / str(signed.ledger_id) / "tile/1")
    (file := signed.folder / str(signed.ledger_id) / "tile/0/002.p/8").parent.mkdir()
    file.write_bytes(b"")
    assert any("the database knows of it" in each for each in await problems(signed, known=600))


async def test_an_empty_folder_is_no_evidence(signed: Signed, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    evidence = await Evidence.gathered(signed.log(tmp_path / "nothing"), signed.key)
    assert len(evidence.problems) == 1 and "there are no checkpoints" in evidence.problems[0]


@pytest.mark.parametrize("position", [100, 301, 560])
async def test_without_tiles_it_is_known_between_which_checkpoints(
    admin: asyncpg.Connection, signed: Signed, position: int
) -> None:
    shutil.rmtree(signed.folder / str(signed.ledger_id) / "tile")
    await by_force(admin, f"UPDATE events SET actor = 'someone else' WHERE position = {position}")
    await recompute(admin, position, head=True)
    held = max(size for size in (0, *SIZES) if size < position)
    assert await first_bad(admin, signed) == held + 1
    assert "the tiles tell events up to 0 alone" in (await problems(signed))[0]


@pytest.mark.parametrize("name", ["tile/0/000", "tile/0/001", "tile/0/002.p/88", "tile/1/000.p/2"])
async def test_a_bit_flipped_in_a_tile(admin: asyncpg.Connection, signed: Signed, name: str) -> None:
    """The ledger still holds, by the roots alone; the tile is told of."""
    file = signed.folder / str(signed.ledger_id) / name
    data = bytearray(file.read_bytes())
    data[17] ^= 4
    file.write_bytes(data)
    found, evidence = await against(admin, signed)
    assert found.events == LAST
    assert evidence.problems


async def test_one_note_that_somebody_kept(admin: asyncpg.Connection, signed: Signed) -> None:
    text = file_of(signed, 300).read_text()
    assert (await verify(admin, Evidence.of_note(text, signed.key))).events == LAST
    await by_force(admin, "UPDATE events SET actor = 'someone else' WHERE position = 200")
    await recompute(admin, 200, head=True)
    with pytest.raises(LedgerCorrupt, match="event 1, or one after it up to 300") as error:
        await verify(admin, Evidence.of_note(text, signed.key))
    assert error.value.position == 1
