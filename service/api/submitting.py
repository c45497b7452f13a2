"""A submit whose request holds a job's secrets: what is kept to know a repeat by goes with its key."""

from __future__ import annotations

from uuid import UUID

from service.api.call import Call
from service.domain import commands as cmd
from service.errors import Conflict
from service.ledger.commit import Receipt
from service.vault import JobKey


async def submit(call: Call, command: cmd.SubmitJob, key: JobKey | None) -> Receipt:
    """Carry it out, or answer what was answered first. `key` has sealed the job's secrets; None without any.

    Raises `Conflict` for a repeat that differs, or that nothing can be compared with any more.
    """
    identity = await call.command_id()
    if key is None:
        return await call.submit(command, identity)
    try:
        return await call.submit(command, identity.under(key))
    except Conflict as error:
        return await _of_before(call, command.job, error)


async def recalled(call: Call, job_id: UUID, key: JobKey | None) -> Receipt | None:
    """What was answered to this request when it was carried out, if it was. Raises `Conflict` as `submit`."""
    identity = await call.command_id()
    if key is None:
        return await call.recalled()
    try:
        return await call.recalled(identity.under(key))
    except Conflict as error:
        return await _of_before(call, job_id, error)


async def _of_before(call: Call, job_id: UUID, error: Conflict) -> Receipt:
    """What was answered to a request of when all digests were made with the project's key."""
    try:
        receipt = await call.recalled()
    except Conflict:
        if await _is_erased(call, job_id):
            raise Conflict(
                "Idempotency-Key: it was used for a job whose secrets were erased since, and with them what "
                "would tell whether this is the same request; use a new key"
            ) from error
        raise
    if receipt is None:
        raise error
    return receipt


async def _is_erased(call: Call, job_id: UUID) -> bool:
    job = await call.ledger.find_job(job_id)
    sealed = [] if job is None else [variable.value for variable in job.spec.env]
    return None in (await call.ledger.keys.opened(sealed)).values()
