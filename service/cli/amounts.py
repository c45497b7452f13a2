"""Commands whose argument is an amount of money."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer._click.exceptions import NoSuchOption  # it is nowhere else

from service.cli.values import ValueCommand

_BELOW_NOTHING = re.compile(r"\A-[0-9.]+\Z")


class AmountCommand(ValueCommand):
    """Says of an amount below nothing that it is one: no option begins with a digit."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except NoSuchOption:
            for word in given:
                if _BELOW_NOTHING.match(word):
                    said = f"AMOUNT: {word!r} is not allowed; an amount of money is not below nothing"
                    raise typer.BadParameter(said, ctx=ctx) from None
            raise
