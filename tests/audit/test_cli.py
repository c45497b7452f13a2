"""`jobyard audit verify` and `check`: what they say, and the status they leave with."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from service.audit.bucket import open_place
from service.audit.log import Log
from service.audit.places import Directory
from service.audit.proofs import Proof, written
from service.cli.exits import Exit
from service.cli.main import app_for
from service.domain.checkpoint import Note, PublicKey, origin_of, read_note
from service.ledger.chain import canonical, sealing_of
from service.vault import SigningKey
from sql import migrations
from tests.audit.conftest import LAST, Signed
from tests.audit.test_places import a_bucket
from tests.ledger.tampering import by_force, recompute
from tests.support.parts import STORE


class Said:
    """How a command line ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(signed: Signed, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """In this process, in a thread: a command has an event loop of its own."""
    monkeypatch.setenv("DATABASE_URL", signed.url)

    async def run(*words: str) -> Said:
        capfd.readouterr()
        code = await asyncio.to_thread(left_with, *words)
        return Said(code, *capfd.readouterr())

    return run


def left_with(*words: str) -> int:
    with pytest.raises(SystemExit) as left:
        app_for("audit")(["audit", *words], prog_name="jobyard")
    return int(left.value.code or 0)


async def test_verify_against_a_folder_or_one_note(cli: Any, signed: Signed, tmp_path: Path) -> None:
    for name in ("key", "a+b"):
        (tmp_path / name).write_text(signed.key.text + "\n")
    note = signed.folder / signed.log().name(520)
    for place in (signed.folder, signed.folder / str(signed.ledger_id), note):
        for key in (signed.key.text, str(tmp_path / "key"), str(tmp_path / "a+b")):
            said = await cli("verify", "--against", str(place), "--key", key)
            assert (said.code, said.err) == (Exit.DONE, ""), said.out
            assert said.out.startswith(f"verified: {LAST} events, the last hash is ")
            assert ("1 checkpoint holds" if place == note else "4 checkpoints hold") in said.out
    said = await cli("verify", "--against", str(signed.folder), "--key", signed.key.text, "-o", "json")
    assert said.json["verified"] is True
    assert (said.json["events"], said.json["checkpoints"], said.json["signed"]) == (LAST, 4, 600)


async def test_verify_against_a_bucket(cli: Any, signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"s3://{await a_bucket()}/some/where"
    place = open_place(where, os.environ[STORE])
    for file in signed.folder.rglob("*"):
        if file.is_file():
            assert await place.write(str(file.relative_to(signed.folder)), file.read_bytes())
    await place.close()
    monkeypatch.setenv("JOBYARD_CHECKPOINT_S3", os.environ[STORE])
    said = await cli("verify", "--against", where, "--key", signed.key.text, "-o", "json")
    assert (said.code, said.json["verified"], said.json["signed"]) == (Exit.DONE, True, 600), said.err


async def test_a_rewritten_suffix_is_named(cli: Any, signed: Signed, admin: asyncpg.Connection) -> None:
    await by_force(admin, "UPDATE events SET actor = 'someone else' WHERE position = 301")
    await recompute(admin, 301, head=True)
    assert (await cli("verify")).code == Exit.DONE
    words = ("verify", "--against", str(signed.folder), "--key", signed.key.text)
    said = await cli(*words)
    assert (said.code, said.out) == (Exit.FAILED, "CORRUPT: event 301 is not the one that was signed\n")
    assert (await cli(*words, "-o", "json")).json["firstBadEvent"] == 301


async def test_an_event_at_zero_is_named_as_any_other(
    cli: Any, signed: Signed, admin: asyncpg.Connection
) -> None:
    await admin.execute("ALTER TABLE events DROP CONSTRAINT events_begin_at_one")
    await by_force(
        admin,
        "INSERT INTO events SELECT 0, project, job, run, type, data, occurred_at, recorded_at, actor,"
        " command_id, request_id, hash FROM events WHERE position = 6",
    )
    await admin.execute(next(each.text for each in migrations() if each.name == "positions"))
    said = await cli("verify", "-o", "json")
    assert said.code == Exit.FAILED
    assert said.json["firstBadEvent"] == 0 and "event 0 lies before the beginning" in said.json["message"]


async def test_damaged_evidence_is_told_though_the_events_hold(cli: Any, signed: Signed) -> None:
    (signed.folder / signed.log().name(600)).unlink()
    words = ("verify", "--against", str(signed.folder), "--key", signed.key.text)
    said = await cli(*words)
    assert said.code == Exit.FAILED and said.out.startswith("CORRUPT: the events hold")
    found = (await cli(*words, "-o", "json")).json
    assert (found["verified"], found["events"], len(found["problems"])) == (False, LAST, 2)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--against", "."), "--key"),
        (("--against", ".", "--key", "jobyard/x"), "--key"),
        (("--against", ".", "--key", "k+" * 3000), "--key"),
        (("--file", "missing.jsonl"), "missing.jsonl"),
        (("--against", "s3://X", "--key", "{key}"), "s3://bucket/prefix"),
        (("--against", "s3://bucket", "--key", "{key}"), "JOBYARD_CHECKPOINT_S3"),
    ],
)
async def test_what_cannot_be_verified_by_is_named(
    cli: Any, signed: Signed, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], text: str
) -> None:
    for name in ("JOBYARD_CHECKPOINT_S3", "JOBYARD_S3"):
        monkeypatch.delenv(name, raising=False)
    said = await cli("verify", *(word.replace("{key}", signed.key.text) for word in words))
    assert said.code in (Exit.USAGE, Exit.FAILED) and text in said.err and said.err.count("\n") == 1, said.err


async def test_nothing_at_a_place_is_no_proof(cli: Any, signed: Signed, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    said = await cli("verify", "--against", str(empty), "--key", signed.key.text)
    why = f"there are no checkpoints at {empty}, and the database knows of one of size 600\n"
    assert said.code == Exit.FAILED and said.out.endswith(why) and said.out.count("\n") == 2, said.out


async def test_a_place_that_is_not_there_is_bad_usage(
    cli: Any, signed: Signed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody who mistypes it is told that the ledger was changed."""
    monkeypatch.setenv("JOBYARD_CHECKPOINT_S3", os.environ[STORE])
    for place in (
        str(tmp_path / "nowhere"),
        str(tmp_path / "none" / "00000000000000000520"),
        "s3://not-there/p",
    ):
        said = await cli("verify", "--against", place, "--key", signed.key.text)
        assert (said.code, said.out) == (Exit.USAGE, "")
        assert said.err.startswith(f"jobyard: --against: {place!r} is not allowed; there is no such folder")


async def test_checkpoints_of_another_ledger_are_said_to_be_so(
    cli: Any, signed: Signed, tmp_path: Path
) -> None:
    """Whether they lie in the folder of its id or right there, and whoever's key is named."""
    other, stranger = uuid4(), SigningKey(b"x" * 32)
    log = Log.of(Directory(tmp_path / "theirs"), other)
    ours = read_note(await signed.log().note(600) or "").checkpoint
    theirs = ours._replace(origin=origin_of(other))
    key = PublicKey(origin_of(other), stranger.public)
    note = Note(theirs, key.name, key.id, stranger.sign(theirs.text.encode()))
    assert await log.keep_note(600, note.text)
    for place in ("theirs", f"theirs/{other}"):
        for named in (signed.key, key):
            said = await cli("verify", "--against", str(tmp_path / place), "--key", named.text)
            assert said.code == Exit.FAILED and said.out.startswith("CORRUPT: the events hold"), said.out
            assert said.out.count("\n") == 2, said.out
            assert f"of the ledger {other}, and what is verified is of {signed.ledger_id}" in said.out
    where = await a_bucket()
    bucket = open_place(f"s3://{where}/p", os.environ[STORE])
    assert await bucket.write(f"{other}/{log.name(600).partition('/')[2]}", b"x")
    missing = open_place(f"s3://{where}-none/p", os.environ[STORE])
    assert (await bucket.folders(), await missing.folders()) == ([str(other)], None)
    await bucket.close()
    await missing.close()


# -- proofs -----------------------------------------------------------------------------------------


async def proof_of(admin: asyncpg.Connection, signed: Signed, position: int) -> Proof:
    record: Any = await admin.fetchrow("SELECT * FROM events WHERE position = $1", position)
    before: Any = await admin.fetchval("SELECT hash FROM events WHERE position = $1", position - 1)
    path = await signed.log().path(position - 1, 600)
    return Proof(
        position=position,
        event=msgspec.Raw(canonical(sealing_of(record))),
        previous=(before or bytes(32)).hex(),
        hash=record["hash"].hex(),
        proof=[each.hex() for each in path],
        checkpoint=(await signed.log().note(600)) or "",
    )


async def test_a_proof_is_checked_with_the_key_alone(
    cli: Any, signed: Signed, admin: asyncpg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    file = tmp_path / "proof.json"
    for position in (1, 3, 256, 257, 600):
        file.write_bytes(written(await proof_of(admin, signed, position)))
        said = await cli("check", str(file), "--key", signed.key.text)
        assert said.code == Exit.DONE and said.out.startswith(f"proved: event {position} ("), said.err
        file.write_text(json.dumps(json.loads(file.read_bytes()), indent=2))
        said = await cli("check", str(file), "--key", signed.key.text, "-o", "json")
        assert said.json["proved"] is True and said.json["event"]["position"] == position


async def test_what_does_not_prove_it_is_refused(
    cli: Any, signed: Signed, admin: asyncpg.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "proof.json"
    good = await proof_of(admin, signed, 300)
    other = await proof_of(admin, signed, 299)
    replace = msgspec.structs.replace
    event = bytes(good.event)
    forged = {
        "another event": replace(good, event=msgspec.Raw(event.replace(b'"test"', b'"nobody"'))),
        "another hash": replace(good, hash=other.hash),
        "another path": replace(good, proof=other.proof),
        "a shorter path": replace(good, proof=good.proof[:-1]),
        "no hashes": replace(good, proof=["x"] * len(good.proof)),
        "another position": replace(good, position=299),
        "another before": replace(good, previous=other.previous),
        "another root": replace(good, checkpoint=(await signed.log().note(520)) or ""),
        "no note": replace(good, checkpoint=good.checkpoint[:-9]),
    }
    for what, proof in forged.items():
        file.write_bytes(written(proof))
        said = await cli("check", str(file), "--key", signed.key.text, "-o", "json")
        assert (said.code, said.json["proved"]) == (Exit.FAILED, False), what
    file.write_bytes(written(good))
    stranger = PublicKey(signed.key.name, SigningKey(b"x" * 32).public)
    assert (await cli("check", str(file), "--key", stranger.text)).code == Exit.FAILED
    for data, why in (
        (b"", "it is not JSON"),
        (b"no JSON", "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (written(good)[:-9], "it is not JSON"),
        (b"{}", "missing required field `position`"),
        (b"[1]", "Expected `object`, got `array`"),
        (written(good).replace(b'"hash":"', b'"hsah":"'), "unknown field `hsah`"),
        (written(good).replace(b'"position":300,"previous', b'"position":"x","previous'), "`$.position`"),
    ):
        file.write_bytes(data)
        said = await cli("check", str(file), "--key", signed.key.text)
        assert (said.code, said.err.count("\n")) == (Exit.FAILED, 1), said.err
        assert f"{file}: it is no proof that" in said.err and why in said.err, said.err
        assert "not allowed" not in said.err
