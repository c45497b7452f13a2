"""What is wrong with settings: all of it at once, each thing with the name of its variable."""

from __future__ import annotations

import re
import ssl
from ipaddress import ip_network

from service.config.bounds import BOUNDS
from service.config.settings import PREFIX, Settings
from service.domain.bills import reading
from service.domain.job_names import is_domain
from service.domain.registries import check_username
from service.errors import Invalid

_ADDRESS = re.compile(
    r"([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(:[1-9][0-9]{0,4})?"
)


def problems_of(settings: Settings) -> list[str]:
    found = []
    for name, (low, high) in BOUNDS.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:  # so that nan is refused too
            found.append(f"{PREFIX}{name.upper()}: {value} is not {low} to {high}")
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
        found.append(f"{PREFIX}SSH_PORT: {settings.ssh_port} is not 0 to 65535; `off` switches SSH off")
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
