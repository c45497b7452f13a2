"""A run's output as text, as it was printed: all of it, or some of its lines.

Nothing here holds more than some 100 KiB, however long lines are and however many are asked for: whoever
reads may have thousands of logs open, and take nothing of any.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime

from service.supervisor.logs.cursor import Cursor
from service.supervisor.logs.format import Kind, Record, RunLog, stamp

#: So much of an unfinished line waits for its end.
_LONG_BYTES = 64 * 1024
#: The last lines are held while they come to no more; otherwise they are counted, and found once more.
_HELD_BYTES = 64 * 1024
#: As much of a log is read in one call, by 64 KiB: whoever wants none of it must not keep others waiting.
_READS_AT_ONCE = 8
#: What Python needs for a piece beside its bytes.
_PIECE_BYTES = 48


class Lines:
    """Records in, lines of text out: pieces of which each ends with the newline of its line, or has none. A
    line comes in one piece, once it is finished; a long one in several. The two streams never mix within a
    line: where a piece of an unfinished one was given, a newline comes before the other stream's.

    The `local` driver of 20.10 drops the newline of a line beyond 16 KiB. Its pieces share a timestamp, so
    where the next piece of a stream has another one, that newline is put back.
    """

    def __init__(self, since: datetime | None, timestamps: bool) -> None:
        self._since = stamp(since) if since else ""
        self._timestamps = timestamps
        self._open: dict[Kind, tuple[str, bytearray]] = {}
        """By stream: the unfinished line's timestamp, and what of it was not given yet."""
        self._shown: Kind | None = None
        """The stream whose unfinished line a reader has already seen the beginning of."""

    def feed(self, records: list[Record]) -> list[bytes]:
        """The lines that these records finish, and what can wait no longer of a long one."""
        finished: list[bytes] = []
        for record in records:
            if record.kind == "m":
                for kind in list(self._open):
                    finished += self._end(kind)
                finished.append(b"[jobyard] " + record.payload + b"\n")
            elif record.kind != "e" and record.timestamp >= self._since:
                finished += self._grown(record)
        return finished

    def rest(self) -> list[bytes]:
        """The unfinished lines, as far as they were not given yet."""
        return [piece for kind, (_, rest) in self._open.items() if rest for piece in self._begun(kind)]

    def _grown(self, record: Record) -> list[bytes]:
        kind, pieces = record.kind, list[bytes]()
        if kind in self._open and self._open[kind][0] != record.timestamp:
            pieces += self._end(kind)
        if kind not in self._open:
            start = record.timestamp.encode() + b" " if self._timestamps else b""
            self._open[kind] = (record.timestamp, bytearray(start))
        self._open[kind][1].extend(record.payload)
        if record.complete_line:
            return pieces + self._end(kind)
        return pieces + self._begun(kind) if len(self._open[kind][1]) >= _LONG_BYTES else pieces

    def _begun(self, kind: Kind) -> list[bytes]:
        """What there is of an unfinished line."""
        rest = self._open[kind][1]
        pieces = [*self._break_before(kind), bytes(rest)]
        self._shown = kind
        rest.clear()
        return pieces

    def _end(self, kind: Kind) -> list[bytes]:
        _, rest = self._open.pop(kind)
        pieces = [*self._break_before(kind), bytes(rest) + b"\n"]
        self._shown = None
        return pieces

    def _break_before(self, kind: Kind) -> list[bytes]:
        """A newline if the other stream's unfinished line is what was shown last."""
        return [] if self._shown in (None, kind) else [b"\n"]


class Window:
    """Of the lines that go by, those from `first` (counted from 0) on and before `last`."""

    def __init__(self, first: int = 0, last: int | None = None) -> None:
        self.first, self.last = first, last
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self.last is not None and self._at >= self.last

    def take(self, pieces: list[bytes]) -> list[bytes]:
        if self.last is None and self._at >= self.first:
            return pieces
        taken = []
        for piece in pieces:
            if self._at >= self.first and not self.is_over:
                taken.append(piece)
            if piece.endswith(b"\n"):
                self._at += 1
        return taken


class Last:
    """The `most` last lines of what goes by, or, when these are too many bytes, how many lines there were."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._pieces: deque[bytes] = deque()
        self._held_bytes = self._held_lines = 0
        self._is_open = False
        self.lines = 0
        self.are_held = True

    def add(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            if not self._is_open:
                self.lines += 1
                self._held_lines += 1
            self._is_open = not piece.endswith(b"\n")
            if self.are_held and self.most:
                self._hold(piece)

    def _hold(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._held_bytes += len(piece) + _PIECE_BYTES
        while self._held_lines > self.most:
            dropped = self._pieces.popleft()
            self._held_bytes -= len(dropped) + _PIECE_BYTES
            self._held_lines -= dropped.endswith(b"\n")
        if self._held_bytes > _HELD_BYTES:
            self._pieces.clear()
            self.are_held = False

    @property
    def text(self) -> bytes:
        return b"".join(self._pieces)


@dataclass(frozen=True)
class Asked:
    """What is wanted of a log: its lines not older than `since`, with their times or without."""

    log: RunLog
    since: datetime | None = None
    timestamps: bool = False


class Reading:
    """A log from its beginning, piece by piece; of its lines those in a window. All of it blocks."""

    def __init__(self, asked: Asked, window: Window | None = None, *, cursor: Cursor | None = None) -> None:
        self._asked = asked
        self._cursor = cursor or Cursor(asked.log)
        self._lines = Lines(asked.since, asked.timestamps)
        self._window = window or Window()

    @property
    def complete(self) -> bool:
        """Whether all was read, and no more will come."""
        return self._cursor.complete or self._window.is_over

    def text(self) -> bytes | None:
        """What comes next; nothing, when there is no more for now. A line without an end comes too, once all
        is read: it may be a prompt. None: nothing of what was read now is wanted, and there is more."""
        pieces = self._more()
        return None if pieces is None else b"".join(pieces or self._window.take(self._lines.rest()))

    def _more(self) -> list[bytes] | None:
        for _ in range(_READS_AT_ONCE):
            if self._window.is_over or not (records := self._cursor.advance()):
                return []
            if pieces := self._window.take(self._lines.feed(records)):
                return pieces
        return None

    def counted(self, last: Last) -> bool:
        """Count what comes next among the last lines; whether that was all that there is now."""
        pieces = self._more()
        last.add(self._window.take(self._lines.rest()) if pieces == [] else pieces or [])
        return pieces == []

    def from_last(self, last: Last) -> Reading:
        """Where to go on after the last lines of what there was: here, when they are held; many are still to
        come. Of these, lines are missing that the ring drops meanwhile."""
        if last.are_held:
            return self
        window = Window(self._window.first + max(0, last.lines - last.most), self._window.last)
        return Reading(self._asked, window)

    @classmethod
    def tail(cls, asked: Asked, most: int) -> tuple[Reading, bytes] | None:
        """The last lines from the end of the file alone, and the reading that goes on after them; None if
        they do not lie there."""
        cursor = Cursor(asked.log)
        if cursor.skip_to_end(_HELD_BYTES):
            return None
        # The first line may have lost its beginning.
        reading, last = cls(asked, Window(first=1), cursor=cursor), Last(most)
        while not reading.counted(last):
            continue  # it is near its end
        # Where no line of it is whole, what comes would be missing up to the end of the one there is.
        return (reading, last.text) if last.are_held and last.lines >= max(1, most) else None
