"""Deciding what is not about a job: projects and what they own, tokens, prices, supervisors."""

from __future__ import annotations

import re

from msgspec import UnsetType

from service.domain import budget, decide_billing, decide_keys, decide_registry, decide_volume, decide_webhook
from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.context import Context, Decision
from service.domain.directory import ADMINISTRATOR, ROLES, Project
from service.domain.gitstores import GitKeys, read_git_endpoint, require_login
from service.domain.volumes import check_alias
from service.errors import Conflict, Invalid, NotFound, QuotaExceeded, WrongState

#: As many data stores as a project has: they lie in its one row, which is read and written as a whole.
MOST_STORES = 1000

_PROJECT = re.compile(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")


def decide(command: cmd.Command, context: Context) -> list[Decision]:
    match command:
        case cmd.CreateProject():
            return _created(command, context)
        case cmd.SetQuota():
            body: ev.Body = _quota(command, context)
        case cmd.SetBudget():
            project_of(context, command.project)
            body = budget.budget_set(command)
        case cmd.CheckBudget():
            return []  # the ledger looks at the budget after every command: see `ledger/batch.py`
        case cmd.CreateToken():
            body = _token(command, context)
        case cmd.RenewToken():
            body = _renewed(command, context)
        case cmd.RevokeToken():
            return _revoked(command, context)
        case cmd.SetDataStore():
            body = _data_store(command, context)
        case cmd.RemoveDataStore():
            body = _data_store_removed(command, context)
        case cmd.SetRegistry():
            body = decide_registry.attached(command, project_of(context, command.project))
        case cmd.RemoveRegistry():
            body = decide_registry.removed(command, project_of(context, command.project))
        case cmd.CreateVolume():
            body = decide_volume.created(command, project_of(context, command.project))
        case cmd.DeleteVolume():
            body = decide_volume.deleted(command, project_of(context, command.project))
        case cmd.EraseProject():
            return decide_keys.project_erased(command, project_of(context, command.project), context)
        case cmd.WebhookCommand():
            decided = decide_webhook.decide(command, context)
            return [] if decided is None else [_now(command, context, decided)]
        case cmd.SetPrices():
            body = decide_billing.prices(command, context)
        case cmd.StartSupervisor():
            body = ev.SupervisorStarted(
                engine=command.engine,
                node=command.node,
                epoch=command.epoch,
                absent_since=command.absent_since,
                cpus=command.cpus,
                memory=command.memory,
                gpus=command.gpus,
                devices=command.devices,
                gpu_trouble=command.gpu_trouble,
                patience_ms=command.patience_ms,
            )
        case cmd.SetAdmission():
            body = ev.AdmissionSet(
                engine=command.engine, node=command.node, epoch=command.epoch, stopped=command.stopped
            )
        case _:
            raise TypeError(f"no rule for {type(command).__name__}")
    return [_now(command, context, body)]


def project_of(context: Context, name: str | None) -> Project:
    """The command's project, which must exist."""
    if context.project is None:
        raise NotFound(f"there is no project {name}")
    return context.project


def _now(command: cmd.Command, context: Context, body: ev.Body) -> Decision:
    return Decision(body=body, occurred_at=context.now, project=command.project)


def _created(command: cmd.CreateProject, context: Context) -> list[Decision]:
    """The project and, in the same commit, its first token: no crash leaves one that nobody can enter."""
    if not command.project or not _PROJECT.match(command.project):
        raise Invalid("project", command.project, "lower-case letters, digits and '-', at most 63")
    if context.project is not None:
        raise Conflict(f"project {command.project} exists already")
    _check_quota(command.cpu, command.gpu)
    bodies: list[ev.Body] = [ev.ProjectCreated(name=command.name, cpu=command.cpu, gpu=command.gpu)]
    if command.token is not None:
        first = command.token
        bodies.append(
            ev.TokenCreated(
                token_id=first.token_id, name=ADMINISTRATOR, role=ADMINISTRATOR, sha256=first.sha256
            )
        )
    return [_now(command, context, body) for body in bodies]


def _quota(command: cmd.SetQuota, context: Context) -> ev.Body:
    project_of(context, command.project)
    known = context.quota
    if known is None:
        raise NotFound(f"there is no project {command.project}")
    cpu = known.cpu if command.cpu is None else command.cpu
    gpu = known.gpu if command.gpu is None else command.gpu
    _check_quota(cpu, gpu)
    return ev.QuotaSet(cpu=cpu, gpu=gpu)


def _check_quota(cpu: int, gpu: int) -> None:
    for field, value in (("cpu", cpu), ("gpu", gpu)):
        if not 0 <= value <= 1_000_000:
            raise Invalid(field, value, "a quota is 0 to 1000000 units")


def _token(command: cmd.CreateToken, context: Context) -> ev.Body:
    project_of(context, command.project)
    if command.role not in ROLES:
        raise Invalid("role", command.role, f"the roles are {', '.join(ROLES)}")
    if not command.name or len(command.name) > 255 or any(ord(char) < 32 for char in command.name):
        raise Invalid("name", command.name, "1 to 255 characters of plain text")
    if context.token is not None and context.token.project != command.project:
        raise Conflict(f"token {command.token_id} exists already")
    if context.token is not None and context.token.revoked:
        raise Conflict(f"token {command.token_id} was revoked; a new one needs another id")
    return ev.TokenCreated(
        token_id=command.token_id,
        name=command.name,
        role=command.role,
        sha256=command.sha256,
        label_selector=command.label_selector,
    )


def _renewed(command: cmd.RenewToken, context: Context) -> ev.Body:
    token = context.token
    if token is None or token.project != command.project or token.revoked:
        raise NotFound(f"there is no token {command.token_id}")
    return ev.TokenRenewed(token_id=command.token_id, sha256=command.sha256)


def _revoked(command: cmd.RevokeToken, context: Context) -> list[Decision]:
    token = context.token
    if token is None or token.project != command.project:
        raise NotFound(f"there is no token {command.token_id}")
    if token.revoked:
        return []
    return [_now(command, context, ev.TokenRevoked(token_id=command.token_id))]


def _data_store(command: cmd.SetDataStore, context: Context) -> ev.Body:
    project = project_of(context, command.project)
    check_alias("alias", command.alias)
    exists = command.alias in project.data_stores
    if exists and not command.replace:
        raise Conflict(f"alias: data store {command.alias} exists already; PUT replaces it")
    if not exists and command.replace:
        raise NotFound(f"there is no data store {command.alias}")
    if not exists and len(project.data_stores) >= MOST_STORES:
        raise QuotaExceeded(f"the project has {MOST_STORES} data stores, and may have no more")
    if command.kind == "git":
        keys = GitKeys() if isinstance(command.git, UnsetType) else command.git
        require_login(read_git_endpoint("endpoint", command.endpoint), keys)
    elif not command.endpoint.startswith(("http://", "https://")):
        raise Invalid("endpoint", command.endpoint, "a URL such as https://s3.example.org")
    return ev.DataStoreSet(
        alias=command.alias,
        kind=command.kind,
        endpoint=command.endpoint,
        region=command.region,
        access_key=command.access_key,
        secret_key=command.secret_key,
        git=command.git,
        owner=command.owner,
    )


def _data_store_removed(command: cmd.RemoveDataStore, context: Context) -> ev.Body:
    project = project_of(context, command.project)
    if command.alias not in project.data_stores:
        raise NotFound(f"there is no data store {command.alias}")
    if command.alias in context.stores_used:
        raise WrongState(f"data store {command.alias} is used by a job that has not ended")
    return ev.DataStoreRemoved(alias=command.alias)
