"""A whole ledger in memory: the service's own Batch over the folds' own rows, without a database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from projections.rows import Rows
from service.domain.commands import Command, Submission
from service.domain.events import Event
from service.errors import Rejected
from service.ledger.batch import Batch, keys_of
from service.ledger.chain import GENESIS
from tests.support.jobs import ENGINE, EPOCH, T0

Answer = list[Event] | Rejected


class PureLedger:
    """Commits batches of commands as the writer does; its clock moves only when it is told to."""

    def __init__(self) -> None:
        self.now: datetime = T0
        self.events: list[Event] = []
        self.bodies: list[str] = []
        self.hash = GENESIS
        self.rows = Rows()
        self.epochs = {ENGINE: EPOCH}
        self._commands = 0

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def commit(self, commands: Sequence[Command]) -> list[Answer]:
        """One batch; each command's events, or its refusal."""
        for command in commands:
            for fold, key in self.rows.missing(keys_of(command)):
                self.rows.put(fold, key, None)
        batch = Batch(self.now, len(self.events), self.hash, self.rows, self.epochs)
        answers = [batch.carry_out(self._submission(command)) for command in commands]
        for fold, key in batch.missing():
            self.rows.put(fold, key, None)
        batch.fold_postponed()
        self.rows.take_changed()
        self.hash = batch.hash
        self.events += [entry.event for entry in batch.appended]
        self.bodies += [entry.data for entry in batch.appended]
        return answers

    def _submission(self, command: Command) -> Submission:
        self._commands += 1
        return Submission(id=UUID(int=self._commands), command=command, actor="test")
