"""Jobs out of their rows: what was decoded before is at hand for as long as its text is asked for again.

The same text is the same job, whatever happened meanwhile, so nothing here has to be proved fresh. And the
same value comes of it, by which `service.api.shown` knows the answer that was made of it.
"""

from __future__ import annotations

from projections.catalogue import FOLDS
from service.domain.job import Job
from service.ledger.kept import Kept

#: Of rows and their jobs, at most; a decoded row takes up to so many times the bytes of its text.
MOST_BYTES, DECODED = 8 * 1024**2, 4
#: Beside these: the entry itself.
_OWN_BYTES = 256


class JobRows:
    """The rows of one process's ledger. `most_bytes` is what is kept of them."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.kept = Kept[Job](most_bytes)

    def job(self, row: str) -> Job:
        """The job that a row of the fold `status` is."""
        found = self.kept.get(row)
        if found is None:
            found = FOLDS["status"].decoder.decode(row)
            self.kept.put(row, found, (1 + DECODED) * len(row) + _OWN_BYTES)
        return found
