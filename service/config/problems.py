"""What is wrong with settings: all of it at once, each thing with the name of its variable."""

from __future__ import annotations

import re
import ssl
from collections.abc import Collection
from ipaddress import ip_network
from typing import get_args

import msgspec

from service.config.bounds import BOUNDS
from service.config.settings import LOG_LEVELS, PREFIX, Settings
from service.domain.bills import reading
from service.domain.job_names import is_domain
from service.domain.registries import check_username
from service.errors import Invalid

_ADDRESS = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[1-9][0-9]{0,4})?"
)
#: Looser than the other: also of an address that `up` itself was told to listen on, with its zone.
_PUBLIC = re.compile(
    r"(?i:https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\])(:[1-9][0-9]{0,4})?"
    r"(/[A-Za-z0-9._~/%-]*)?"
)

_KINDS = {field.name: field.type for field in msgspec.structs.fields(Settings)}
_OPTIONS = {"state_dir": "--state"}
EMPTY = "it is empty; give it a value, or leave it out"


def said_of(field: str, given: object, allowed: str, *, by_option: bool = False) -> str:
    """A problem in the words of all others. `by_option`: the command line gave it, and not the variable."""
    option = _OPTIONS.get(field, f"--{field.replace('_', '-')}")
    name = option if by_option else f"{PREFIX}{field.upper()}"
    return f"{name}: {given!r} is not allowed; {allowed}"


def allowed_for(field: str) -> str | None:
    """What a setting may be, in words; None where its own reader says it better."""
    kind = _KINDS[field]
    if field == "ssh_port":
        return "it must be a port from 0 to 65535, or `off`, which switches SSH off"
    if field in BOUNDS:
        low, high = BOUNDS[field]
        whole = "" if float in (kind, *get_args(kind)) else "whole "
        return f"it must be a {whole}number from {low} to {high}"
    choices = [each for each in get_args(kind) if isinstance(each, str)]
    return f"it must be {' or '.join(choices)}" if choices else None


def problems_of(settings: Settings, options: Collection[str] = ()) -> list[str]:
    """`options`: the fields that the command line gave."""
    found = []
    for name, (low, high) in BOUNDS.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:  # so that nan is refused too
            found.append(said_of(name, value, str(allowed_for(name)), by_option=name in options))
    if not settings.host.strip():  # it would be every address of the machine
        found.append(said_of("host", settings.host, EMPTY, by_option="host" in options))
    if settings.log_level.lower() not in LOG_LEVELS:
        found.append(said_of("log_level", settings.log_level, f"it must be one of {', '.join(LOG_LEVELS)}"))
    try:
        reading.currency(f"{PREFIX}CURRENCY", settings.currency)
    except Invalid as error:
        found.append(error.message)
    if len(set(settings.node_gpus)) != len(settings.node_gpus):
        found.append(f"{PREFIX}NODE_GPUS: each GPU may stand once")
    if settings.job_domain and not is_domain(settings.job_domain):
        found.append(
            f"{PREFIX}JOB_DOMAIN: {settings.job_domain!r} is not a domain such as example.org[:8790]"
        )
    if isinstance(settings.ssh_port, int) and not 0 <= settings.ssh_port <= 65_535:
        found.append(said_of("ssh_port", settings.ssh_port, str(allowed_for("ssh_port"))))
    if settings.public_url and _PUBLIC.fullmatch(settings.public_url) is None:
        allowed = "it must be http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]"
        found.append(said_of("public_url", settings.public_url, allowed))
    if settings.ssh_address and _ADDRESS.fullmatch(settings.ssh_address) is None:
        found.append(
            f"{PREFIX}SSH_ADDRESS: {settings.ssh_address!r} is not a host such as yard.example.org[:22]"
        )
    return found + _shared_problems(settings) + _fetch_problems(settings)


def _fetch_problems(settings: Settings) -> list[str]:
    found = []
    for name, allow, ca in (
        ("FETCH", settings.fetch_allow, settings.fetch_ca),
        ("WEBHOOK", settings.webhook_allow, settings.webhook_ca),
        ("STORE", settings.store_allow, None),
    ):
        try:
            _ = [ip_network(text) for text in allow]
        except ValueError as error:
            found.append(f"{PREFIX}{name}_ALLOW: {error}; write networks such as 10.1.0.0/16,fd00::/8")
        try:
            if ca is not None:
                ssl.create_default_context(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            found.append(f"{PREFIX}{name}_CA: {ca} holds no readable PEM certificates ({error})")
    return found


def _shared_problems(settings: Settings) -> list[str]:
    name = f"{PREFIX}SHARED_REGISTRY"
    try:
        shared = settings.shared
        if settings.shared_registry_username:
            check_username(settings.shared_registry_username)
    except Invalid as error:
        return [error.message if error.field == name else f"{name}_USERNAME: {error.allowed}"]
    given = (bool(settings.shared_registry_username), bool(settings.shared_registry_password))
    if shared is None and any(given):
        return [f"{name}: it must be set as {name}_USERNAME or {name}_PASSWORD is"]
    if any(given) and not all(given):
        return [f"{name}_USERNAME and {name}_PASSWORD: set both or none"]
    return []
