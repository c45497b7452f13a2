"""The `jobyard` command: what users do through the API. One file a noun.

A line needs one noun, and to import all of them takes longer than the service takes to answer. So the command
line is put together for the line: `app_for` takes its first word.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType

import typer

from service.cli import exits

#: What each noun is about; its commands are in the module of its name.
NOUNS: dict[str, str | None] = {
    "job": "Jobs: run, watch, read their logs, stop, start, delete.",
    "project": "Projects and their quota.",
    "budget": "The budget of a project: what a month may cost, and has.",
    "token": "Tokens of your project.",
    "datastore": "Data stores: where volumes come from and go to.",
    "volume": "Volumes of your project, for its jobs to share.",
    "registry": "Registries with private images.",
    "webhook": "Webhooks: your project's events, brought to a URL.",
    "capabilities": "What jobs can be asked for here.",
    "bucket": "Containers of a data store, and the objects in them.",
    "projections": "Read models: rebuild or verify them from the ledger.",
    "incident": "A job's history in a file, and decided again from it.",
    "prices": "Prices: what is in force, and what comes.",
    "audit": "The audit trail: who did what, and the proof of it.",
    "billing": None,  # says itself what it does, as it is a command too
}
#: Commands without a noun, and the module of each.
COMMANDS = {"me": "account", "quota": "account", "events": "events", "whatif": "whatif"}
#: Modules that add commands to nouns which have one of their own.
_MORE = {
    "job": ("job_list", "job_run", "job_data", "job_diff", "job_why", "exec", "job_erase"),
    "project": ("project_erase",),
    "billing": ("billing_orders", "billing_export"),
}


def is_known(first: str) -> bool:
    """Whether a line that begins so is for the API."""
    return first in NOUNS or first in COMMANDS


def bare() -> typer.Typer:
    """The command line without any command."""
    return typer.Typer(
        name="jobyard",
        help=f"Runs AI-training jobs as Docker containers on machines you own.\n\n{exits.HELP}",
        no_args_is_help=True,
        add_completion=True,
        rich_markup_mode=None,  # boxes cut options off at 80 columns
        pretty_exceptions_enable=False,
    )


def app_for(first: str = "") -> typer.Typer:
    """As much of the command line as one needs that begins with this word; all of it for any other word."""
    app = bare()
    for noun in [first] if first in NOUNS else [] if first in COMMANDS else NOUNS:
        if (help_text := NOUNS[noun]) is None:
            app.add_typer(_commands_of(noun), name=noun, invoke_without_command=True)
        else:
            app.add_typer(_commands_of(noun), name=noun, help=help_text, no_args_is_help=True)
    # All of them or none: typer makes of an only command one without a name.
    for module in dict.fromkeys(COMMANDS.values()) if first not in NOUNS else ():
        _module(module).register(app)
    return app


@cache
def _commands_of(noun: str) -> typer.Typer:
    commands: typer.Typer = _module(noun).app
    for module in _MORE.get(noun, ()):
        _module(module).register(commands)
    return commands


def _module(name: str) -> ModuleType:
    return import_module(f"service.cli.{name}")
