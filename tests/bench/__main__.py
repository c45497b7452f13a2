"""`python -m tests.bench [NAME …] [--json] [--quick]`: `python3 -m service bench` starts the parts first."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import msgspec
import uvloop

from service.memory import collect_seldom
from service.telemetry import set_up_logging
from tests.bench import containers, data, history, ledger, lists, logs, memory, requests, restart, websockets
from tests.bench.measure import QUICK, Figure, Measure

#: Each tells what it found as soon as it has it: at full size they take minutes.
BENCHES: dict[str, Callable[[], AsyncGenerator[Measure | Figure, None]]] = {
    "ledger": ledger.bench,
    "requests": requests.bench,
    "history": history.bench,
    "lists": lists.bench,
    "restart": restart.bench,
    "websockets": websockets.bench,
    "memory": memory.bench,
    "data": data.bench,
    "logs": logs.bench,
    "containers": containers.bench,
}


async def _run(names: list[str], *, as_json: bool) -> None:
    found: list[Measure | Figure] = []
    for name in names or list(BENCHES):
        async with aclosing(BENCHES[name]()) as measures:
            async for measure in measures:
                found.append(measure)
                print(measure.line(), file=sys.stderr if as_json else sys.stdout, flush=True)
    if as_json:
        print(msgspec.json.encode(found).decode())


def main() -> None:
    arguments = sys.argv[1:]
    names = [argument for argument in arguments if argument not in ("--json", "--quick")]
    if "--quick" in arguments:
        os.environ[QUICK] = "1"
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.exit(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    set_up_logging("warning")  # the figures alone are worth reading
    collect_seldom()  # as the service does
    uvloop.run(_run(names, as_json="--json" in arguments))


if __name__ == "__main__":
    main()
