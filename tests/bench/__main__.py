"""`python -m tests.bench [NAME …] [--json]`: see `python3 -m service bench`, which starts the parts first."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import msgspec
import uvloop

from service.telemetry import set_up_logging
from tests.bench import data, ledger, submit
from tests.bench.measure import Measure

BENCHES: dict[str, Callable[[], Awaitable[list[Measure]]]] = {
    "ledger": ledger.bench,
    "submit": submit.bench,
    "data": data.bench,
}


async def _run(names: list[str], *, as_json: bool) -> None:
    found: list[Measure] = []
    for name in names or list(BENCHES):
        for measure in await BENCHES[name]():
            found.append(measure)
            print(measure.line(), file=sys.stderr if as_json else sys.stdout, flush=True)
    if as_json:
        print(msgspec.json.encode(found).decode())


def main() -> None:
    arguments = sys.argv[1:]
    names = [argument for argument in arguments if argument != "--json"]
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.exit(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    set_up_logging("warning")  # the figures alone are worth reading
    uvloop.run(_run(names, as_json="--json" in arguments))


if __name__ == "__main__":
    main()
