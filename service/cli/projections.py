"""`jobyard projections …`: straight from the database, so that the service itself need not be believed."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from service.cli import exits
from service.cli.command import Database, command
from service.cli.output import Output
from service.ledger import rebuild as folding
from service.ledger.rebuild import Comparison
from service.memory import collect_seldom

app = typer.Typer()

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="All, if none is named.")]


@command(app, "verify", example="projections verify billing")
async def verify(database: Database, output: Output, names: Names = None) -> None:
    """Folds the ledger again and compares every row; changes nothing. Exit status 1 when one differs."""
    _report(output, await folding.verify(database.connection, names or [], output.note))


@command(app, "rebuild", example="projections rebuild billing")
async def rebuild(database: Database, output: Output, names: Names = None) -> None:
    """Folds the ledger again and puts the new rows in place, at once. Exit status 1 when one differed."""
    collect_seldom()
    _report(output, await folding.rebuild(database.connection, names or [], output.note))


def as_json(found: Comparison) -> dict[str, Any]:
    """A comparison for programs."""
    return {
        "projection": found.fold,
        "rows": found.rows,
        "position": found.position,
        "equal": not found.differences,
        "differences": [each._asdict() for each in found.differences],
    }


def _report(output: Output, found: list[Comparison]) -> None:
    columns = ("PROJECTION", "ROWS", "POSITION", "RESULT")
    rows = [(each.fold, each.rows, each.position, _verdict(each)) for each in found]
    output.items([as_json(each) for each in found], columns, rows)
    for comparison in found:
        for row in comparison.differences:
            output.note(Text(f"{comparison.fold} {row.key}", "bold"))
            output.note(f"  live     {row.live if row.live is not None else 'no such row'}")
            output.note(f"  rebuilt  {row.rebuilt if row.rebuilt is not None else 'no such row'}")
    if any(each.differences for each in found):
        raise typer.Exit(exits.Exit.FAILED)


def _verdict(found: Comparison) -> str:
    count = len(found.differences)
    if count >= folding.DIFFERENCES_SHOWN:
        return f"DIFFERENT: {count} rows or more"
    return f"DIFFERENT: {count} row{'' if count == 1 else 's'}" if count else "equal"
