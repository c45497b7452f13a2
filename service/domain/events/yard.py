"""What concerns no project alone: the price book, and the supervisors of engines."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal

from service.domain.events.base import Body, Info


class PricesSet(Body, frozen=True):
    """Hourly prices per unit, by flavor, for runs that start at `valid_from` or later.

    `source`: they are the catalogue's, as a start found it, or an overseer ordered them.
    """

    prices: dict[str, Decimal]
    valid_from: datetime
    currency: str = "EUR"
    source: Literal["catalogue", "order"] = "catalogue"


class SupervisorStarted(Body, frozen=True):
    """A supervisor took the lease of an engine. `absent_since` is when the one before was last seen.

    `cpus`, `memory` (bytes) and `gpus` are what jobs can have of the node in all. `devices` are the ids of
    the GPUs, `gpu_trouble` why there are none, and `patience_ms` how long a job is first in its line before
    what becomes free is held for it: with these its plans can be made again.
    """

    engine: str
    node: str
    epoch: int
    absent_since: datetime | None = None
    cpus: int = 0
    memory: int = 0
    gpus: int = 0
    devices: tuple[str, ...] = ()
    gpu_trouble: str = ""
    patience_ms: int = 300_000


class AdmissionSet(Body, frozen=True):
    """From now on no run begins on the engine's node, because of `stopped`; None: they begin again.

    A supervisor that takes the engine begins with None.
    """

    engine: str
    node: str
    epoch: int
    stopped: Info | None = None
