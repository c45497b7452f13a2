"""Deciding about a project's registries: one a host, and a password that goes to no other host."""

from __future__ import annotations

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.directory import Project, Registry
from service.domain.registries import check_username, read_registry_url
from service.errors import Conflict, Invalid, NotFound, QuotaExceeded

#: As many as a project has: they lie in its one row, which is read and written as a whole.
MOST_REGISTRIES = 200


def attached(command: cmd.SetRegistry, project: Project) -> ev.RegistrySet:
    """A registry attached, or changed. Raises `Invalid`, `NotFound`, `Conflict` or `QuotaExceeded`."""
    known = project.registries.get(command.registry_id)
    if command.replace and known is None:
        raise _missing(command.registry_id)
    if not command.replace and known is not None:
        raise Conflict(f"registry {command.registry_id} exists already")
    return merged(command, known, project)


def merged(command: cmd.SetRegistry, known: Registry | None, project: Project) -> ev.RegistrySet:
    """The registry as it would be. What the command leaves out is taken from what is known."""
    if known is None and len(project.registries) >= MOST_REGISTRIES:
        raise QuotaExceeded(f"the project has {MOST_REGISTRIES} registries, and may have no more")
    url = _given("url", command.url, known.url if known else None)
    username = _given("username", command.username, known.username if known else None)
    place = read_registry_url("url", url)
    check_username(username)
    other = project.registry_of(place.host)
    if other is not None and other.id != command.registry_id:
        allowed = f"{place.host} is attached already as registry {other.id}; change or delete that one"
        raise Invalid("url", url, allowed)
    password = command.password
    if password is None:
        if known is None:
            raise Invalid("password", None, "it must be text")
        if (known.scheme, known.host) != tuple(place):
            # Or whoever may change a registry could have its password sent anywhere.
            said = f"it is needed again when the url changes from {known.scheme}://{known.host} to {place}"
            raise Invalid("password", None, said)
        password = known.password
    return ev.RegistrySet(
        registry_id=command.registry_id,
        url=url,
        scheme=place.scheme,
        host=place.host,
        username=username,
        password=password,
        user=known.user if known else command.user,
    )


def removed(command: cmd.RemoveRegistry, project: Project) -> ev.RegistryRemoved:
    if command.registry_id not in project.registries:
        raise _missing(command.registry_id)
    return ev.RegistryRemoved(registry_id=command.registry_id)


def _given(field: str, value: str | None, known: str | None) -> str:
    found = known if value is None else value
    if found is None:
        raise Invalid(field, None, "it must be text")
    return found


def _missing(registry_id: str) -> NotFound:
    return NotFound(f"there is no registry {registry_id}")
