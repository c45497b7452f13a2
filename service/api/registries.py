"""/v1/registry: where a project's private images are. Credentials are tried before they are taken; sealed."""

from __future__ import annotations

from service.api import registry_check, wire
from service.api.call import Call
from service.api.errors import Said
from service.api.pages import paged
from service.domain import commands as cmd
from service.domain.decide_registry import merged
from service.domain.directory import Project, Registry
from service.domain.events import Event, RegistrySet
from service.domain.registries import MAX_PASSWORD_CHARS, RegistryUrl
from service.errors import Invalid, NotFound
from service.outward import names


async def create(call: Call) -> wire.Registry:
    """A repeat under the same Idempotency-Key is answered as the first was, without a second check."""
    asked: wire.RegistryAsked = call.body
    if (receipt := await call.recalled()) is not None:
        return _made(receipt.events[0])
    identity = await call.command_id()
    command = await _command(
        call, str(identity.made("registry")), asked.url, asked.username, asked.password, replace=False
    )
    await _check(call, command, asked.password)
    return _made((await call.submit(command, identity)).events[0])


async def update(call: Call) -> None:
    asked: wire.RegistryChanged = call.body
    known = await _known(call)
    if asked.url is None and asked.username is None and asked.password is None:
        raise Invalid("url", None, "name url, username, password or several of them")
    command = await _command(call, known.id, asked.url, asked.username, asked.password, replace=True)
    await _check(call, command, asked.password)
    await call.submit(command)


async def _command(
    call: Call,
    registry_id: str,
    url: str | None,
    username: str | None,
    password: str | None,
    *,
    replace: bool,
) -> cmd.SetRegistry:
    """The command, with the password sealed."""
    if password is not None and (not 1 <= len(password) <= MAX_PASSWORD_CHARS or "\0" in password):
        said = Said("it is empty, too long or holds a NUL")
        raise Invalid("password", said, f"1 to {MAX_PASSWORD_CHARS} characters")
    sealing = await call.ledger.keys.of(call.project)
    return cmd.SetRegistry(
        project=call.project,
        registry_id=registry_id,
        user=call.token.name,
        url=url,
        username=username,
        password=None if password is None else sealing.seal(password),
        replace=replace,
    )


async def _check(call: Call, command: cmd.SetRegistry, password: str | None) -> None:
    """Refuse what deciding would refuse, before anything is sent; then ask the registry. Raises `Invalid`."""
    project = await _project(call)
    known = project.registries.get(command.registry_id)
    made = merged(command, known, project)
    place = RegistryUrl(made.scheme, made.host)
    shared = call.service.parts.settings.shared
    if shared is not None and shared.host == place.host:
        allowed = f"it is the shared registry: {shared.host}/{call.project}/... needs nothing attached"
        raise Invalid("url", made.url, allowed)
    if call.query.check:
        secret = password if password is not None else await call.ledger.open_secret(made.password)
        allow = call.service.parts.settings.store_networks
        with names.asked_by(call.project):
            await registry_check.check(place, made.username, secret, allow)


async def find(call: Call) -> wire.RegistryList:
    known = (await _project(call)).registries.values()
    items = [_view(each) for each in sorted(known, key=lambda each: (each.created_at, each.id))]
    page, metadata = paged(call, items, call.query)
    return wire.RegistryList(items=page, metadata=metadata)


async def get(call: Call) -> wire.Registry:
    return _view(await _known(call))


async def remove(call: Call) -> None:
    known = await _known(call)
    await call.submit(cmd.RemoveRegistry(project=call.project, registry_id=known.id))


async def _project(call: Call) -> Project:
    project = await call.ledger.project(call.project)
    if project is None:
        raise NotFound(f"there is no project {call.project}")
    return project


async def _known(call: Call) -> Registry:
    """The registry in the path. Raises `NotFound`."""
    registry_id = str(call.path_id("registry"))
    found = (await _project(call)).registries.get(registry_id)
    if found is None:
        raise NotFound(f"there is no registry {registry_id}")
    return found


def _view(of: Registry) -> wire.Registry:
    return wire.Registry(
        id=of.id,
        url=of.url,
        username=of.username,
        user=of.user,
        created_at=of.created_at,
        updated_at=of.updated_at,
    )


def _made(event: Event) -> wire.Registry:
    body: RegistrySet = event.body
    return wire.Registry(
        id=body.registry_id,
        url=body.url,
        username=body.username,
        user=body.user,
        created_at=event.recorded_at,
        updated_at=event.recorded_at,
    )
