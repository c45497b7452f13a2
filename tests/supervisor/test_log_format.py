"""Records of logs: as they are on disk, as the engine frames them, and joined. Pure."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import LogBroken
from service.supervisor.engine.output import FrameReader
from service.supervisor.engine.protocol import LogChunk
from service.supervisor.logs.format import Record, decode, encoded, pieces, stamp
from service.supervisor.logs.join import Join
from tests.supervisor.logged import NOON, frame, line, records


@given(records)
def test_a_record_survives_the_disk(record: Record) -> None:
    line = record.encode()
    assert line.count(b"\n") == 1
    assert decode(line[:-1]) == record


@given(st.binary(max_size=80))
def test_foreign_bytes_are_no_record_or_a_faithful_one(data: bytes) -> None:
    data = data.replace(b"\n", b"")
    record = decode(data)
    assert record is None or record.encode() == data + b"\n"


chunks = st.builds(
    LogChunk,
    stream=st.sampled_from([1, 2]),
    timestamp=st.integers(0, 5).map(lambda n: stamp(NOON + timedelta(microseconds=n))),
    payload=st.binary(max_size=40) | st.sampled_from([b"", b"\n", b"a\nb\n", b"a\nb", b"\n\n"]),
)


@given(st.lists(chunks, max_size=20), st.lists(st.integers(1, 60), max_size=40), st.booleans())
def test_frames_cut_anywhere_are_the_chunks_they_were(
    printed: list[LogChunk], cuts: list[int], short: bool
) -> None:
    wire = b"".join(frame(chunk, short) for chunk in printed)
    reader, read, at = FrameReader(), list[LogChunk](), 0
    for size in (*cuts, len(wire) + 1):
        read += [chunk for batch in reader.feed(wire[at : at + size]) for chunk in batch]
        at += size
    assert read == printed
    assert not reader.torn


@given(st.lists(chunks, max_size=20))
def test_chunks_encoded_at_once_are_their_records(printed: list[LogChunk]) -> None:
    assert encoded(printed) == [record.encode() for chunk in printed for record in pieces(chunk)]
    text = b"".join(line[34:-1] + (b"\n" if line[32:33] == b"." else b"") for line in encoded(printed))
    assert text == b"".join(chunk.payload for chunk in printed)


def test_what_comes_before_a_tear_in_the_same_bytes_is_read() -> None:
    said = b"Error grabbing logs: unexpected EOF"
    line = LogChunk(1, stamp(NOON), b"kept\n")
    batches = FrameReader().feed(frame(line) + b"\3\0\0\0" + len(said).to_bytes(4, "big") + said)
    assert next(batches) == [line]
    with pytest.raises(LogBroken):
        next(batches)


@given(st.lists(records, max_size=30), st.integers(0, 30), st.integers(0, 30), st.integers(1, 9))
def test_joining_any_snapshot_adds_exactly_what_is_missing(
    log: list[Record], kept: int, begins: int, batch: int
) -> None:
    # Timestamps in any order: a clock can be set back.
    kept = min(kept, len(log))
    first_twin = log.index(log[kept - 1]) if kept else 0
    join = Join(record.encode() for record in log[:kept])
    snapshot = [record.encode() for record in log[min(begins, first_twin) :]]
    new = [
        line for start in range(0, len(snapshot), batch) for line in join.new(snapshot[start : start + batch])
    ]
    assert join.joined
    assert new == [record.encode() for record in log[kept:]]


def test_a_snapshot_that_does_not_hold_our_last_record_tells_nothing() -> None:
    join = Join([line(n).encode() for n in range(5)])
    assert join.new([line(n).encode() for n in (6, 7, 8)]) == []
    assert not join.joined
