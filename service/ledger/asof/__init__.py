"""The ledger as of a moment of its past: which position that is (`moments`), what the read models held then
(`rows`; `folded` remembers them), and what happened from one to another (`between`)."""

from __future__ import annotations

from service.ledger.asof.between import Envelope, envelopes
from service.ledger.asof.folded import Folded
from service.ledger.asof.moments import Asked, Moment, latest, moment_of
from service.ledger.asof.rows import job, quota, refolded, row, snapshot

__all__ = [
    "Asked",
    "Envelope",
    "Folded",
    "Moment",
    "envelopes",
    "job",
    "latest",
    "moment_of",
    "quota",
    "refolded",
    "row",
    "snapshot",
]
