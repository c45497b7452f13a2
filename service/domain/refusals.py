"""Refusals for a limit of the project, kept in the ledger although nothing is made of them. Bounded: a client
that asks again and again must not fill it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from service.domain.labels import OWN_LABELS
from service.domain.spec import JobSpec

#: The same refusal is recorded once in this time, and so many different ones of a project.
QUIET = timedelta(minutes=1)
MOST_A_MINUTE = 30


class Recent(msgspec.Struct, frozen=True, rename="camel"):
    """A refusal that was recorded: what was asked for, why it was refused, and when."""

    digest: str
    code: str
    at: datetime


class Refusals(msgspec.Struct, frozen=True, rename="camel"):
    """A project's refusals of the last minute that was, as far as they were recorded."""

    recent: tuple[Recent, ...] = ()

    def since(self, at: datetime) -> tuple[Recent, ...]:
        """Those that still keep the same from being recorded again."""
        return tuple(each for each in self.recent if at - each.at < QUIET)

    def with_one(self, digest: str, code: str, at: datetime) -> Refusals:
        return Refusals((*self.since(at), Recent(digest, code, at)))


def own_left_out(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that somebody asked for."""
    return {name: value for name, value in labels.items() if name not in OWN_LABELS}


def digest_of(spec: JobSpec) -> str:
    """The same for the same work: neither what is made of the job's id nor secrets count."""
    plain = msgspec.structs.replace(spec, name="", labels=own_left_out(spec.labels), env=())
    names = msgspec.json.encode([variable.name for variable in spec.env])
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted") + names).hexdigest()
