"""How far a pull or push has come."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

MAX_NOTES = 20
REPORT_EVERY_S = 0.25


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of objects, except for the two in bytes.

    `total` were found; `processed` are done with, each as `completed` (moved), `skipped` (unchanged, or
    not a plain file) or `failed`. `deleted` were removed from the store and are part of no other count.
    `notes` are the first few things worth telling a person; those about the `left_out`, which failed or were
    skipped for a reason that is worth it, come first.
    """

    total: int = 0
    processed: int = 0
    completed: int = 0
    skipped: int = 0
    failed: int = 0
    deleted: int = 0
    transferred_bytes: int = 0
    total_bytes: int = 0
    notes: tuple[str, ...] = ()
    left_out: int = 0


class Meter:
    """Counts, and reports a Progress at the start, at the end and a few times a second between."""

    def __init__(self, on_progress: Callable[[Progress], None], total: int, total_bytes: int) -> None:
        self.total = total
        self.total_bytes = total_bytes
        self.completed = self.skipped = self.failed = self.deleted = self.transferred_bytes = 0
        self.left_out = 0
        self._failures: list[str] = []
        self._reasons: list[str] = []
        self._remarks: list[str] = []
        self._on_progress = on_progress
        self._reported = time.monotonic()
        on_progress(self.snapshot())

    def moved(self, size: int) -> None:
        self.transferred_bytes += size
        self._report()

    def complete(self) -> None:
        self.completed += 1
        self._report()

    def skip(self, note: str | None = None) -> None:
        self.skipped += 1
        self._leave_out(self._reasons, note)

    def fail(self, note: str) -> None:
        self.failed += 1
        self._leave_out(self._failures, note)

    def delete(self) -> None:
        self.deleted += 1
        self._report()

    def remark(self, note: str) -> None:
        """Say something without counting an object."""
        if len(self._remarks) < MAX_NOTES:
            self._remarks.append(note)
        self._report()

    def finish(self) -> Progress:
        done = self.snapshot()
        self._on_progress(done)
        return done

    def snapshot(self) -> Progress:
        return Progress(
            total=self.total,
            processed=self.completed + self.skipped + self.failed,
            completed=self.completed,
            skipped=self.skipped,
            failed=self.failed,
            deleted=self.deleted,
            transferred_bytes=self.transferred_bytes,
            total_bytes=self.total_bytes,
            notes=(*self._failures, *self._reasons, *self._remarks)[:MAX_NOTES],
            left_out=self.left_out,
        )

    def _leave_out(self, told: list[str], why: str | None) -> None:
        if why:
            self.left_out += 1
            if len(told) < MAX_NOTES:
                told.append(why)
        self._report()

    def _report(self) -> None:
        now = time.monotonic()
        if now - self._reported >= REPORT_EVERY_S:
            self._reported = now
            self._on_progress(self.snapshot())
