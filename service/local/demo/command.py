"""`python3 -m service demo`."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from service.cli import exits, output
from service.cli.values import state_dir
from service.cli.where import STATE_DIR, read_up
from service.config import read_settings
from service.errors import JobyardError
from service.local import stopping
from service.local.demo import service
from service.local.demo.run import ALIAS, MODELS, Demo

OUT = "demo-out"


def demo(
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, the rest on stderr.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option("--state", metavar="DIR", help="State directory.", parser=state_dir)
    ] = None,
) -> None:
    """Trains a model on real data, in a job, and shows what becomes of it. Exit status 0: all is right."""
    try:
        folder = read_settings(os.environ, state_dir=state).state_dir
        found, wrong = asyncio.run(_run(folder, output.console(stderr=as_json), as_json=as_json))
    except JobyardError as error:
        print(f"jobyard: {error.message}", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": error.message}), flush=True)
        raise typer.Exit(exits.of_error(error)) from None
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(exits.Exit.INTERRUPTED) from None
    if as_json:
        print(json.dumps(found), flush=True)
    raise typer.Exit(exits.Exit.FAILED if wrong else exits.Exit.DONE)


async def _run(state: Path, notes: Console, *, as_json: bool) -> tuple[dict[str, Any], list[str]]:
    def say(text: str) -> None:
        notes.print(Text(f"   {text}", "dim"))

    notes.print(Text("Jobyard: a real training, from data to bill", "bold"))
    log = sys.stderr.buffer if as_json else sys.stdout.buffer
    goes_on = read_up(state) is not None
    with stopping.cancelling():
        async with service.running(state, say) as up:
            one = Demo(up, state / OUT, notes, log)
            found = await one.run()
            _farewell(notes, state, found, one.wrong, goes_on=goes_on)
    return found, one.wrong


def _farewell(notes: Console, state: Path, found: dict[str, Any], wrong: list[str], *, goes_on: bool) -> None:
    """`goes_on`: there is a service that goes on when the demo is over."""
    notes.print()
    if wrong:
        notes.print(Text(f"Not right: {'; '.join(wrong)}", "bold red"))
        return
    first = "" if goes_on else " (`up` first, in another terminal)"
    notes.print(Text(f"All of it is right. Try next{first}:", "bold green"))
    program = "jobyard" if shutil.which("jobyard") else "python3 -m service"
    where = "" if state == Path(STATE_DIR).absolute() else f" --state {shlex.quote(str(state))}"
    for words in (
        *(() if goes_on else ("up",)),
        f"job get {found['jobId']}",
        f"job logs {found['jobId']}",
        f"job run --watch --from {found['jobId']}",
        f"bucket object list {MODELS}@{ALIAS}",
        f"billing --job {found['jobId']} --policy 2026-01",
        "audit verify",
    ):
        notes.print(Text(f"   {program} {words}{where}"))
