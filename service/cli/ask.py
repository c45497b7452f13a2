"""What is asked for at the terminal; secrets are not echoed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from service.errors import Invalid, Rejected

T = TypeVar("T")

SURE = "--yes says that you are sure"
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def secret(what: str, *, otherwise: str) -> str:
    """What is typed at the terminal for `what`. Raises `Invalid`, saying `otherwise`, where there is none.

    Ctrl-C ends it at once: an event loop would only note it, and the terminal go on waiting.
    """
    return _asked(what, otherwise, hidden=True)


def line(what: str, *, otherwise: str) -> str:
    """As `secret`, of what may be seen."""
    return _asked(what, otherwise, hidden=False)


def agreed(question: str, *, otherwise: str) -> None:
    """Goes on after a yes. Raises `Rejected`, saying `otherwise`, where nobody can be asked, and
    `typer.Abort` for a no."""
    if not sys.stdin.isatty():
        raise Rejected(f"{question} There is no terminal to ask at: {otherwise}")
    _at_terminal(question, otherwise, lambda: typer.confirm(question, abort=True, err=True))


def _asked(what: str, otherwise: str, *, hidden: bool) -> str:
    return _at_terminal(what, otherwise, lambda: str(typer.prompt(what, hide_input=hidden, err=True)))


def _at_terminal(what: str, otherwise: str, ask: Callable[[], T]) -> T:
    if not sys.stdin.isatty():
        raise Invalid(what, None, otherwise)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return ask()
    finally:
        signal.signal(signal.SIGINT, before)
