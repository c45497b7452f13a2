"""A service with a planted bug: it answers before what it says is on the disk.

`python -m tests.chaos.kills.hasty up …`, as `python -m service up …`. The service asks for no such thing, and
Postgres as Jobyard starts it does not do it either.
"""

from __future__ import annotations

from typing import Any

from service import __main__ as program
from service.ledger import database

_SETTINGS = database._settings


def _hasty(admin: bool) -> dict[str, Any]:
    return _SETTINGS(admin) | {"synchronous_commit": "off"}


if __name__ == "__main__":
    database._settings = _hasty
    program._run_app()
