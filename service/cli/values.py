"""What is said of an option's value that cannot be taken: what was given, and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from service.cli import words

_ALLOWED = {
    "int_parsing": "it must be a whole number",
    "int_parsing_size": "it must be a whole number of a usual size",
    "float_parsing": "it must be a number",
    "greater_than_equal": "it must be {ge} or more",
    "less_than_equal": "it must be {le} or less",
}


def state_dir(given: str) -> Path:
    """A state directory as `--state` names it. Empty, as of a variable that is not set, it would be the very
    directory that somebody stands in, as `.` is."""
    words.check_given("--state", given)
    return Path(given)


class ValueCommand(TyperCommand):
    """Words refusals of values as the rest of Jobyard does; typer's tell not what was given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            from pydantic import ValidationError  # typer's own, which takes its time to load

            if isinstance(error.__cause__, ValidationError):
                wrong = error.__cause__.errors()[0]
                allowed = _ALLOWED.get(wrong["type"])
                if allowed is not None:
                    said = allowed.format(**wrong.get("ctx", {}))
                    error.message = f"{str(wrong['input'])!r} is not allowed; {said}"
                elif wrong["type"] == "value_error":  # a choice names what was given and what there is
                    error.message = str(wrong["msg"]).removeprefix("Value error, ")
            raise
