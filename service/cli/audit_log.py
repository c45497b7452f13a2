"""`jobyard audit log` and `trace`: who did what, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from service.cli import complete
from service.cli.client import Client
from service.cli.command import command
from service.cli.moments import moment_of
from service.cli.output import Column, Output, cell, clock
from service.errors import NotFound

_PAGE = 500
_COLUMNS = (
    Column("POSITION", whole=True),
    Column("TIME", whole=True),
    Column("WHO", extra=True),
    Column("FROM", extra=True),
    Column("CAUSE", whole=True),
    Column("WHAT"),
)
All = Annotated[bool, typer.Option("--all", help="Of all projects, and of none.")]
Project = Annotated[str | None, typer.Option("--project", help="Another one than your own.")]


def register(app: typer.Typer) -> None:
    command(app, "log", example="audit log --job JOB --tree")(log)
    command(app, "trace", example="audit trace 17")(trace)


async def log(
    client: Client,
    output: Output,
    job: Annotated[
        str | None, typer.Option("--job", "-j", help="Only of this job.", autocompletion=complete.jobs)
    ] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Who, such as token:ID.")] = None,
    type: Annotated[
        list[str] | None, typer.Option("--type", help="Such as JobSubmitted; any of them.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="From this time or position on.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Up to this time or position.")] = None,
    request: Annotated[str | None, typer.Option("--request", help="Of this request.")] = None,
    identity: Annotated[str | None, typer.Option("--command", help="Of the command with this id.")] = None,
    project: Project = None,
    everything: All = False,
    after: Annotated[int | None, typer.Option("--after", help="Go on after this position.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many: the last ones.")] = 100,
    tree: Annotated[bool, typer.Option("--tree", help="From each request to its effects.")] = False,
) -> None:
    """Shows who did what, when, from where, and because of what."""
    params: dict[str, str | int | list[str] | None] = {
        "job": job,
        "actor": actor,
        "type": type or None,
        "from": None if since is None else moment_of("--from", since),
        "to": None if until is None else moment_of("--to", until),
        "requestId": request,
        "commandId": identity,
        "project": project,
        "projects": "all" if everything else None,
    }
    entries = await _entries(client, params, after, limit)
    if tree and entries:
        _show_trees(output, entries)
        return
    output.items(entries, _COLUMNS, [_row(each) for each in entries])
    if not entries:
        output.note("no event is like that")


async def trace(
    client: Client,
    output: Output,
    what: Annotated[str, typer.Argument(metavar="POSITION|REQUEST-ID")],
    project: Project = None,
    everything: All = False,
) -> None:
    """Shows all that came of a request; of an event, all that came of the request that it follows from."""
    of: dict[str, str | int | list[str] | None] = {
        "project": project,
        "projects": "all" if everything else None,
    }
    roots = await _roots(client, what, of)
    found = {each["position"]: each for each in roots}
    for job in sorted({each["job"] for each in roots if "job" in each}):
        for each in await _entries(client, of | {"job": job}, 0, None):
            if (each["cause"]["chain"] or [each["position"]])[0] in found:
                found[each["position"]] = each
    _show_trees(output, [found[position] for position in sorted(found)])


async def _roots(client: Client, what: str, of: dict[str, Any]) -> list[Any]:
    """The events that a request began with."""
    if not (what.isascii() and what.isdecimal()):
        found = await _entries(client, of | {"requestId": what}, 0, None)
        if not found and _is_id(what):
            found = await _entries(client, of | {"commandId": what}, 0, None)
        if not found:
            raise NotFound(f"there is no event of a request {what!r}")
        return [each for each in found if each["cause"]["position"] is None]
    entry = await _at(client, int(what), of)
    if entry["cause"]["chain"]:
        entry = await _at(client, entry["cause"]["chain"][0], of)
    same = await _entries(client, of | {"commandId": entry["commandId"]}, 0, None)
    return [each for each in same if each["cause"]["position"] is None]


async def _at(client: Client, position: int, of: dict[str, Any]) -> Any:
    found = await client.get("/audit", **of | {"from": str(position), "to": str(position)})
    if not found["items"]:
        raise NotFound(f"there is no event {position} that you may see")
    return found["items"][0]


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


async def _entries(client: Client, params: dict[str, Any], after: int | None, limit: int | None) -> list[Any]:
    """All after a position; or the last ones, in order, when no position is given."""
    down = after is None
    found: list[Any] = []
    while limit is None or len(found) < limit:
        size = _PAGE if limit is None else min(_PAGE, limit - len(found))
        page = await client.get("/audit", **params, after=after, size=size, order="desc" if down else "asc")
        found += page["items"]
        if "next" not in page["metadata"]["links"]:
            break
        after = page["items"][-1]["position"]
    return found[::-1] if down else found


def _row(entry: Any) -> tuple[Any, ...]:
    return (
        entry["position"],
        clock(entry["recordedAt"]),
        _who(entry),
        entry.get("clientAddress"),
        entry["cause"]["position"],
        entry["what"],
    )


def _who(entry: Any) -> str:
    name = entry.get("tokenName")
    return str(entry["actor"]) if name is None else f"{name} ({entry['actor']})"


# -- trees ------------------------------------------------------------------------------------------


def _show_trees(output: Output, entries: list[Any]) -> None:
    trees = _trees(entries)
    if output.format is not None:
        output.item(trees)
        return
    for tree in trees:
        where = f" from {tree['clientAddress']}" if tree["clientAddress"] else ""
        said = f"request {tree['requestId']}" if tree["requestId"] else f"command {tree['commandId']}"
        output.out.print(Text.assemble((said, "bold"), f" by {tree['who']}{where}"))
        for line in _lines(tree["effects"], ""):
            output.out.print(cell(line))


def _trees(entries: list[Any]) -> list[dict[str, Any]]:
    """One for each request, or command without one, that something here began with."""
    nodes = {
        each["position"]: {
            "position": each["position"],
            "recordedAt": each["recordedAt"],
            "type": each["type"],
            "what": each["what"],
            "actor": each["actor"],
            "effects": [],
        }
        for each in entries
    }
    trees: dict[str, dict[str, Any]] = {}
    for each in entries:
        node, cause = nodes[each["position"]], each["cause"]["position"]
        if cause in nodes:
            nodes[cause]["effects"].append(node)
            continue
        made = {
            "requestId": each.get("requestId"),
            "commandId": each["commandId"],
            "who": _who(each),
            "clientAddress": each.get("clientAddress"),
            "effects": [],
        }
        trees.setdefault(each["commandId"], made)["effects"].append(node)
    return list(trees.values())


def _lines(nodes: list[Any], before: str) -> Iterable[str]:
    for node in nodes:
        last = node is nodes[-1]
        at = clock(node["recordedAt"])
        yield f"{before}{'└─' if last else '├─'} {node['position']} {at} {node['what']}"
        yield from _lines(node["effects"], before + ("   " if last else "│  "))
