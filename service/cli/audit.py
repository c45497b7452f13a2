"""`jobyard audit …`: straight from the database, so that the service itself need not be believed."""

from __future__ import annotations

import typer

from service.cli import exits
from service.cli.command import Database, command
from service.cli.output import Output
from service.errors import LedgerCorrupt
from service.ledger import verify as chain

app = typer.Typer()


@app.callback()
def _audit() -> None:
    """The audit trail: verify that no event was changed."""


@command(app, "verify", example="audit verify -o json")
async def verify(database: Database, output: Output) -> None:
    """Recomputes the hash chain over every event. Exit status 1 names the first that does not hold."""
    try:
        found = await chain.verify(database.connection)
    except LedgerCorrupt as error:
        value = {"verified": False, "firstBadEvent": error.position, "message": error.message}
        output.done(f"CORRUPT: {error.message}", value)
        raise typer.Exit(exits.Exit.FAILED) from None
    value = {"verified": True, "events": found.events, "hash": found.hash.hex()}
    output.done(f"verified: {found.events} events, the last hash is {found.hash.hex()}", value)
