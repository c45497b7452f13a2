"""`jobyard webhook …`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from service.cli import complete
from service.cli.client import Client, segment
from service.cli.command import command
from service.cli.exits import Exit
from service.cli.output import Column, Output, clock
from service.cli.parse import duration_s

app = typer.Typer()

_ONCE = "the secret is shown only now: keep it, receivers verify signatures with it"
_LOST = "the answer with the secret was lost: `jobyard webhook rotate` makes another"

_Id = Annotated[str, typer.Argument(metavar="WEBHOOK", help="Its id.", autocompletion=complete.webhooks)]
_Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only events of this type (JobSubmitted); repeatable.")
]
_States = Annotated[
    list[str] | None, typer.Option("--state", "-s", help="Only when a job comes into it; repeatable.")
]
_Jobs = Annotated[list[str] | None, typer.Option("--job", help="Only of this job; repeatable.")]
_Labels = Annotated[
    str | None, typer.Option("--label-selector", "-l", help="Only of jobs whose labels match right then.")
]
_Text = Annotated[str | None, typer.Option("--description", help="What it is for.")]
_Check = Annotated[bool, typer.Option("--check/--no-check", help="Look its host up first.")]

_COLUMNS = (
    *(Column("ID", whole=True), "STATE", "POSITION", "URL"),
    *(Column("FILTER", extra=True), Column("DESCRIPTION", extra=True)),
)


@command(app, "add", example="webhook add https://example.org/hook -s DONE -s FAILED")
async def add(
    client: Client,
    output: Output,
    place: Annotated[str, typer.Argument(metavar="URL", help="https://HOST[:PORT][/PATH].")],
    types: _Types = None,
    states: _States = None,
    jobs: _Jobs = None,
    label: _Labels = None,
    description: _Text = None,
    after: Annotated[
        int | None, typer.Option("--after", help="Begin behind this position, 0: with all there is.")
    ] = None,
    check: _Check = True,
) -> None:
    """Has your project's events brought to a URL, from now on; its secret is shown this once.

    What is named must all hold; nothing named asks for every event of the project.
    """
    body = {"url": place} | _filter(types, states, jobs, label, description)
    made = await client.post(_checked("/webhook", check), body | ({} if after is None else {"after": after}))
    output.item(made, _shown(made))
    output.note(_ONCE if made.get("secret") else _LOST)


@command(app, "list", aliases=["ls"], example="webhook list")
async def list_webhooks(client: Client, output: Output) -> None:
    """Lists the webhooks of your project, and how each fares."""
    items = await client.pages("/webhook")
    rows = [
        (
            each["id"],
            each["status"]["state"],
            each["status"]["position"],
            each["url"],
            _asked(each),
            each["description"],
        )
        for each in items
    ]
    output.items(items, _COLUMNS, rows)


@command(app, "get", example="webhook get 5c1f0a7e-…")
async def get(client: Client, output: Output, webhook: _Id) -> None:
    """Shows one webhook: how far it has come, and why it fails or is paused."""
    found = await client.get(_path(webhook))
    output.item(found, _shown(found))


@command(app, "update", example="webhook update 5c1f0a7e-… --type JobSubmitted")
async def update(
    client: Client,
    output: Output,
    webhook: _Id,
    place: Annotated[str | None, typer.Option("--webhook-url", help="Its new URL.")] = None,
    types: _Types = None,
    states: _States = None,
    jobs: _Jobs = None,
    label: _Labels = None,
    description: _Text = None,
    every: Annotated[bool, typer.Option("--all", help="Every event: take what it asked for away.")] = False,
    check: _Check = True,
) -> None:
    """Changes what is given of a webhook; a failing one is tried at once."""
    cleared = {"types": [], "states": [], "jobs": [], "labelSelector": ""} if every else {}
    changed = cleared | _filter(types, states, jobs, label, description)
    changed |= {} if place is None else {"url": place}
    if not changed:
        raise typer.BadParameter("give --webhook-url, --type, --state, --job, -l, --description or --all")
    await client.put(_checked(_path(webhook), check), changed)
    output.done(f"changed {webhook}", None if output.format is None else await client.get(_path(webhook)))


@command(app, "delete", aliases=["rm"], example="webhook delete 5c1f0a7e-…")
async def delete(client: Client, output: Output, webhook: _Id) -> None:
    """Deletes a webhook; nothing more is delivered."""
    await client.delete(_path(webhook))
    output.deleted(webhook)


@command(app, "rotate", example="webhook rotate 5c1f0a7e-… --keep-old 2h")
async def rotate(
    client: Client,
    output: Output,
    webhook: _Id,
    keep_old: Annotated[
        str, typer.Option("--keep-old", metavar="TIME", help="How long the old secret signs too; 0: not.")
    ] = "24h",
) -> None:
    """Makes another secret, shown this once; the old one signs beside it for a day."""
    keep_s = 0 if keep_old.strip() == "0" else duration_s("--keep-old", keep_old)
    made = await client.post(_path(webhook, "rotate"), {"keepOldSeconds": keep_s})
    output.item(made, _shown(made))
    output.note(_ONCE if made.get("secret") else _LOST)


@command(app, "pause", example="webhook pause 5c1f0a7e-…")
async def pause(client: Client, output: Output, webhook: _Id) -> None:
    """Delivers nothing for now; what happens meanwhile is delivered after `resume`."""
    found = await client.post(_path(webhook, "pause"), None)
    output.done(f"paused {webhook}", found)


@command(app, "resume", example="webhook resume 5c1f0a7e-…")
async def resume(client: Client, output: Output, webhook: _Id) -> None:
    """Goes on where deliveries stopped, and tries what fails at once; nothing is skipped."""
    found = await client.post(_path(webhook, "resume"), None)
    output.done(f"resumed {webhook}", found)


@command(app, "replay", example="webhook replay 5c1f0a7e-… --after 120")
async def replay(
    client: Client,
    output: Output,
    webhook: _Id,
    after: Annotated[int, typer.Option("--after", help="A position; 0: from the very beginning.")],
) -> None:
    """Delivers everything after a position again, under the same ids."""
    found = await client.post(_path(webhook, "replay"), {"after": after})
    output.done(f"replaying {webhook} after {after}", found)


@command(app, "test", example="webhook test 5c1f0a7e-…")
async def test(client: Client, output: Output, webhook: _Id) -> None:
    """Sends a signed ping, and tells what the endpoint answered; fails when it did not take it."""
    said = await client.post(_path(webhook, "test"), None)
    output.item(said, {**said, "milliseconds": f"{said['milliseconds']}"})
    if not said["delivered"]:
        raise typer.Exit(Exit.FAILED)


@command(app, "deliveries", example="webhook deliveries 5c1f0a7e-…")
async def deliveries(
    client: Client,
    output: Output,
    webhook: _Id,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
) -> None:
    """Lists the last attempts, newest first."""
    items = await client.pages(_path(webhook, "delivery"), limit=limit, apart=_attempt)
    rows = [
        (
            each["position"],
            each["attempt"],
            clock(each["at"]),
            each.get("status"),
            each.get("error") or "delivered",
            f"{each['milliseconds']} ms",
            clock(each.get("nextAttemptAt")),
            each.get("job"),
        )
        for each in items
    ]
    extra = (Column("NEXT ATTEMPT", extra=True), Column("JOB", whole=True, extra=True))
    output.items(items, ("POSITION", "ATTEMPT", "AT", "STATUS", "RESULT", "TOOK", *extra), rows)


def _attempt(of: Any) -> tuple[Any, ...]:
    """Which one it is: of a position that is delivered again the attempts are counted anew."""
    return of["position"], of["attempt"], of["at"]


def _path(webhook: str, *rest: str) -> str:
    return "/".join((f"/webhook/{segment(webhook)}", *rest))


def _checked(path: str, check: bool) -> str:
    return path if check else f"{path}?check=false"


def _filter(
    types: list[str] | None,
    states: list[str] | None,
    jobs: list[str] | None,
    label: str | None,
    description: str | None,
) -> dict[str, Any]:
    """What is given, as the API takes it."""
    found: dict[str, Any] = {
        "types": types,
        "states": None if not states else [each.upper() for each in states],
        "jobs": jobs,
    }
    given = {name: value for name, value in found.items() if value}
    texts = {"labelSelector": label, "description": description}
    return given | {name: value for name, value in texts.items() if value is not None}


def _asked(item: Any) -> str:
    """The filter in one line."""
    types = [each.removeprefix("jobyard.") for each in item["types"]]
    parts = [*types, *item["states"], *item["jobs"], item.get("labelSelector", "")]
    return " ".join(filter(None, parts)) or "all"


def _shown(item: Any) -> dict[str, Any]:
    status = item["status"]
    return {
        "id": item["id"],
        "url": item["url"],
        "description": item["description"],
        "filter": _asked(item),
        "state": status["state"],
        "why": status.get("message"),
        "since": clock(status.get("since")),
        "position": status["position"],
        "failing jobs": status.get("failingJobs"),
        "held after": status.get("heldAfter"),
        "next attempt": clock(status.get("nextAttemptAt")),
        "old secret until": clock(status.get("oldSecretUntil")),
        "secret": item.get("secret"),
        "created": clock(item["createdAt"]),
        "updated": clock(item["updatedAt"]),
    }
