"""Variables that look like ours and are not: mostly a setting that is misspelt, and so without effect."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from service.config.reading import READ_ELSEWHERE
from service.config.settings import PREFIX, Settings
from service.domain.nearest import nearest

#: What the command line reads, and what the service gives to its own processes.
_READ_BY_PROGRAMS = (
    *("JOBYARD_URL", "JOBYARD_TOKEN", "JOBYARD_WORKER"),
    *("JOBYARD_S3_SECRET_KEY", "JOBYARD_GIT_PASSWORD", "JOBYARD_REGISTRY_PASSWORD"),
)
#: What tests and benchmarks read.
_NO_SETTINGS = tuple(f"{PREFIX}{word}_" for word in ("TEST", "BENCH", "CHAOS"))


def unknown_variables(names: Iterable[str]) -> list[str]:
    """A sentence for each variable that begins as ours do and that nothing here reads, without its value."""
    settings = {PREFIX + field.name.upper() for field in msgspec.structs.fields(Settings)}
    known = settings | {*READ_ELSEWHERE, *_READ_BY_PROGRAMS}
    strange = sorted(
        name
        for name in names
        if name.startswith(PREFIX) and name not in known and not name.startswith(_NO_SETTINGS)
    )
    return [_said(name, known) for name in strange]


def _said(name: str, known: Iterable[str]) -> str:
    # Without what all of them begin with: by that alone any two would be alike.
    near = nearest(name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known])
    meant = "." if near is None else f"; did you mean {PREFIX}{near}?"
    return f"{name} is no setting, and is ignored{meant}"
