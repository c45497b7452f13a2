"""Flavors: what one unit of a kind of machine gives a job, and what it costs."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from service.domain.offers import JobImage, Preset
from service.errors import Invalid

Kind = Literal["cpu", "gpu"]
KINDS: tuple[Kind, Kind] = ("cpu", "gpu")

GIB = 1024**3

MAX_NAME_CHARS = 64
NAMES = f"the name of a flavor: 1 to {MAX_NAME_CHARS} printable characters, no space at either end"


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
    """The flavors on offer, in order, and what is recommended. One of each kind on offer is the default."""

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
        """What is wrong with it, by its field, in words; empty when it can be used."""
        found = [] if self.flavors else ["flavors: there must be at least one"]
        for kind in KINDS:
            defaults = [flavor.id for flavor in self.flavors if flavor.kind == kind and flavor.default]
            if self.ids(kind) and len(defaults) != 1:
                named = f" ({', '.join(defaults)})" if defaults else ""
                found.append(
                    f"flavors: of kind {kind} exactly one must be the default, not {len(defaults)}{named}; "
                    f"they are {', '.join(self.ids(kind))}"
                )
        for what, offered in (("flavors", self.flavors), ("images", self.images), ("presets", self.presets)):
            names = [each.id for each in offered]
            again = [at for at, name in enumerate(names) if name in names[:at]]
            found += [f"{what}[{at}].id: {names[at]!r} stands twice" for at in again]
        for at, flavor in enumerate(self.flavors):
            if not is_flavor_name(flavor.id):
                found.append(f"flavors[{at}].id: {flavor.id[:120]!r} is not {NAMES}")
            amounts = {
                "maxUnits": flavor.max_units,
                "cpus": flavor.cpus,
                "memory": flavor.memory,
                "ephemeralStorage": flavor.ephemeral_storage,
            }
            few = {name: amount for name, amount in amounts.items() if amount < 1}
            found += [
                f"flavors[{at}].{name}: {few[name]} of {flavor.id!r} must be at least 1" for name in few
            ]
            price = flavor.hourly_price
            if not price.is_finite() or price < 0:
                found.append(f"flavors[{at}].hourlyPrice: {price} of {flavor.id!r} must not be negative")
        return found


def is_flavor_name(text: str) -> bool:
    """Whether it could name a flavor; which ones there are is the catalogue's to say."""
    return 1 <= len(text) <= MAX_NAME_CHARS and text.isprintable() and text == text.strip()


def check_flavor_name(field: str, text: str) -> None:
    """The one rule for all that names a flavor. Raises `Invalid` for `field`."""
    if not is_flavor_name(text):
        raise Invalid(field, text, NAMES)


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
