"""Flavors: what one unit of a kind of machine gives a job, and what it costs."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from service.domain.offers import JobImage, Preset

Kind = Literal["cpu", "gpu"]
KINDS: tuple[Kind, Kind] = ("cpu", "gpu")

GIB = 1024**3


class Flavor(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """One entry of the catalogue. Sizes are bytes, networks bytes/s, all of them per unit.

    A unit of a `cpu` flavor is `cpus` processors (1); a unit of a `gpu` flavor is one GPU with the
    `cpus`, memory and storage that come with it. `max_units` is the most one job may ask for.
    """

    id: str
    kind: Kind
    description: str = ""
    default: bool = False
    max_units: int
    cpus: int
    memory: int
    ephemeral_storage: int
    public_network: int = 0
    private_network: int = 0
    gpu_brand: str | None = None
    gpu_model: str | None = None
    gpu_memory: int | None = None
    hourly_price: Decimal


class Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The flavors on offer, in order, and what is recommended. Exactly one of each kind is the default."""

    flavors: tuple[Flavor, ...]
    images: tuple[JobImage, ...] = ()
    presets: tuple[Preset, ...] = ()

    def find(self, flavor_id: str) -> Flavor | None:
        return next((flavor for flavor in self.flavors if flavor.id == flavor_id), None)

    def default(self, kind: Kind) -> Flavor | None:
        return next((flavor for flavor in self.flavors if flavor.kind == kind and flavor.default), None)

    def ids(self, kind: Kind | None = None) -> list[str]:
        return [flavor.id for flavor in self.flavors if kind in (None, flavor.kind)]

    def problems(self) -> list[str]:
        """What is wrong with it, in words; empty when it can be used."""
        found = [
            f"{kind}: exactly one flavor must be the default, not {count}"
            for kind in KINDS
            if (count := sum(f.default for f in self.flavors if f.kind == kind)) != 1
        ]
        ids = [flavor.id for flavor in self.flavors]
        found += [f"flavor {name!r} stands twice" for name in sorted(set(ids)) if ids.count(name) > 1]
        for what, offered in (("image", self.images), ("preset", self.presets)):
            names = [each.id for each in offered]
            found += [f"{what} {name!r} stands twice" for name in sorted(set(names)) if names.count(name) > 1]
        for flavor in self.flavors:
            amounts = (flavor.max_units, flavor.cpus, flavor.memory, flavor.ephemeral_storage)
            if min(amounts) < 1:
                found.append(f"flavor {flavor.id!r}: maxUnits, cpus, memory and storage must be positive")
            if flavor.hourly_price < 0:
                found.append(f"flavor {flavor.id!r}: hourlyPrice must not be negative")
        return found


#: The built-in catalogue: the seed's default of one GPU, and the published example prices.
DEFAULT_CATALOGUE = Catalogue(
    (
        Flavor(
            id="ai1-1-cpu",
            kind="cpu",
            description="1 vCPU, 4 GiB of memory",
            default=True,
            max_units=12,
            cpus=1,
            memory=4 * GIB,
            ephemeral_storage=50 * GIB,
            hourly_price=Decimal("0.03"),
        ),
        Flavor(
            id="ai1-1-gpu",
            kind="gpu",
            description="1 GPU, 13 vCPU, 40 GiB of memory",
            default=True,
            max_units=4,
            cpus=13,
            memory=40 * GIB,
            ephemeral_storage=750 * GIB,
            gpu_brand="NVIDIA",
            gpu_model="Tesla V100S",
            gpu_memory=32 * GIB,
            hourly_price=Decimal("1.93"),
        ),
    )
)
