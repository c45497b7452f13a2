"""`jobyard billing export`: a month's bill as a file in the format of FOCUS."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlencode

import typer

from service.cli import words
from service.cli.billing import Project
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.moments import AsOf, as_of
from service.cli.output import Output, size
from service.cli.private import private_file
from service.domain.bills.focus import VERSION
from service.errors import Invalid

_STDOUT = "-"


_MEDIA = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet", "jsonl": "application/jsonl"}


class FocusFormat(StrEnum):
    """What the file is."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"


def register(app: typer.Typer) -> None:
    """Adds `export` to the commands of `billing`."""
    command(app, "export", example="billing export --month 2026-11 --format parquet --file bill.parquet")(
        export
    )


async def export(
    client: Client,
    output: Output,
    month: Annotated[
        str | None, typer.Option("--month", metavar="YYYY-MM", help="A month in UTC; else the present one.")
    ] = None,
    form: Annotated[FocusFormat, typer.Option("--format", help="Of the file.")] = FocusFormat.CSV,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", help="Where it goes; - for standard output. Else focus-….*"),
    ] = None,
    project: Project = None,
    then: AsOf = None,
) -> None:
    """Writes a month's bill as a file in the format of FOCUS 1.2, for tools that read such."""
    words.check_given("--file", file)
    if file == _STDOUT and output.format is not None:
        raise Invalid("--file", file, "with -o standard output is for the document: name a file")
    asked = {"format": str(form), "month": month, "project": project, "asOf": as_of(then)}
    query = {name: value for name, value in asked.items() if value is not None}
    path = f"/billing/export?{urlencode(query)}"
    if file == _STDOUT:
        await client.download(path, sys.stdout.buffer, _MEDIA[form])
        return
    of = "" if project is None else f"{segment(project)}-"
    target = _target(file or f"focus-{VERSION}-{of}{month or 'this-month'}.{form}")
    count = await _whole(client, path, target, _MEDIA[form])
    written = {"file": str(target), "format": str(form), "focusVersion": VERSION, "bytes": count}
    output.done(f"{target}  {size(count)}  FOCUS {VERSION}", written)


def _target(given: str) -> Path:
    """Where the file goes. Raises `Invalid` for what can be no file."""
    target = Path(given)
    if target.is_dir() or not target.parent.is_dir():
        raise Invalid("--file", given, "a file in a folder that is there")
    return target


async def _whole(client: Client, path: str, target: Path, media: str) -> int:
    """The file, or none: it has its name only when all of it is there. Its size in bytes."""
    with private_file(target) as into:
        return await client.download(path, into, media)
