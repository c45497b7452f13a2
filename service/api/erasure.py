"""DELETE of a key: what it sealed is gone for good, and nothing else changes."""

from __future__ import annotations

from service.api import projects, reads, scope
from service.api.call import Call
from service.domain import commands as cmd
from service.errors import NotFound


async def job(call: Call) -> None:
    """Also of a job that was deleted. Recorded first, then done; here, and everywhere within seconds."""
    job_id = call.path_id("job")
    found = await reads.job(call.ledger.pool, job_id)
    if found is None or not scope.sees(call.token, found[0]):
        raise NotFound(f"there is no job {job_id}")
    command = cmd.EraseJob(
        project=call.project,
        job=job_id,
        scope=scope.selector_of(call.token),
        key_ids=await call.ledger.keys.ids_of_job(job_id),
        sealed_under=await call.ledger.sealed_under(job_id),
    )
    await call.submit(command)
    await call.ledger.keys.destroy_told()


async def project(call: Call) -> None:
    """Its data stores, registries and jobs have no secrets any more; it goes on with another key."""
    found = await projects.named(call)
    key_ids = await call.ledger.keys.ids_of_project(found.id)
    await call.submit(cmd.EraseProject(project=found.id, key_ids=key_ids))
    await call.ledger.keys.destroy_told()
