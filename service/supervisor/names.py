"""How a run's container and a project's network are named and labelled, and how that is read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

LEDGER = "jobyard.ledger"
JOB = "jobyard.job"
RUN = "jobyard.run"
EPOCH = "jobyard.epoch"
PROJECT = "jobyard.project"


class RunId(NamedTuple):
    """One run of one job."""

    job: UUID
    run: int

    def __str__(self) -> str:
        return f"{self.job}/{self.run}"


def container_name(ledger: UUID, run: RunId, attempt: int = 1) -> str:
    """A name that can be used once: whoever comes second finds the first. An engine may hold on to a name
    without a container (moby#21198); only then is there a second attempt.

    Two ledgers may have a job of one id, as the same `Idempotency-Key` makes it, and share an engine. At most
    63 letters, up to ten billion runs: a longer name would not resolve in its network.
    """
    return f"job-{_short(ledger)}-{run.job}-{run.run}" + (f"-{attempt}" if attempt > 1 else "")


def run_labels(ledger: UUID, run: RunId) -> dict[str, str]:
    """What finds the run's container again, whatever its name."""
    return {LEDGER: str(ledger), JOB: str(run.job), RUN: str(run.run)}


def run_of(labels: Mapping[str, str]) -> RunId | None:
    """The run that a container's labels name; None for labels that are not ours."""
    try:
        return RunId(UUID(labels[JOB]), int(labels[RUN]))
    except (KeyError, ValueError):
        return None


def network_name(ledger: UUID, project: str) -> str:
    return f"jobyard-{_short(ledger)}-{project}"


def _short(ledger: UUID) -> str:
    """Tells the ledgers of one engine apart."""
    return str(ledger)[:8]
