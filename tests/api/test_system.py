"""What tells about the service, and what every answer has."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from service.api.routes import ROUTES
from tests.api.yard import ADMIN, READER, SPEC, Yard


async def test_the_document_names_every_route_and_all_it_refers_to(yard: Yard) -> None:
    document = (await yard.call("GET", "/v1/openapi.json", token=None)).json
    assert document["openapi"].startswith("3.1")
    operations = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    assert operations == {(r.method, re.sub(r":[^}]*", "", r.path)) for r in ROUTES}
    schemas = document["components"]["schemas"]
    references = set(re.findall(r'"\$ref":\s*"([^"]*)"', json.dumps(document)))
    assert references <= {f"#/components/schemas/{name}" for name in schemas}
    ids = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]
    assert len(ids) == len(set(ids))
    for path, methods in document["paths"].items():
        for operation in methods.values():
            named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", path))
            assert operation["summary"]
            assert all(re.fullmatch(r"[1-5]\d\d", status) for status in operation["responses"])
    assert {"image", "envVars", "volumes"} <= set(schemas["JobSpecAsked"]["properties"])
    parameters = {each["name"]: each for each in document["paths"]["/v1/job"]["get"]["parameters"]}
    assert parameters["size"]["schema"]["maximum"] == 500
    assert "statusState" in parameters


async def test_the_page_needs_nothing_from_elsewhere(yard: Yard) -> None:
    answer = await yard.call("GET", "/docs", token=None)
    page = answer.raw.decode()
    assert answer.headers["Content-Type"].startswith("text/html")
    assert not re.findall(r"(?:https?:)?//[a-z]", page)
    assert not re.findall(r"\s(?:src|href)=", page)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert policy.count("sha256-") == 2


async def test_health_is_told_without_a_token(yard: Yard) -> None:
    assert (await yard.call("GET", "/healthz", token=None)).json == {"status": "alive"}


@pytest.mark.parametrize("accept", ["*/*", "text/html,application/json;q=0.5", ""])
async def test_the_root_leads_people_to_the_pages(yard: Yard, accept: str) -> None:
    headers = {"Accept": accept}
    answer = await yard.call("GET", "/", token=None, headers=headers, allow_redirects=False)
    assert (answer.status, answer.headers["Location"], answer.raw) == (302, "/docs", b"")
    followed = await yard.call("GET", "/", token=None, headers=headers)
    assert (followed.status, followed.raw[:15]) == (200, b"<!doctype html>")


async def test_the_root_tells_programs_where_things_are(yard: Yard) -> None:
    answer = await yard.call("GET", "/", token=None, headers={"Accept": "application/json"})
    assert (answer.status, answer.headers["Vary"]) == (200, "Accept")
    links = answer.json
    assert links.pop("api") == "/v1"
    assert set(links) == {"docs", "openapi", "health", "readiness"}
    for path in links.values():
        assert (await yard.call("GET", path, token=None)).status in (200, 503)


async def test_metrics_count_what_was_done(yard: Yard) -> None:
    await yard.submit()
    await yard.call("GET", "/v1/nowhere")
    await yard.call("PROPFIND", "/v1/job")
    text = (await yard.call("GET", "/metrics", token=READER)).raw.decode()
    assert 'jobyard_api_requests_total{method="POST",route="/v1/job",status="200"} 1.0' in text
    assert 'jobyard_api_requests_total{method="GET",route="unknown",status="404"} 1.0' in text
    assert 'method="OTHER"' in text
    assert "jobyard_api_appended_events_total 1.0" in text
    assert f"jobyard_ledger_head_position {float(await yard.head())}" in text
    (tasks,) = [line for line in text.splitlines() if line.startswith("jobyard_tasks ")]
    assert float(tasks.split()[1]) >= 1


UNKNOWN_ROUTES = ("//", "/v1", "/v1/jobs", "/v1/job/a/b/c", "/v2/job", "/docs/", "/v1/notebook")


async def test_an_unknown_route_is_not_there(yard: Yard) -> None:
    for path in UNKNOWN_ROUTES:
        answer = await yard.call("GET", path, token=None)
        assert (answer.status, answer.json["code"]) == (404, "not-found")
        assert answer.json["requestId"] == answer.headers["X-Request-Id"]


async def test_a_wrong_method_tells_the_right_ones(yard: Yard) -> None:
    answer = await yard.call("PATCH", "/v1/job", SPEC)
    assert (answer.status, answer.json["code"]) == (405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    options = await yard.call("OPTIONS", "/v1/job", token=None)
    assert (options.status, options.headers["Allow"]) == (204, "GET, HEAD, OPTIONS, POST")


async def test_head_is_get_without_the_body(yard: Yard) -> None:
    job = await yard.submit()
    for path in (f"/v1/job/{job['id']}", "/v1/job", "/healthz", "/docs"):
        get, head = await yard.call("GET", path), await yard.call("HEAD", path)
        assert (head.status, head.raw) == (200, b"")
        assert head.headers["Content-Length"] == str(len(get.raw))


REQUEST_IDS: list[tuple[str, bool]] = [
        ("abc-123.x:y", True),
        ("x" * 64, True),
        ("x" * 65, False),
        ("a b", False),
        ("<script>", False),
        ("", False),
    ]  # fmt: skip


async def test_a_request_id_is_kept_if_it_is_one(yard: Yard) -> None:
    for given, kept in REQUEST_IDS:
        answer = await yard.call("GET", "/v1/me", headers={"X-Request-Id": given})
        assert (answer.headers["X-Request-Id"] == given) is kept
        assert re.fullmatch(r"[A-Za-z0-9._:-]+", answer.headers["X-Request-Id"])


async def test_a_request_id_stands_in_the_ledger(yard: Yard) -> None:
    answer = await yard.call("POST", "/v1/job", SPEC, headers={"X-Request-Id": "trace-1"})
    assert answer.status == 200
    events = await yard.ledger.events(await yard.head() - 1)
    assert [event.request_id for event in events] == ["trace-1"]


PATHS: list[str] = ["/v1/job", "/v1/nowhere", "/docs", "/healthz"]  # fmt: skip


async def test_every_answer_has_the_headers_that_protect(yard: Yard) -> None:
    for path in PATHS:
        headers = (await yard.call("GET", path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"
        assert "aiohttp" not in headers["Server"].lower()


@pytest.mark.fails_inside
async def test_our_own_failure_says_nothing_but_its_id(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("service.ledger.ledger.Ledger.quota", broken)
    answer = await yard.call("GET", "/v1/quota")
    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert b"secret detail" not in answer.raw
    assert answer.json["requestId"] in answer.json["message"]


async def test_a_ledger_out_of_reach_is_said_to_be_unavailable(yard: Yard) -> None:
    await yard.ledger.pool.close()
    for path, token in (("/readyz", None), ("/v1/me", "unseen"), ("/v1/job", ADMIN)):
        answer = await yard.call("GET", path, token=token)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert (await yard.call("GET", "/healthz", token=None)).status == 200
