"""Answers about jobs as the bytes that they are sent as: made once for as long as a job stays what it is.

The same row is the very same `Job` (`service.ledger.job_rows`), so who has it needs to look no further: a
page of jobs is for the most part what was sent before. An answer with secrets in it is never kept, and of two
that differ with the time, the latest is.
"""

from __future__ import annotations

from typing import NamedTuple

from service.domain.ids import text_of
from service.domain.job import Job
from service.ledger.kept import Kept

#: Of answers that are kept, at most; one that takes more than a hundredth of it is made each time.
MOST_BYTES, LARGEST = 4 * 1024**2, 40 * 1024
#: Beside the answer: the entry itself, its key.
_OWN_BYTES = 512


class _Answer(NamedTuple):
    job: Job
    duration_s: int
    body: bytes


class Shown:
    """The answers of one application: they tell of its settings."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.kept = Kept[_Answer](most_bytes)

    def of(self, job: Job, duration_s: int) -> bytes | None:
        """The answer that was made of this very value, when the job had run as long."""
        found = self.kept.get(text_of(job.id))
        if found is None or found.job is not job or found.duration_s != duration_s:
            return None
        return found.body

    def keep(self, job: Job, duration_s: int, body: bytes) -> None:
        if len(body) <= LARGEST:
            self.kept.put(text_of(job.id), _Answer(job, duration_s, body), len(body) + _OWN_BYTES)
