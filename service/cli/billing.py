"""`jobyard billing`: what runs cost, statements, replays and explanations."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import complete, price_file
from service.cli.client import Client, segment
from service.cli.command import alone, command
from service.cli.moments import AsOf, as_of
from service.cli.output import Column, Output, clock
from service.errors import Invalid, NotFound

app = typer.Typer()

_COLUMNS = (
    Column("JOB", whole=True),
    "RUN",
    Column("FLAVOR", extra=True),
    "UNITS",
    Column("PRICE/H", extra=True),
    "MINUTES",
    Column("AMOUNT", whole=True),
    Column("NET", whole=True),
    "",
    Column("POLICY", extra=True),
)
_LINES = (
    Column("JOB", whole=True),
    "RUN",
    Column("FLAVOR", extra=True),
    "UNITS",
    Column("ENDED", extra=True),
    "MINUTES",
    Column("PRICE/H", extra=True),
    Column("AMOUNT", whole=True),
    Column("NET", whole=True),
    Column("EVENTS", extra=True),
)
_BESIDE = ("EVENT", "WHAT", "JOB", "RUN", "AMOUNT", "REASON", Column("OF", extra=True))
_OPEN = (
    Column("JOB", whole=True),
    "RUN",
    Column("FLAVOR", extra=True),
    "UNITS",
    "SINCE",
    "MINUTES",
    "AMOUNT",
)
_COMPARED = (
    Column("JOB", whole=True),
    "RUN",
    "LIVE MIN",
    "LIVE",
    "MINUTES",
    "AMOUNT",
    "DIFFERENCE",
    "WHY",
    Column("EVENTS", extra=True),
)

_DONE = {"credit": "credited", "correction": "corrected"}

_Policy = Annotated[
    str | None,
    typer.Option("--policy", metavar="POLICY", help="As this policy would bill: 2021-05, 2023-12, 2026-01."),
]
Project = Annotated[
    str | None,
    typer.Option(
        "--project", help="Another project, for who looks after all.", autocompletion=complete.projects
    ),
]
_Job = Annotated[str | None, typer.Option("--job", "-j", help="Only this job.", autocompletion=complete.jobs)]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="JOB[/RUN]", help="A run; without RUN the job's last.", autocompletion=complete.jobs
    ),
]


@alone(app, example="billing --from 2026-11-01T00:00:00Z --policy 2023-12")
async def billing(
    client: Client,
    output: Output,
    job: _Job = None,
    policy: _Policy = None,
    since: Annotated[str | None, typer.Option("--from", help="Runs from this time on (RFC 3339).")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Runs before this time (RFC 3339).")] = None,
    then: AsOf = None,
) -> None:
    """Shows what your runs cost, line by line.

    The commands below make a statement of it, replay it under another policy, and explain it.
    """
    params: dict[str, str | int | list[str] | None] = {
        "job": job,
        "policy": policy,
        "from": since,
        "to": until,
        "asOf": as_of(then),
    }
    found = await client.get("/billing", **params)
    output.items(found, _COLUMNS, [_line(item) for item in found["items"]])
    if output.format is None and found["total"] is not None:
        output.done(f"total {found['total']} {found['currency']}".rstrip())


def _line(item: Any) -> tuple[Any, ...]:
    done = ["credited"] * item["credited"] + [_DONE[each["kind"]] for each in item["adjustments"]]
    return (
        item["job"],
        item["run"],
        item["flavor"],
        item["units"],
        item["hourlyPrice"],
        item["minutes"],
        _money(item["original"], item),
        _money(item["amount"], item) if item["adjustments"] else "",
        ", ".join(dict.fromkeys(done)),
        item["policy"],
    )


@command(app, "statement", example="billing statement --month 2026-11")
async def statement(
    client: Client,
    output: Output,
    month: Annotated[
        str | None, typer.Option("--month", metavar="YYYY-MM", help="In UTC; this month when left out.")
    ] = None,
    policy: _Policy = None,
    project: Project = None,
    then: AsOf = None,
) -> None:
    """Shows a month's statement: a line a run, what stands beside it, and what is to pay."""
    asked = {"month": month, "policy": policy, "project": project, "asOf": as_of(then)}
    found = await client.get("/billing/statement", **asked)
    if output.format is not None:
        output.item(found)
        return
    over = "the month is over" if found["over"] else "the month is not over"
    output.done(
        f"{found['month']} of project {found['project']} by policy {found['policy']}, "
        f"as of position {found['asOf']['position']}; {over}"
    )
    output.items(found, _LINES, map(_statement_line, found["lines"]))
    if found["adjustments"]:
        output.done("\ncredits and corrections")
        output.items(found, _BESIDE, map(_beside, found["adjustments"]))
    if found["open"]:
        output.done("\nrunning so far, in no total")
        output.items(found, _OPEN, map(_open, found["open"]))
    print()
    for total in found["totals"]:
        output.done(f"total {_money(total['total'], total)}, to pay {_money(total['toPay'], total)}")
    if not found["totals"]:
        output.done("nothing to pay")


@command(app, "replay", example="billing replay --policy 2023-12 --price-book prices.yaml")
async def replay(
    client: Client,
    output: Output,
    policy: _Policy = None,
    book: Annotated[
        str | None,
        typer.Option(
            "--price-book",
            metavar="FILE",
            help="Prices, YAML or JSON: a list of {flavor, hourlyPrice, validFrom, validTo, currency}.",
        ),
    ] = None,
    ledger_prices: Annotated[
        bool, typer.Option("--ledger-prices", help="The service's own prices, as they are now.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--from", help="Windows that ended from this time or day on.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="Windows that ended before this time or day.")
    ] = None,
    differing: Annotated[bool, typer.Option("--differing", help="Only the lines that differ.")] = False,
    project: Project = None,
) -> None:
    """Bills the ledger's events anew, and shows line by line how that differs from the live bill."""
    asked: dict[str, Any] = {
        "policy": policy,
        "priceBook": price_file.book("--price-book", book) if book is not None else None,
        "ledgerPrices": ledger_prices or None,
        "from": since,
        "to": until,
        "differing": differing or None,
        "project": project,
    }
    sent = {name: value for name, value in asked.items() if value is not None}
    found = await client.post("/billing/replay", sent, timeout_s=None)
    output.items(found, _COMPARED, map(_compared, found["lines"]))
    if output.format is not None:
        return
    unpriced = f", {found['unpriced']} without a price" if found["unpriced"] else ""
    output.done(f"{found['runs']} runs, {found['differ']} differ{unpriced}")
    for each in found["totals"]:
        output.done(
            f"live {_money(each['live'], each)}, replayed {_money(each['replayed'], each)}, "
            f"difference {signed(each['difference'])} ({signed(each['differenceToPay'])})"
        )


@command(app, "explain", example="billing explain 5d1f0c2e-…/2")
async def explain(
    client: Client, output: Output, run: RunArgument, policy: _Policy = None, then: AsOf = None
) -> None:
    """Tells in words why a run has these minutes and this amount, and by which events."""
    job, number = await run_of(client, run)
    path = f"/billing/explain/{segment(job)}/{segment(number)}"
    found = await client.get(path, policy=policy, asOf=as_of(then))
    if output.format is not None:
        output.item(found)
        return
    for each in found["sentences"]:
        cited = f" [{_positions(each['positions'])}]" if each["positions"] else ""
        output.done(f"{each['text']}{cited}")


async def run_of(client: Client, text: str, project: str | None = None) -> tuple[str, str]:
    """The job and the run of `JOB/RUN`, or of `JOB` the last run that there is a bill of."""
    job, slash, number = text.partition("/")
    if slash:
        if not (number.isascii() and number.isdigit()):
            raise Invalid("JOB[/RUN]", text, "write JOB, or JOB/RUN with the number of a run")
        return job, number
    if project is not None:
        raise Invalid("JOB[/RUN]", text, "of another project name the run too: JOB/RUN")
    found = (await client.get("/billing", job=job))["items"]
    if not found:
        raise NotFound(f"there is no bill of job {job}")
    return job, str(max(item["run"] for item in found))


def _statement_line(line: Any) -> tuple[Any, ...]:
    return (
        line["job"],
        line["run"],
        line["flavor"],
        line["units"],
        clock(line["windowEnd"]) or "not billed",
        line["minutes"],
        line["hourlyPrice"],
        _money(line["amount"], line),
        _money(line["net"], line) if line["adjustments"] else "",
        _positions(line["positions"]),
    )


def _beside(given: Any) -> tuple[Any, ...]:
    each = given["adjustment"]
    rule = "" if each["rule"] == "order" else f" ({each['rule']})"
    return (
        each["position"],
        f"{each['kind']}{rule}",
        given["job"],
        given["run"],
        f"{signed(each['amount'])} {each['currency']}",
        each["reason"],
        given["month"],
    )


def _open(run: Any) -> tuple[Any, ...]:
    return (
        *(run["job"], run["run"], run["flavor"], run["units"], clock(run["since"]), run["minutes"]),
        _money(run["amount"], run),
    )


def _compared(line: Any) -> tuple[Any, ...]:
    live, again = line["live"], line["replayed"]
    return (
        *(line["job"], line["run"], live["minutes"], _money(live["amount"], live)),
        *((again["minutes"], _money(again["amount"], again)) if again else ("", "")),
        signed(line["difference"]) if line["difference"] is not None else "",
        "; ".join(line["why"]),
        _positions(line["positions"]),
    )


def _money(amount: str, of: Any) -> str:
    return f"{amount} {of['currency']}".rstrip()


def signed(amount: str) -> str:
    """With a plus where something is added; nothing has no sign."""
    return amount if amount.startswith("-") or not amount.strip("0.") else f"+{amount}"


def _positions(positions: list[int]) -> str:
    """Events in short: `3-5 9`."""
    spans: list[list[int]] = []
    for each in positions:
        if spans and each == spans[-1][1] + 1:
            spans[-1][1] = each
        else:
            spans.append([each, each])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
