"""`python3 -m service bench`: measure against the bare limit of the parts underneath, in the same run."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli import exits
from service.errors import JobyardError, Misconfigured
from service.local.check import TERMINATED, run, variables
from service.local.environment import clone_around
from service.local.throwaway import throwaway_parts


def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Which; all when none is named.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list as the last line.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Smaller amounts: no figures to quote.")] = False,
) -> None:
    """Measure speed as a ratio to the bare limit: these are the figures worth comparing."""
    try:
        code = asyncio.run(_bench([*(names or []), *_flags(as_json=as_json, quick=quick)]))
    except JobyardError as error:
        print(f"jobyard: {error.message}", file=sys.stderr)
        raise typer.Exit(exits.of_error(error)) from None
    except KeyboardInterrupt:
        raise typer.Exit(exits.Exit.INTERRUPTED) from None
    except asyncio.CancelledError:
        raise typer.Exit(TERMINATED) from None
    raise typer.Exit(code)


def _flags(**given: bool) -> list[str]:
    names = {"as_json": "--json", "quick": "--quick"}
    return [names[name] for name, on in given.items() if on]


async def _bench(arguments: list[str]) -> int:
    clone = clone_around(Path(__file__).parents[1])
    if clone is None:
        raise Misconfigured("the benchmarks are in the repository: run this from a clone")
    async with throwaway_parts(say=lambda text: print(text, file=sys.stderr, flush=True)) as parts:
        command = [sys.executable, "-m", "tests.bench", *arguments]
        return await run(command, clone.root, variables(parts))  # over before its parts are stopped
