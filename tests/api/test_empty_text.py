"""An empty text where something is named is refused: taken for nothing, it would widen what was asked."""

from __future__ import annotations

from typing import Any

from tests.api.yard import ADMIN, Yard

HOOK = {"url": "https://hook.invalid/x"}

#: A request, the status of its refusal, and the field that it names.
EMPTY: list[tuple[str, str, dict[str, Any] | None, int, str | None]] = [
    ("POST", "/v1/billing/credit", {"amount": "0.000001", "reason": "x", "job": "", "run": 1}, 400, "job"),
    ("POST", "/v1/billing/correction", {"amount": "1", "reason": "x", "job": "", "run": 1}, 400, "job"),
    ("POST", "/v1/billing/replay", {"from": ""}, 400, "from"),
    ("POST", "/v1/billing/replay", {"to": ""}, 400, "to"),
    ("POST", "/v1/billing/replay", {"project": ""}, 404, None),
    ("POST", "/v1/billing/credit", {"amount": "1", "reason": "x", "currency": ""}, 400, "currency"),
    ("PUT", "/v1/project/other/budget", {"amount": "1", "currency": ""}, 400, "currency"),
    ("PUT", "/v1/project/other/budget", {"amount": None, "currency": ""}, 400, "currency"),
    ("POST", "/v1/prices", {"prices": {"ai1-1-cpu": "1"}, "currency": ""}, 400, "currency"),
    ("GET", "/v1/prices?flavor=", None, 400, "flavor"),
    ("POST", "/v1/job/estimate", {"image": "x", "resources": {"flavor": ""}}, 400, "resources.flavor"),
    ("POST", "/v1/job", {"image": "x", "resources": {"flavor": ""}}, 400, "resources.flavor"),
    ("GET", "/v1/billing/statement?project=", None, 404, None),
    ("GET", "/v1/billing/statement?month=", None, 400, "month"),
    ("GET", "/v1/billing?job=", None, 400, "job"),
    ("GET", "/v1/events?job=", None, 400, "job"),
    ("GET", "/v1/events?type=", None, 400, "type"),
    ("GET", "/v1/events?state=", None, 400, "state"),
    ("GET", "/v1/audit?job=", None, 400, "job"),
    ("GET", "/v1/audit?type=", None, 400, "type"),
    ("GET", "/v1/audit?project=", None, 400, "project"),
    ("POST", "/v1/webhook?check=false", HOOK | {"jobs": [""]}, 400, "jobs[0]"),
    ("POST", "/v1/webhook?check=false", HOOK | {"types": [""]}, 400, "types[0]"),
    ("POST", "/v1/webhook?check=false", HOOK | {"states": [""]}, 400, "states[0]"),
    ("POST", "/v1/token", {"name": "x", "role": ADMIN, "labelSelector": ""}, 400, "labelSelector"),
]


async def test_an_empty_text_is_never_taken_for_nothing(yard: Yard) -> None:
    before = await yard.head()
    for method, path, body, status, field in EMPTY:
        answer = await yard.call(method, path, body, token=ADMIN)
        assert (answer.status, answer.json.get("field")) == (status, field), (path, body, answer.raw)
    assert await yard.head() == before
