"""What `jobyard billing` shows of a run that was credited or corrected."""

from __future__ import annotations

from typing import Any

import pytest

from service.cli import billing
from service.cli.client import Client
from service.cli.output import Output
from service.cli.where import Where

RUN = {
    **{"job": "j", "run": 1, "flavor": "ai1-1-cpu", "units": 2, "hourlyPrice": "0.03", "minutes": 2},
    **{"original": "0.002000", "amount": "0.002000", "currency": "EUR", "credited": False, "adjustments": []},
    **{"policy": "2021-05"},
}
CORRECTION, CREDIT = {"kind": "correction"}, {"kind": "credit"}


class _Bill(Client):
    def __init__(self, *runs: Any) -> None:
        super().__init__(Where("http://127.0.0.1:9", "x"))
        self.bill = {"items": runs, "total": "0.002000", "currency": "EUR"}

    async def get(self, path: str, **params: object) -> Any:
        return self.bill


async def shown(capsys: pytest.CaptureFixture[str], *runs: dict[str, Any]) -> list[list[str]]:
    """The words of each line."""
    async with _Bill(*(RUN | run for run in runs)) as client:
        await billing.billing(client, Output(None, colors=False))
    return [line.split() for line in capsys.readouterr().out.splitlines()]


async def test_the_line_stays_and_what_it_comes_to_stands_beside_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = await shown(
        capsys,
        {},
        {"amount": "0.001000", "adjustments": [CORRECTION]},
        {"amount": "0.000500", "adjustments": [CORRECTION, CREDIT, CORRECTION]},
        {"amount": "0.000000", "adjustments": [CREDIT], "credited": True},
        {"original": "0.000000", "amount": "0.000000", "credited": True},
    )
    assert [" ".join(line[5:-1]) for line in lines[1:-1]] == [
        "2 0.002000 EUR",
        "2 0.002000 EUR 0.001000 EUR corrected",
        "2 0.002000 EUR 0.000500 EUR corrected, credited",
        "2 0.002000 EUR 0.000000 EUR credited",
        "2 0.000000 EUR credited",
    ]
    assert lines[0][5:] == ["MINUTES", "AMOUNT", "NET", "POLICY"]
