"""Every fold there is, by name. A new one is added here, and a partition for it in a migration."""

from __future__ import annotations

from typing import Any

from projections import billing, nodes, prices, projects, quota, status, tokens
from projections.fold import Fold

FOLDS: dict[str, Fold[Any]] = {
    module.FOLD.name: module.FOLD for module in (status, quota, billing, projects, tokens, prices, nodes)
}
