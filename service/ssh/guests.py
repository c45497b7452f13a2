"""Who may come in: holders of a job's own keys, while its process may run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from uuid import UUID, uuid4

from service.domain import commands as cmd
from service.domain.events import Session
from service.domain.job import Job
from service.domain.ssh_keys import PublicKey, read_key
from service.domain.states import REACHABLE
from service.errors import WrongState
from service.ledger.ledger import Ledger

_JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Refused(Exception):
    """Nobody gets in so. The text is for our log alone: to the client all refusals are one."""


@dataclass(frozen=True)
class Guest:
    """Somebody who holds a key of a job, for as long as this run of it may be reached; from an address."""

    job: UUID
    run: int
    project: str
    container_id: str
    fingerprint: str
    address: str | None = None

    @property
    def actor(self) -> str:
        return f"ssh:{self.fingerprint}"

    def may_stay(self, job: Job | None) -> bool:
        """Whether the job, as it is now, is still the one that they came to."""
        return (
            job is not None
            and not job.deleted
            and (job.id, job.run, job.container_id) == (self.job, self.run, self.container_id)
            and job.state in REACHABLE
        )


async def admit(ledger: Ledger, username: str, blob: bytes, address: str | None = None) -> Guest:
    """Who it is that offers a key as a user from an address. Raises `Refused`, and `Unavailable`."""
    if _JOB_ID.fullmatch(username) is None:
        raise Refused("the user name is no job's id")
    job = await ledger.find_job(UUID(username))
    if job is None or job.deleted:
        raise Refused("there is no such job")
    keys: list[PublicKey] = [read_key("", line) for line in job.spec.ssh_public_keys or ()]
    key = next((known for known in keys if known.blob == blob), None)
    if key is None:
        raise Refused("the key is none of the job's")
    if job.state not in REACHABLE or job.container_id is None:
        raise Refused(f"the job is {job.state}")
    return Guest(job.id, job.run, job.project, job.container_id, key.fingerprint, address)


async def record(ledger: Ledger, guest: Guest, session: Session, words: list[str], *, tty: bool) -> None:
    """Put into the ledger what a guest is about to do. Raises what refused it."""
    key = await ledger.keys.of_job(guest.project, guest.job)
    command = cmd.OpenExec(
        project=guest.project,
        job=guest.job,
        exec_id=str(uuid4()),
        command=key.seal(json.dumps(words)),
        tty=tty,
        session=session,
    )
    receipt = await ledger.submit(command, actor=guest.actor, client_address=guest.address)
    if receipt.events[0].run != guest.run:
        raise WrongState(f"job {guest.job} was started again meanwhile; connect again")
