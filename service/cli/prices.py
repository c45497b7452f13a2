"""`jobyard prices …`: the price book, and for who looks after the yard, new prices."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import complete, price_file
from service.cli.client import Client
from service.cli.command import command
from service.cli.output import Column, Output, clock
from service.errors import Invalid

app = typer.Typer()

_COLUMNS = (
    "FLAVOR",
    Column("PRICE/H", whole=True),
    "FROM",
    "TO",
    "IN FORCE",
    Column("BY", extra=True),
    Column("EVENT", extra=True),
)


@command(app, "list", aliases=["ls"], example="prices list --flavor ai1-1-cpu")
async def list_prices(
    client: Client,
    output: Output,
    flavor: Annotated[
        str | None, typer.Option("--flavor", "-f", help="Only of this one.", autocompletion=complete.flavors)
    ] = None,
) -> None:
    """Lists the price book: every price, from when it holds, and which is in force."""
    found = await client.get("/prices", flavor=flavor)
    output.items(found, _COLUMNS, map(_row, found["items"]))


@command(app, "set", example="prices set ai1-1-cpu=0.04 --valid-from 2026-12-01")
async def set_prices(
    client: Client,
    output: Output,
    given: Annotated[
        list[str],
        typer.Argument(metavar="FLAVOR=PRICE… | FILE", help="Prices per hour and unit, or a file of them."),
    ],
    valid_from: Annotated[
        str | None,
        typer.Option("--valid-from", metavar="TIME", help="RFC 3339, or a day; from now when left out."),
    ] = None,
    currency: Annotated[str | None, typer.Option("--currency", help="Such as EUR; the usual one.")] = None,
) -> None:
    """Sets prices for runs that are placed from a time on. Runs that were placed keep theirs."""
    asked = {"prices": _given(given), "validFrom": valid_from, "currency": currency}
    made = await client.post("/prices", {name: value for name, value in asked.items() if value is not None})
    output.items(made, _COLUMNS, map(_row, made["items"]))


def _given(words: list[str]) -> dict[str, str]:
    if len(words) == 1 and "=" not in words[0]:
        return price_file.prices("FILE", words[0])
    found: dict[str, str] = {}
    for word in words:
        flavor, equals, price = word.partition("=")
        if not (flavor and equals and price) or flavor in found:
            raise Invalid("FLAVOR=PRICE", word, "write FLAVOR=PRICE, each flavor once, or one FILE")
        found[flavor] = price
    return found


def _row(price: Any) -> tuple[Any, ...]:
    return (
        price["flavor"],
        f"{price['hourlyPrice']} {price['currency']}",
        clock(price["validFrom"]),
        clock(price["validTo"]),
        price["inForce"],
        price["source"],
        price["position"],
    )
