"""Runs that have been billed, and ways to ask for their bills."""

from __future__ import annotations

from typing import Any

from tests.api.yard import ADMIN, OPERATOR, READER, Supervision, Yard

LINE = {"minutes": 1, "amount": "0.000500", "currency": "EUR", "hourlyPrice": "0.03", "units": 1}


async def ran(yard: Yard, supervision: Supervision, **changed: Any) -> str:
    """A job that has ended; its id."""
    job: str = (await yard.submit(**changed))["id"]
    await supervision.running(job)
    await supervision.ended(job)
    return job


async def statement(yard: Yard, query: str = "", token: str = OPERATOR) -> Any:
    answer = await yard.call("GET", f"/v1/billing/statement{query}", token=token)
    assert answer.status == 200, answer.raw
    return answer.json


async def replay(yard: Yard, token: str = READER, **asked: Any) -> Any:
    answer = await yard.call("POST", "/v1/billing/replay", asked, token=token)
    assert answer.status == 200, answer.raw
    return answer.json


async def order(yard: Yard, what: str, **asked: Any) -> Any:
    answer = await yard.call("POST", f"/v1/{what}", {"reason": "so it is"} | asked, token=ADMIN)
    assert answer.status == 200, answer.raw
    return answer.json
