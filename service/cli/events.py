"""`jobyard events`: what happened and what happens, as lines or as CloudEvents.

Following goes over a websocket: see `service/api/events`. Whenever it breaks off it goes on after the last
position, so that nothing is shown twice and nothing left out.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import aiohttp
import typer
import yaml
from rich.text import Text

from service.cli.client import Client
from service.cli.command import command
from service.cli.output import Format, Output, cell, clock, reader_left
from service.errors import Rejected, Unauthenticated, Unavailable

PROTOCOL = "cloudevents.json"
PAGE = 1000
#: The service is never silent for longer: it says how far it has looked.
SILENCE_S = 60.0
#: Before each further attempt to connect, twice as long up to the second; and less by chance, so that a crowd
#: of clients does not come back at once.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 8.0
_HELLO, _HEARTBEAT = "jobyard.hello", "jobyard.heartbeat"
_TOKEN_ENDED = 4401
_WORDS = {1012: "the service restarts", 4408: "this side took too little for too long"}


def register(app: typer.Typer) -> None:
    command(app, "events", example="events --follow -s FAILED -s ERROR -o json")(events)


async def events(
    client: Client,
    output: Output,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens.")] = False,
    after: Annotated[
        str | None,
        typer.Option(
            "--after",
            metavar="POSITION",
            help="Only what follows it; 0: all; now. Default: 0, with --follow now.",
        ),
    ] = None,
    job: Annotated[
        list[str] | None, typer.Option("--job", metavar="ID", help="Only of this job; repeat.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--type", metavar="TYPE", help="Only of this type; repeat for more.")
    ] = None,
    states: Annotated[
        list[str] | None,
        typer.Option("--states", "-s", metavar="STATE", help="Only jobs that come into it; repeat."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", "-l", metavar="SELECTOR", help="Only of jobs whose labels were such then."),
    ] = None,
) -> None:
    """Shows what happened in the project, in order.

    That is what there is, or with --follow what comes; with --follow and --after both. With -o json a
    CloudEvents document is on each line.
    """
    asked = [("job", each) for each in job or ()] + [("type", each) for each in kind or ()]
    asked += [("state", each.upper()) for each in states or ()]
    asked += [] if label is None else [("labelSelector", label)]
    if follow:
        await _Following(client, output, asked, after or "now").run()
    else:
        await _past(client, output, asked, after or "0")


async def _past(client: Client, output: Output, asked: list[tuple[str, str]], after: str) -> None:
    """Page after page, to where the ledger ended when the last one was read."""
    params: dict[str, Any] = {}
    for name, value in asked:
        params.setdefault(name, []).append(value)
    while True:
        page = await client.get("/events", after=after, limit=PAGE, **params)
        for event in page["items"]:
            show(output, event)
        if page["position"] >= page["head"]:
            return
        after = str(page["position"])


class _Following:
    """A stream that is taken up again wherever it broke off."""

    def __init__(self, client: Client, output: Output, asked: list[tuple[str, str]], after: str) -> None:
        self._client = client
        self._output = output
        self._asked = asked
        self._after = after
        self._ledger: tuple[str, int] | None = None
        self._pauses = _pauses()

    async def run(self) -> None:
        """Until it is interrupted, the service refuses, or nobody reads any more."""
        told = ""
        while True:
            try:
                why = await self._once()
            except Unavailable as error:
                if self._ledger is None:
                    raise
                why = error.message
            note = f"{why}; going on after position {self._after}"
            if note != told:
                self._output.note(note)
            told = note
            await asyncio.sleep(next(self._pauses))

    async def _once(self) -> str:
        """One connection; why it ended."""
        params = [*self._asked, ("after", self._after)]
        try:
            async with self._client.socket("/events", params, PROTOCOL) as socket:
                while True:
                    async with asyncio.timeout(SILENCE_S):
                        message = await socket.receive()
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        return self._ended(socket.close_code)
                    self._take(json.loads(message.data))
        except TimeoutError:
            return "the service has said nothing for a minute"

    def _take(self, frame: Any) -> None:
        if frame["type"] != _HELLO:
            self._pauses = _pauses()  # a greeting is no sign yet that it goes well
        if frame["type"] not in (_HELLO, _HEARTBEAT):
            show(self._output, frame)
            self._after = frame["id"]
            return
        told = frame["data"]
        self._after = str(told["position"])
        ledger = (told["ledgerId"], told["epoch"])
        if self._ledger not in (None, ledger):
            raise Rejected(
                "the ledger was restored from a backup, or is another one: what was shown may not be in it; "
                "begin again, with --after 0 or --after now"
            )
        self._ledger = ledger
        if reader_left(sys.stdout):
            raise BrokenPipeError

    @staticmethod
    def _ended(code: int | None) -> str:
        if code == _TOKEN_ENDED:
            raise Unauthenticated("the token was revoked or renewed; the stream has ended")
        return _WORDS.get(code or 0, "the connection broke off")


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 (no secret)
        pause = min(LONGEST_PAUSE_S, 2 * pause)


def show(output: Output, event: Any) -> None:
    """One event: as a line of JSON, as a document of YAML, or as a line for people."""
    if output.format is Format.JSON:
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n"
    elif output.format is Format.YAML:
        text = "---\n" + yaml.safe_dump(event, sort_keys=False, allow_unicode=True)
    else:
        output.out.print(_line(event))
        return
    sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
    sys.stdout.flush()


def _line(event: Any) -> Text:
    kind = event["type"].removeprefix("jobyard.")
    return Text.assemble(
        (clock(event["time"]), "dim"),
        f"  {event['id']:>6}  ",
        (f"{kind:<18}", "bold"),
        f"  {event.get('job', '-'):<36}  ",
        in_short(kind, event["data"]),
        (f"  {event['actor']}", "dim"),
    )


def in_short(kind: str, data: Any) -> Text:
    """In short: the state that a job came into, and why; a label's new value; what was spent; a name."""
    info = data.get("info", {}).get("message", "")
    if "target" in data:
        return Text(" ").join([cell(data["target"]), *([cell(info)] if info else [])])
    if info:
        return cell(info)
    if kind == "BudgetWarned":
        spent = f"{data['spent']} of {data['limit']} {data['currency']}"
        return cell(f"{data['share']} of the budget of {data['period']} is reached: {spent} were spent")
    if kind == "LabelSet":
        return cell(f"{data['name']}={data['value']}" if "value" in data else f"{data['name']}-")
    return cell(next((data[each] for each in ("name", "alias", "state", "direction") if each in data), ""))
