"""/v1/capabilities: what jobs can be asked for here. Only what some node can hold is offered."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal, Protocol, TypeVar

from msgspec import UNSET

from service.api import reads, wire
from service.api.call import Call
from service.api.query import Query
from service.domain import flavors as domain
from service.domain.directory import Node
from service.domain.offers import JobImage, Preset
from service.errors import NotFound


class PresetsAsked(Query, frozen=True):
    """OVHcloud has presets of apps and notebooks, too; here there are those of jobs."""

    type: Literal["app", "job", "notebook"] | None = None


class _Named(Protocol):
    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=_Named)


async def flavors(call: Call) -> list[wire.Flavor]:
    return await _offered(call)


async def flavor(call: Call) -> wire.Flavor:
    return _named(call, "flavor", await _offered(call))


async def images(call: Call) -> list[JobImage]:
    return list(call.service.parts.settings.catalogue.images)


async def presets(call: Call) -> list[Preset]:
    asked: PresetsAsked = call.query
    known = call.service.parts.settings.catalogue.presets
    return [preset for preset in known if asked.type in (None, preset.type)]


async def preset(call: Call) -> Preset:
    return _named(call, "preset", call.service.parts.settings.catalogue.presets)


async def quota(call: Call) -> list[wire.MeQuotas]:
    """The project's, as the one entry of a list."""
    found = await call.ledger.quota(call.project)
    return [wire.MeQuotas(resources={"CPU": found.cpu, "GPU": found.gpu})]


def _named(call: Call, what: str, known: Iterable[T]) -> T:
    """The entry of the id in the path. Raises `NotFound`."""
    wanted = call.path("id")
    for entry in known:
        if entry.id == wanted:
            return entry
    raise NotFound(f"there is no {what} {wanted[:64]!r} on offer")


async def _offered(call: Call) -> list[wire.Flavor]:
    """The flavors of which at least one unit fits on some node, at the prices of now."""
    nodes = await reads.nodes(call.ledger.pool)
    book, now = await call.ledger.prices(), await call.ledger.now()
    found = []
    for flavor in call.service.parts.settings.catalogue.flavors:
        most = max((units_on(node, flavor) for node in nodes), default=0)
        if most > 0:
            found.append(_flavor(flavor, min(most, flavor.max_units), book.price(flavor.id, now)))
    return found


def units_on(node: Node, flavor: domain.Flavor) -> int:
    """The most units of a flavor that a node holds when nothing else is on it."""
    fits = min(node.cpus // flavor.cpus, node.memory // flavor.memory)
    return min(fits, node.gpus) if flavor.kind == "gpu" else fits


def _flavor(of: domain.Flavor, most: int, price: tuple[Decimal, str] | None) -> wire.Flavor:
    gpu = wire.GpuInformation(gpu_brand=of.gpu_brand, gpu_model=of.gpu_model, gpu_memory=of.gpu_memory)
    return wire.Flavor(
        id=of.id,
        type=of.kind,
        description=of.description,
        default=of.default,
        max=most,
        resources_per_unit=wire.ResourcesPerUnit(
            cpu=of.cpus,
            memory=of.memory,
            ephemeral_storage=of.ephemeral_storage,
            public_network=of.public_network,
            private_network=of.private_network,
        ),
        gpu_information=gpu if of.kind == "gpu" else UNSET,
        hourly_price=price[0] if price else None,
        currency=price[1] if price else None,
    )
