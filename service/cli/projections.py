"""`jobyard projections …`: straight from the database, so that the service itself need not be believed."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from service.cli import exits
from service.cli.command import Database, command
from service.cli.output import Output
from service.ledger import rebuild as folding
from service.ledger.rebuild import Comparison, Difference
from service.memory import collect_seldom

app = typer.Typer()

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="All, if none is named.")]


@command(app, "verify", example="projections verify billing")
async def verify(database: Database, output: Output, names: Names = None) -> None:
    """Folds the ledger again and compares every row; changes nothing. Exit status 1 when one differs."""
    report(output, await folding.verify(database.connection, names or [], output.note))


@command(app, "rebuild", example="projections rebuild billing")
async def rebuild(database: Database, output: Output, names: Names = None) -> None:
    """Folds the ledger again and puts the new rows in place, at once. Exit status 1 when one differed."""
    collect_seldom()
    report(output, await folding.rebuild(database.connection, names or [], output.note))


def as_json(found: Comparison) -> dict[str, Any]:
    """A comparison for programs."""
    return {
        "projection": found.fold,
        "rows": found.rows,
        "position": found.position,
        "equal": not found.differences,
        "differences": [_difference(each) for each in found.differences],
    }


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "key": found.key,
        "live": found.live,
        "rebuilt": found.rebuilt,
        "livePosition": found.live_position,
        "rebuiltPosition": found.rebuilt_position,
    }


def report(output: Output, found: list[Comparison]) -> None:
    columns = ("PROJECTION", "ROWS", "POSITION", "RESULT")
    rows = [(each.fold, each.rows, each.position, _verdict(each)) for each in found]
    output.items([as_json(each) for each in found], columns, rows)
    for comparison in found:
        for row in comparison.differences:
            output.note(Text(f"{comparison.fold} {row.key}", "bold"))
            moved = None not in row and row.live_position != row.rebuilt_position
            output.note(f"  live     {_shown(row.live, row.live_position if moved else None)}")
            output.note(f"  rebuilt  {_shown(row.rebuilt, row.rebuilt_position if moved else None)}")
    if any(each.differences for each in found):
        raise typer.Exit(exits.Exit.FAILED)


def _shown(row: str | None, position: int | None) -> str:
    if row is None:
        return "no such row"
    return row if position is None else f"as of event {position}: {row}"


def _verdict(found: Comparison) -> str:
    count = len(found.differences)
    if count >= folding.DIFFERENCES_SHOWN:
        return f"DIFFERENT: {count} rows or more"
    return f"DIFFERENT: {count} row{'' if count == 1 else 's'}" if count else "equal"
