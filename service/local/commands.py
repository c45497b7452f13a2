"""The commands that work on this machine rather than through the API."""

from __future__ import annotations

import typer

from service.cli.values import ValueCommand
from service.local import bench, check, up
from service.local.demo import command as demo

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Adds the machine commands to `app`."""
    app.command("up", cls=ValueCommand, short_help="Runs Jobyard on this machine, until Ctrl-C.")(up.up)
    app.command("demo", short_help="Trains a model in a job, from upload to bill.")(demo.demo)
    app.command("bench", short_help="Measures speed against the parts underneath.")(bench.bench)
    app.command("test", context_settings=_PASS_ON)(check.test)
