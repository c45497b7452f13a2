"""Every fold there is, by name. A new one is added here, and a partition for it in a migration."""

from __future__ import annotations

from typing import Any

from projections import (
    billing,
    credits,
    nodes,
    prices,
    projects,
    quota,
    refusals,
    spend,
    status,
    tokens,
    webhooks,
)
from projections.fold import Fold

FOLDS: dict[str, Fold[Any]] = {
    module.FOLD.name: module.FOLD
    for module in (
        status,
        quota,
        billing,
        projects,
        tokens,
        prices,
        nodes,
        credits,
        spend,
        refusals,
        webhooks,
    )
}
