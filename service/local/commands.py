"""The commands that work on this machine rather than through the API."""

from __future__ import annotations

import typer

from service.local import bench, check, up

_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Adds the machine commands to `app`."""
    app.command("up")(up.up)
    app.command("bench")(bench.bench)
    app.command("test", context_settings=_PASS_ON)(check.test)
