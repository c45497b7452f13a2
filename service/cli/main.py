"""The `jobyard` command: what users do through the API."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="jobyard",
    help="Runs AI-training jobs as Docker containers on machines you own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _jobyard() -> None:
    """Keeps the commands by name even while there is only one."""
