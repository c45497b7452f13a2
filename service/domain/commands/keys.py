"""What destroys secrets for good."""

from __future__ import annotations

from service.domain.commands.base import Command
from service.domain.commands.job import JobCommand


class EraseJob(JobCommand, frozen=True):
    """`key_ids` are the job's own keys; `sealed_under` all that anything in its history is sealed under."""

    key_ids: tuple[str, ...] = ()
    sealed_under: frozenset[str] = frozenset()


class EraseProject(Command, frozen=True):
    """`key_ids` are the project's key. Its jobs' keys are sealed under it and go with it."""

    key_ids: tuple[str, ...] = ()
