"""/v1/project: for those who look after the whole yard."""

from __future__ import annotations

import asyncio
import re

from service.api import wire
from service.api.auth import new_value, sha256_of
from service.api.call import Call
from service.api.tokens import made
from service.domain import commands as cmd
from service.domain.directory import Project
from service.domain.display_names import check_display_name
from service.domain.events import ProjectCreated
from service.domain.quota import Quota
from service.errors import Invalid, NotFound

#: As the ledger will have it; here the field is told as the caller wrote it.
_ID = re.compile(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


async def create(call: Call) -> wire.ProjectMade:
    """The project and its first token, in one commit; a repeat under the same key has no value to show."""
    asked: wire.ProjectAsked = call.body
    if not _ID.match(asked.id):
        raise Invalid("id", asked.id, "lower-case letters, digits and '-', at most 63")
    if asked.name:
        check_display_name("name", asked.name)
    settings = call.service.parts.settings
    identity = await call.command_id()
    value = new_value()
    command = cmd.CreateProject(
        project=asked.id,
        name=asked.name or asked.id,
        cpu=settings.default_quota_cpu if asked.cpu is None else asked.cpu,
        gpu=settings.default_quota_gpu if asked.gpu is None else asked.gpu,
        token=cmd.FirstToken(str(identity.made("token")), sha256_of(value)),
    )
    receipt = await call.submit(command, identity)
    project, token = receipt.events
    body: ProjectCreated = project.body
    return wire.ProjectMade(
        project=wire.Project(
            id=asked.id, name=body.name, created_at=project.recorded_at, cpu=body.cpu, gpu=body.gpu
        ),
        token=made(token, value),
    )


async def find(call: Call) -> wire.ProjectList:
    projects = await call.ledger.projects()
    quotas = await asyncio.gather(*(call.ledger.quota(project.id) for project in projects))
    items = [_view(project, quota) for project, quota in zip(projects, quotas, strict=True)]
    return wire.ProjectList(items=items, metadata=wire.whole(items))


async def get(call: Call) -> wire.Project:
    project = await named(call)
    return _view(project, await call.ledger.quota(project.id))


async def set_quota(call: Call) -> None:
    asked: wire.QuotaAsked = call.body
    if asked.cpu is None and asked.gpu is None:
        raise Invalid("cpu", None, "name cpu, gpu or both")
    project = await named(call)
    await call.submit(cmd.SetQuota(project=project.id, cpu=asked.cpu, gpu=asked.gpu))


async def named(call: Call) -> Project:
    """The project in the path. Raises `NotFound`."""
    project_id = call.path("id")
    found = await call.ledger.project(project_id) if _ID.match(project_id) else None
    if found is None:
        raise NotFound(f"there is no project {project_id[:64]!r}")
    return found


async def known(call: Call, project_id: str) -> None:
    """That a query names a project that is there. Raises `NotFound`."""
    if not _ID.match(project_id) or await call.ledger.project(project_id) is None:
        raise NotFound(f"project: there is no project {project_id[:64]!r}")


def _view(project: Project, quota: Quota) -> wire.Project:
    return wire.Project(
        id=project.id, name=project.name, created_at=project.created_at, cpu=quota.cpu, gpu=quota.gpu
    )
