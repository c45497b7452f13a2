"""What can be asked for."""

from __future__ import annotations

from decimal import Decimal

from msgspec import UNSET, UnsetType

from service.api.wire.base import Wire
from service.domain.flavors import Kind


class ResourcesPerUnit(Wire, frozen=True):
    """Sizes are bytes, networks bytes/s."""

    cpu: int
    memory: int
    ephemeral_storage: int
    public_network: int
    private_network: int


class GpuInformation(Wire, frozen=True):
    gpu_brand: str | None
    gpu_model: str | None
    gpu_memory: int | None


class Flavor(Wire, frozen=True):
    """`max` is the most units one job can have here. `hourlyPrice` is per unit; null: none is in force, and
    no job can be submitted."""

    id: str
    type: Kind
    description: str
    default: bool
    max: int
    resources_per_unit: ResourcesPerUnit
    hourly_price: Decimal | None
    currency: str | None
    gpu_information: GpuInformation | UnsetType = UNSET
