"""Exports that prove themselves: every byte of one counts, and what is wrong is named where it is."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from service.audit import exported, proofs
from service.audit.evidence import Evidence
from service.audit.export import Line, Trailer, encode
from service.audit.export import exported as lines_of
from service.audit.exported import ExportCorrupt
from service.audit.reading import Wanted
from service.domain.checkpoint import PublicKey, read_note
from service.errors import Invalid, LedgerCorrupt, Unreadable
from service.ledger import database
from service.vault import SigningKey
from tests.audit.conftest import Signed
from tests.ledger.tampering import by_force, recompute
from tests.support.jobs import PROJECT

PARTS = {
    "whole": Wanted(),
    "range": Wanted(after=250, upto=290),
    "project": Wanted(project=PROJECT, after=2, upto=30),
    "odd": Wanted(types=("JobSubmitted", "RunFinalized", "QuotaSet"), upto=14),
}


@dataclass(frozen=True)
class File:
    """An export and where its lines begin; `positions[n]` is of line n, 0 of the first and the last."""

    path: Path
    data: bytes
    key: PublicKey

    @property
    def lines(self) -> list[bytes]:
        return self.data.splitlines(keepends=True)

    @property
    def positions(self) -> list[int]:
        events = [msgspec.json.decode(line)["position"] for line in self.lines[1:-1]]
        return [0, *events, 0]

    async def wrong(self, data: bytes, key: PublicKey | None = None, **more: Any) -> ExportCorrupt:
        """What is found in other bytes."""
        self.path.write_bytes(data)
        with pytest.raises(ExportCorrupt) as error:
            await exported.check(self.path, key, **more)
        if error.value.position:
            assert f"event {error.value.position}" in error.value.message
        return error.value


@pytest.fixture
async def pool(made: Signed) -> AsyncIterator[asyncpg.Pool]:
    async with database.pool(made.url, most=2) as opened:
        yield opened


async def export(pool: asyncpg.Pool, made: Signed, wanted: Wanted, path: Path) -> File:
    note = (await made.log().note(600)) or ""
    signed = read_note(note).checkpoint
    wanted = wanted._replace(upto=min(wanted.upto, signed.size))
    data = b"".join([each async for each in lines_of(pool, made.log(), note, signed, made.ledger_id, wanted)])
    path.write_bytes(data)
    return File(path, data, made.key)


@pytest.fixture(params=["range", "project", "odd"])
async def file(request: pytest.FixtureRequest, pool: asyncpg.Pool, made: Signed, tmp_path: Path) -> File:
    return await export(pool, made, PARTS[request.param], tmp_path / "export.jsonl")


@pytest.mark.parametrize("name", PARTS)
async def test_what_was_exported_holds(pool: asyncpg.Pool, made: Signed, tmp_path: Path, name: str) -> None:
    file = await export(pool, made, PARTS[name], tmp_path / "export.jsonl")
    found = await exported.check(file.path, made.key)
    events = file.positions[1:-1]
    assert (found.events, found.first, found.last) == (len(events), events[0], events[-1])
    assert found.header.kind == ("whole" if name in ("whole", "range") else "part")
    if name == "whole":
        assert events == list(range(1, 601))
    evidence = await Evidence.gathered(made.log(), made.key)
    assert await exported.check(file.path, made.key, evidence) == found._replace(compared=600)
    assert evidence.problems == []


async def test_an_export_of_nothing_holds(pool: asyncpg.Pool, made: Signed, tmp_path: Path) -> None:
    file = await export(pool, made, Wanted(project="nobody's"), tmp_path / "export.jsonl")
    found = await exported.check(file.path, made.key)
    assert (found.events, found.first, found.last) == (0, 0, 0)


async def test_a_bit_flipped_in_any_byte_is_found_in_its_line(file: File) -> None:
    """Without the key, so that nothing but the file speaks for itself."""
    offset, source = 0, random.Random(7)
    for line, position in zip(file.lines, file.positions, strict=True):
        for at in source.sample(range(len(line)), 12 if position else len(line) // 3):
            data = bytearray(file.data)
            data[offset + at] ^= 1 << source.randrange(8)
            found = await file.wrong(bytes(data))
            assert found.position == position, (position, at, bytes(data)[offset : offset + len(line)])
        for at in (len(line) - 1, line.find(b'"position"') + 11, line.rfind(b'"position"') + 11, 9):
            data = bytearray(file.data)
            data[offset + at] ^= 1
            assert (await file.wrong(bytes(data))).position == position, (position, at)
        offset += len(line)


async def test_a_line_that_is_taken_out_is_missed(file: File) -> None:
    for at in range(1, len(file.lines) - 1):
        kept = [line for number, line in enumerate(file.lines) if number != at]
        assert (await file.wrong(b"".join(kept))).position == file.positions[at]


async def test_two_lines_that_are_swapped(file: File) -> None:
    for first, second in ((1, 2), (1, len(file.lines) - 2), (2, 3)):
        lines = file.lines
        lines[first], lines[second] = lines[second], lines[first]
        assert (await file.wrong(b"".join(lines))).position == file.positions[first], (first, second)


async def test_a_line_that_stands_twice(file: File) -> None:
    for before in (2, 4, len(file.lines) - 1):
        lines = file.lines
        lines.insert(before, lines[1])
        found = await file.wrong(b"".join(lines))
        assert (found.line, found.position) == (before + 1, file.positions[1])
        assert "stands twice: it is in line 2, too" in found.message


async def test_a_file_that_is_cut_off(file: File) -> None:
    """Anywhere: between two lines, or in one. What is left of it may be only the beginning."""
    last = file.data.rindex(b"\n", 0, len(file.data) - 1) + 1
    for end in (len(file.data) - 1, last, last - 1, last - 200, last // 2):
        found = await file.wrong(file.data[:end])
        assert found.line > 1


async def test_what_is_changed_with_every_sum_made_anew(file: File, made: Signed) -> None:
    """By somebody who knows the format: the path to the signed root still tells."""
    lines = file.lines
    for at in (1, 3, len(lines) - 2):
        other = list(lines)
        other[at] = rehashed(lines[at])
        found = await file.wrong(resummed(other), made.key)
        assert found.position == file.positions[at], at


def rehashed(line: bytes) -> bytes:
    """Another actor, under a hash that fits."""
    read = msgspec.json.decode(line, type=Line)
    event = bytes(read.event).replace(b'"actor":"test"', b'"actor":"nobody"')
    assert event != bytes(read.event)
    own = hashlib.sha256(bytes.fromhex(read.previous) + event).hexdigest()
    return encode(msgspec.structs.replace(read, event=msgspec.Raw(event), hash=own)) + b"\n"


def resummed(lines: list[bytes]) -> bytes:
    """With a last line that fits those before it."""
    events = [msgspec.json.decode(line)["position"] for line in lines[1:-1]]
    trailer = Trailer(
        events=len(events),
        first=events[0],
        last=events[-1],
        header=hashlib.sha256(lines[0]).hexdigest(),
        sha256=hashlib.sha256(b"".join(lines[:-1])).hexdigest(),
    )
    return b"".join(lines[:-1]) + encode(trailer) + b"\n"


async def test_a_whole_export_misses_what_was_left_out_with_every_sum_made_anew(
    pool: asyncpg.Pool, made: Signed, tmp_path: Path
) -> None:
    file = await export(pool, made, PARTS["range"], tmp_path / "export.jsonl")
    lines = file.lines
    assert (await file.wrong(resummed(lines[:5] + lines[6:]), made.key)).position == file.positions[5]
    assert (await file.wrong(resummed(lines[:-2] + lines[-1:]), made.key)).position == file.positions[-2]


async def test_another_signer_is_refused(file: File, made: Signed) -> None:
    other = PublicKey(made.key.name, SigningKey(b"x" * 32).public)
    found = await file.wrong(file.data, other)
    assert (found.line, found.position) == (1, 0) and "signature is not by the key" in found.message


async def test_another_ledgers_key_is_refused(file: File, made: Signed) -> None:
    assert (
        "the key is of jobyard/other"
        in (await file.wrong(file.data, PublicKey("jobyard/other", made.key.key))).message
    )


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"no export\n", b"{}\n{}\n", b"\xff\xfe", b'{"format":1}\n' * 3]
)
async def test_what_is_no_export_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(Invalid, match="FILE"):
        await exported.check(tmp_path / "file", None)


async def test_what_is_nested_without_end_is_no_proof_and_no_export(tmp_path: Path, made: Signed) -> None:
    """Whoever is handed a file by a stranger is told what it is, and sees no stack."""
    nested = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    data = b'{"position":1,"event":%b,"previous":"","hash":"","proof":[],"checkpoint":""}' % nested
    with pytest.raises(Unreadable):
        proofs.check(data, made.key)
    path = tmp_path / "nested"
    path.write_bytes(data + b"\n")
    with pytest.raises((Invalid, ExportCorrupt)):
        await exported.check(path, made.key)


async def test_the_secrets_in_it_are_sealed_and_the_proof_outlives_their_key(
    pool: asyncpg.Pool, made: Signed, tmp_path: Path
) -> None:
    """The hash covers the ciphertext, so a destroyed key takes nothing from it."""
    file = await export(pool, made, PARTS["project"], tmp_path / "export.jsonl")
    await pool.execute("DELETE FROM project_keys")
    assert (await exported.check(file.path, made.key)).events


async def test_a_rewritten_ledger_exports_what_does_not_hold(
    admin: asyncpg.Connection, pool: asyncpg.Pool, made: Signed, tmp_path: Path
) -> None:
    """The export proves nothing that the signed tree does not have, whoever writes it."""
    await by_force(admin, "UPDATE events SET actor = 'someone else' WHERE position = 20")
    await recompute(admin, 20, head=True)
    file = await export(pool, made, Wanted(upto=40), tmp_path / "export.jsonl")
    with pytest.raises(LedgerCorrupt) as error:
        await exported.check(file.path, made.key)
    assert error.value.position == 20
