"""Times and moments of the ledger as people write them in options."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from service.cli.output import moment
from service.cli.parse import duration_s
from service.domain.times import with_zone
from service.errors import Invalid

AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="MOMENT",
        help="As it was then: a time (RFC 3339), so long ago (2h), or a position of the ledger.",
    ),
]


def time_of(option: str, text: str) -> str:
    """A time as the API takes it, from one or from how long ago it was."""
    if (said := with_zone(text)) is not None:
        raise Invalid(option, text, said)
    try:
        at = moment(text)
    except ValueError:
        at = None
    if at is None:
        try:
            at = datetime.now(UTC) - timedelta(seconds=duration_s(option, text))
        except (Invalid, OverflowError):
            raise Invalid(option, text, "write a time such as 2026-01-31T12:00:00Z, or 10m") from None
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def moment_of(option: str, text: str) -> str:
    """A moment of the ledger as the API takes it: a number is a position; else as `time_of`."""
    plain = text.strip()
    if plain.isascii() and plain.isdigit():
        return plain
    try:
        return time_of(option, plain)
    except Invalid as error:
        if "zone" in error.allowed:
            raise
        forms = "write a position, a time such as 2026-01-31T12:00:00Z, or how long ago it was, such as 2h"
        raise Invalid(option, text, forms) from None


def as_of(text: str | None) -> str | None:
    """What `--as-of` names, as the API takes it."""
    return None if text is None else moment_of("--as-of", text)
