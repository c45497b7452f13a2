"""A place in a run's kept records, that moves on as they are read, also while they are written."""

from __future__ import annotations

import os
from collections.abc import Iterator

from service.supervisor.logs.format import NO_TIME, Record, RunLog, head_of, whole_records

#: What is read at once: a reader whose client takes nothing holds about as much.
_READ_BYTES = 64 * 1024


class Cursor:
    """A place in a run's records that moves forward only; `advance` never gives half a record."""

    def __init__(self, log: RunLog) -> None:
        self._log = log
        self._number: int | None = None
        self._offset = 0
        self._total: int | None = 0
        self.complete = False

    def advance(self) -> list[Record]:
        """The next records (about 64 KiB of them at most); none means: nothing more for now."""
        while not self.complete:
            # Ask for later segments first: what is in this one after that is all it will ever hold.
            later = [
                number for number in self._log.numbers() if self._number is None or number > self._number
            ]
            before = self._offset
            records = self._more()
            if records:
                return records
            if self._offset != before:
                continue  # a segment's head, or what is none of ours: more may follow it
            if not later:
                return []
            self._number, self._offset = later[0], 0
        return []

    def skip_to_end(self, back_bytes: int = 4096) -> bool:
        """Go to the last `back_bytes` of the last segment; True if that is also the log's beginning."""
        numbers = self._log.numbers()
        if not numbers:
            return True
        self._number = numbers[-1]
        self._total = None  # where it is not known, the next segment's head can tell of no gap
        try:
            with self._log.segment(self._number).open("rb") as file:
                start = max(0, file.seek(0, os.SEEK_END) - back_bytes)
                file.seek(start)
                self._offset = start + (file.read().find(b"\n") + 1 if start else 0)
                head = head_of(file.fileno())
                if head is not None and self._offset:
                    before, head_bytes = head
                    self._total = before + self._offset - head_bytes
        except FileNotFoundError:
            self._number = None
        return self._number == 0 and self._offset == 0

    def _more(self) -> list[Record]:
        if self._number is None:
            return []
        try:
            with self._log.segment(self._number).open("rb") as file:
                file.seek(self._offset)
                data = file.read(_READ_BYTES)
                while len(data) >= _READ_BYTES and b"\n" not in data:
                    more = file.read(_READ_BYTES)
                    if not more:
                        break
                    data += more
        except FileNotFoundError:
            return []  # dropped by the writer's ring; the next segment's head tells what was lost
        records, taken = whole_records(data)
        self._offset += taken
        return list(self._account(records))

    def _account(self, records: list[Record]) -> Iterator[Record]:
        for record in records:
            if record.kind == "s":
                before = int(record.payload)
                if self._total is not None and before > self._total:
                    text = b"%d bytes of output were dropped here: the run's log is full" % (
                        before - self._total
                    )
                    yield Record(NO_TIME, "m", text)
                self._total = before
                continue
            if self._total is not None:
                self._total += len(record.encode())
            self.complete = self.complete or record.kind == "e"
            yield record
