"""Who may do what: roles, label selectors, revoked tokens."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from service.api.auth import sha256_of
from service.api.call import SERVICE
from service.api.routes import ROUTES
from service.api.scope import Level
from service.errors import Misconfigured
from tests.api.yard import ADMIN, DEADLINE_S, OPERATOR, READER, SPEC, Answer, Yard
from tests.support.waiting import until

#: What the table of routes must say: a new route has to be put here too.
READS = {
    "GET /v1/events",
    "GET /v1/job", "POST /v1/job/command", "GET /v1/job/{id}", "GET /v1/job/{id}/log", "GET /v1/me",
    "GET /v1/quota", "GET /v1/volume", "GET /v1/volume/{id}",
    "GET /v1/capabilities/flavor", "GET /v1/capabilities/flavor/{id}",
    "GET /v1/capabilities/job/image", "GET /v1/capabilities/preset", "GET /v1/capabilities/preset/{id}",
    "GET /v1/capabilities/quota", "GET /v1/billing", "GET /v1/datastore", "GET /v1/datastore/{alias}",
    "GET /v1/datastore/{alias}/container", "GET /v1/datastore/{alias}/container/{container}/object",
    "GET /v1/datastore/{alias}/container/{container}/object/{key:(?s:.*)}", "GET /metrics",
    "GET /v1/registry", "GET /v1/registry/{id}",
    "GET /v1/job/{id}/diff", "GET /v1/job/{id}/why", "POST /v1/whatif",
    "POST /v1/job/estimate", "GET /v1/billing/statement", "POST /v1/billing/replay",
    "GET /v1/billing/explain/{job}/{run}", "GET /v1/billing/export", "GET /v1/prices", "GET /v1/budget",
    "GET /v1/audit/key", "GET /v1/audit/checkpoint",
}  # fmt: skip
OPERATES = {
    "PUT /v1/job/{id}", "PUT /v1/job/{id}/label", "GET /v1/job/{id}/exec",
    "POST /v1/job", "DELETE /v1/job/{id}", "PUT /v1/job/{id}/kill", "PUT /v1/job/{id}/start",
    "PUT /v1/datastore/{alias}/container/{container}",
    "POST /v1/job/{id}/datasync", "DELETE /v1/job/{id}/key",
    "PUT /v1/datastore/{alias}/container/{container}/object/{key:(?s:.*)}",
    "DELETE /v1/datastore/{alias}/container/{container}/object/{key:(?s:.*)}",
}  # fmt: skip
#: What all jobs of a project share: no token with a label selector changes it.
PROVIDES = {
    "POST /v1/volume", "DELETE /v1/volume/{id}", "POST /v1/datastore", "PUT /v1/datastore/{alias}",
    "DELETE /v1/datastore/{alias}", "POST /v1/registry", "PUT /v1/registry/{id}", "DELETE /v1/registry/{id}",
}  # fmt: skip
ADMINISTERS = {
    "GET /v1/token", "POST /v1/token", "GET /v1/token/{id}", "DELETE /v1/token/{id}",
    "POST /v1/token/{id}/renew", "GET /v1/job/{id}/incident", "GET /v1/audit", "GET /v1/audit/export",
    "GET /v1/audit/proof/{position}",
}  # fmt: skip
OVERSEES = {
    "GET /v1/project", "POST /v1/project", "GET /v1/project/{id}", "PUT /v1/project/{id}/quota",
    "GET /v1/project/{id}/budget", "PUT /v1/project/{id}/budget", "DELETE /v1/project/{id}/key",
    "POST /v1/prices", "POST /v1/billing/credit", "POST /v1/billing/correction",
}  # fmt: skip
#: What concerns all jobs of a project: no token with a label selector has to do with it.
WHOLE = {
    "GET /v1/webhook", "POST /v1/webhook", "GET /v1/webhook/{id}", "PUT /v1/webhook/{id}",
    "DELETE /v1/webhook/{id}", "POST /v1/webhook/{id}/rotate", "POST /v1/webhook/{id}/pause",
    "POST /v1/webhook/{id}/resume", "POST /v1/webhook/{id}/replay", "POST /v1/webhook/{id}/test",
    "GET /v1/webhook/{id}/delivery",
}  # fmt: skip
PUBLIC = {
    "GET /v1/openapi.json",
    "GET /v1/asyncapi.json",
    "GET /",
    "GET /docs",
    "GET /healthz",
    "GET /readyz",
}


def _needed(name: str) -> Level:
    groups = zip((PUBLIC, READS, OPERATES, PROVIDES, ADMINISTERS, WHOLE, OVERSEES), Level, strict=True)
    return next(level for group, level in groups if name in group)


@pytest.mark.parametrize(
    ("who", "level"),
    [(None, Level.PUBLIC), (READER, Level.READ), (OPERATOR, Level.PROVIDE), ("other", Level.WHOLE),
     ("scoped", Level.ADMINISTER), ("scoped-operator", Level.OPERATE), (ADMIN, Level.OVERSEE)],
)  # fmt: skip
async def test_each_role_reaches_its_routes_and_no_others(yard: Yard, who: str | None, level: Level) -> None:
    await yard.token("scoped", ADMIN, selector="team=a")
    await yard.token("scoped-operator", OPERATOR, selector="team=a")
    scoped = who is not None and who.startswith("scoped")
    before = await yard.head()
    for route in ROUTES:
        path = route.path.replace("{key:(?s:.*)}", "k").format(
            id=uuid4(), job=uuid4(), run=1, position=1, alias="none", container="abc"
        )
        body: dict[str, str] | None = {} if route.takes else None
        answer = await yard.call(route.method, path, body, token=who, allow_redirects=False)
        needed = _needed(f"{route.method} {route.path}")
        barred = 401 if who is None else 403
        beyond = needed > level or (scoped and (needed is Level.PROVIDE or path == "/v1/budget"))
        assert (answer.status == barred) == beyond, (route, answer.raw)
        # Nobody supervises here, and so nobody has signed a checkpoint yet.
        assert answer.status < 500 or path == "/readyz" or path.startswith("/v1/audit/")
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="jobyard"'
    assert await yard.head() == before


BAD_HEADERS: list[str | None] = [
     None, "", "Bearer", "Bearer ", "Basic eDp5", "Bearer wrong", "Bearer a b", "Bearer " + "x" * 600,
     "Bearer \xff", "Token {value}", "{value}"]  # fmt: skip


async def test_only_a_bearer_token_lets_in(yard: Yard) -> None:
    for header in BAD_HEADERS:
        value = yard.tokens[ADMIN]
        headers = {} if header is None else {"Authorization": header.format(value=value)}
        answer = await yard.call("GET", "/v1/me", token=None, headers=headers)
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
        assert value not in answer.raw.decode()


async def test_a_token_in_the_query_is_no_token(yard: Yard) -> None:
    value = yard.tokens[ADMIN]
    for name in ("token", "access_token", "authorization"):
        assert (await yard.call("GET", f"/v1/me?{name}={value}", token=None)).status == 401


async def test_the_scheme_may_be_written_in_any_case(yard: Yard) -> None:
    headers = {"Authorization": f"bearer {yard.tokens[READER]}"}
    assert (await yard.call("GET", "/v1/me", token=None, headers=headers)).status == 200


async def test_two_tokens_are_none(yard: Yard) -> None:
    pairs = [("Authorization", f"Bearer {yard.tokens[name]}") for name in (ADMIN, READER)]
    async with yard.http.get(f"{yard.url}/v1/me", headers=pairs) as answer:
        assert answer.status == 401


async def test_a_tokens_value_is_shown_once_and_kept_nowhere(yard: Yard) -> None:
    made = await yard.call("POST", "/v1/token", {"name": "ci", "role": OPERATOR}, token=ADMIN)
    assert made.status == 200, made.raw
    value = made.json["status"]["value"]
    assert len(value) >= 43
    me = await yard.call("GET", "/v1/me", token=value)
    assert (me.json["name"], me.json["role"], me.json["tenant"]) == ("ci", OPERATOR, "default")
    for path in ("/v1/token", f"/v1/token/{made.json['id']}"):
        answer = await yard.call("GET", path, token=ADMIN)
        assert answer.status == 200
        assert value not in answer.raw.decode()
    listed = (await yard.call("GET", "/v1/token", token=ADMIN)).json["items"]
    assert "ci" in [each["spec"]["name"] for each in listed]
    assert "other" not in [each["spec"]["name"] for each in listed]
    async with yard.ledger.pool.acquire() as connection:
        for table in ("events", "folds", "commands"):
            query = f"SELECT count(*) FROM {table} t WHERE t::text LIKE '%' || $1 || '%'"
            assert await connection.fetchval(query, value) == 0


async def test_a_revoked_token_stops_working_everywhere(yard: Yard) -> None:
    made = await yard.call("POST", "/v1/token", {"name": "ci", "role": OPERATOR}, token=ADMIN)
    value, path = made.json["status"]["value"], f"/v1/token/{made.json['id']}"
    assert (await yard.call("GET", "/v1/me", token=value)).status == 200
    assert (await yard.call("DELETE", path, token="other")).status == 404
    assert (await yard.call("GET", path, token="other")).status == 404
    assert (await yard.call("DELETE", path, token=ADMIN)).status == 204
    assert (await yard.call("GET", "/v1/me", token=value)).status == 401
    assert (await yard.call("GET", path, token=ADMIN)).status == 404
    assert (await yard.call("DELETE", path, token=ADMIN)).status == 404


async def _stopped(yard: Yard, value: str) -> bool:
    return (await yard.call("GET", "/v1/me", token=value)).status == 401


async def _kept(yard: Yard, name: str) -> bool:
    """Whether the process answers for a token without asking the ledger, after a call with it."""
    assert not await _stopped(yard, name)
    return sha256_of(yard.tokens[name]) in yard.app[SERVICE].tokens._kept


async def test_a_token_that_another_process_revoked_is_noticed_by_the_watch(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.domain import commands as cmd

    monkeypatch.setattr("service.api.auth.KEPT_S", 10_000.0)
    token_id = await yard.token("ci", OPERATOR)
    await until(lambda: _kept(yard, "ci"))
    await yard.ledger.submit(cmd.RevokeToken(project="default", token_id=token_id), actor="elsewhere")
    await until(lambda: _stopped(yard, "ci"))


async def test_the_watch_goes_on_whatever_a_look_ends_with(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Roles of Postgres that change, its memory that is short: each is over a moment later."""
    from service.domain import commands as cmd

    errors = [Misconfigured("Postgres refused the connection"), asyncpg.OutOfMemoryError("out of memory")]
    watch = yard.app[SERVICE].watch
    look = watch.look

    async def failing() -> None:
        if errors:
            raise errors.pop()
        await look()

    monkeypatch.setattr("service.api.auth.KEPT_S", 10_000.0)
    monkeypatch.setattr(watch, "look", failing)
    token_id = await yard.token("ci", OPERATOR)
    await until(lambda: not errors)
    await until(lambda: _kept(yard, "ci"))
    await yard.ledger.submit(cmd.RevokeToken(project="default", token_id=token_id), actor="elsewhere")
    await until(lambda: _stopped(yard, "ci"), 10.0)


async def test_a_revoked_token_is_not_kept_for_long_without_the_watch(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.api.watch import Watch
    from service.domain import commands as cmd

    async def blind(_self: Watch) -> None:
        return None

    monkeypatch.setattr(Watch, "look", blind)
    token_id = await yard.token("ci", OPERATOR)
    await until(lambda: _kept(yard, "ci"))
    await yard.ledger.submit(cmd.RevokeToken(project="default", token_id=token_id), actor="elsewhere")
    await until(lambda: _stopped(yard, "ci"), 5.0)


async def test_a_scoped_token_sees_and_makes_only_its_jobs(yard: Yard) -> None:
    await yard.token("scoped", OPERATOR, selector="team=a")

    async def call(method: str, path: str, body: Any = None) -> Answer:
        return await yard.call(method, path, body, token="scoped")

    theirs = await yard.submit(labels={"team": "b"})
    shared = await yard.submit(labels={"team": "a"})
    mine = await call("POST", "/v1/job", SPEC)
    assert mine.json["spec"]["labels"]["team"] == "a"
    refused = await call("POST", "/v1/job", SPEC | {"labels": {"team": "b"}})
    assert (refused.status, refused.json["field"]) == (400, "labels.team")
    listed = (await call("GET", "/v1/job")).json
    assert [job["id"] for job in listed["items"]] == [mine.json["id"], shared["id"]]
    assert listed["metadata"]["total"] == 2
    assert (await call("GET", "/v1/job?labelSelector=team=b")).json["items"] == []
    before = await yard.head()
    for method, rest, body in (
        ("GET", "", None), ("DELETE", "?force=true", None), ("PUT", "/kill", None), ("PUT", "/start", None),
        ("GET", "/log", None), ("POST", "/datasync", {"direction": "push"}),
        ("PUT", "", {"timeout": 60}), ("PUT", "/label", {"name": "team", "value": "a"}),
    ):  # fmt: skip
        assert (await call(method, f"/v1/job/{theirs['id']}{rest}", body)).status == 404, method
    assert (await call("GET", f"/v1/billing?job={theirs['id']}")).status == 404
    bill = (await call("GET", "/v1/billing")).json["items"]
    assert theirs["id"] not in [line["job"] for line in bill]
    assert len(bill) == 2
    assert await yard.head() == before
    assert (await call("PUT", f"/v1/job/{shared['id']}/kill")).status == 204


async def test_a_scoped_token_uses_what_all_jobs_share_and_changes_none_of_it(yard: Yard) -> None:
    volume = (await yard.call("POST", "/v1/volume", {"standalone": {}})).json["id"]
    for role in (OPERATOR, ADMIN):
        await yard.token("scoped", role, selector="team=a")
        before = await yard.head()
        refused = await yard.call("DELETE", f"/v1/volume/{volume}", token="scoped")
        assert (refused.status, refused.json["code"]) == (403, "forbidden")
        assert "team=a" in refused.json["message"]
        assert "without a label selector" in refused.json["message"]
        assert await yard.head() == before
        assert (await yard.call("GET", f"/v1/volume/{volume}", token="scoped")).status == 200
        spec = SPEC | {"volumes": [{"mountPath": "/v", "permission": "RW", "userVolumeId": volume}]}
        assert (await yard.call("POST", "/v1/job", spec, token="scoped")).status == 200


async def test_a_scoped_administrator_hands_on_no_more_than_its_scope(yard: Yard) -> None:
    await yard.token("scoped", ADMIN, selector="team=a")
    asked = {"name": "x", "role": ADMIN}
    wider = await yard.call("POST", "/v1/token", asked | {"labelSelector": "team=b"}, token="scoped")
    assert wider.status == 403
    made = await yard.call("POST", "/v1/token", asked, token="scoped")
    assert made.json["spec"]["labelSelector"] == "team=a"
    seen = (await yard.call("GET", "/v1/token", token="scoped")).json["items"]
    assert [each["spec"].get("labelSelector") for each in seen] == ["team=a", "team=a"]
    for narrower in ("stage in (x,y)", "team=a,stage in (x,y)"):
        made = await yard.call("POST", "/v1/token", asked | {"labelSelector": narrower}, token="scoped")
        assert made.json["spec"]["labelSelector"] == "team=a,stage in (x,y)"
    for path in ("", "/renew"):
        theirs = f"/v1/token/{await yard.token('wide', OPERATOR)}{path}"
        method = "POST" if path else "GET"
        assert (await yard.call(method, theirs, token="scoped")).status == 404


async def test_a_selector_is_kept_as_long_as_it_can_be_read(yard: Yard) -> None:
    """It is written out in one form, which may be longer than what was asked for."""
    asked = {"name": "x", "role": READER}
    short = ",".join(["ab in(a,b)"] * 93)
    assert len(short) <= 1024
    refused = await yard.call("POST", "/v1/token", asked | {"labelSelector": short}, token=ADMIN)
    assert (refused.status, refused.json["field"]) == (400, "labelSelector")
    assert "at most 1024 characters" in refused.json["message"]
    longest = ",".join(["ab in(a,b)"] * 85)
    made = await yard.call("POST", "/v1/token", asked | {"labelSelector": longest}, token=ADMIN)
    assert made.status == 200
    await yard.token("scoped", ADMIN, selector="team=a")
    wider = await yard.call("POST", "/v1/token", asked | {"labelSelector": longest[:-1]}, token="scoped")
    assert wider.status == 400
    for caller in (ADMIN, "scoped"):
        assert (await yard.call("GET", "/v1/token", token=caller)).status == 200
    assert (await yard.call("DELETE", f"/v1/token/{made.json['id']}", token=ADMIN)).status == 204


async def test_a_selector_of_any_form_limits_every_path(yard: Yard) -> None:
    """Lists, reads, orders and bills see the same jobs as the selector's own words say."""
    labels: list[dict[str, str]] = [{}, {"team": "a"}, {"team": "b"}, {"team": "c", "stage": "x"}]
    jobs = [(await yard.submit(labels=each))["id"] for each in labels]
    seen = {
        "team in (a,b)": {1, 2},
        "team notin (a,b)": {0, 3},
        "team": {1, 2, 3},
        "!team": {0},
        "team!=a,team": {2, 3},
        "stage,team=c": {3},
        "ovh/type=job": {0, 1, 2, 3},
        f"ovh/id={jobs[2]}": {2},
    }
    for number, (selector, indexes) in enumerate(seen.items()):
        name = f"scoped-{number}"
        await yard.token(name, OPERATOR, selector=selector)
        expected = {jobs[index] for index in indexes}
        listed = (await yard.call("GET", "/v1/job", token=name)).json
        assert {job["id"] for job in listed["items"]} == expected, selector
        assert listed["metadata"]["total"] == len(expected)
        filtered = await yard.call("GET", "/v1/job", params={"labelSelector": selector})
        assert {job["id"] for job in filtered.json["items"]} == expected, selector
        for job in jobs:
            status = 200 if job in expected else 404
            assert (await yard.call("GET", f"/v1/job/{job}", token=name)).status == status
            assert (await yard.call("GET", f"/v1/billing?job={job}", token=name)).status == status
            order = await yard.call("PUT", f"/v1/job/{job}", {"timeout": 60 + number}, token=name)
            assert order.status == (204 if job in expected else 404)


async def test_a_scoped_token_makes_no_job_that_it_could_not_see(yard: Yard) -> None:
    for selector, labels, field in (
        ("team in (a,b)", {}, "labels.team"),
        ("team", {}, "labels.team"),
        ("!team", {"team": "a"}, "labels.team"),
        ("team!=a", {"team": "a"}, "labels.team"),
        (f"ovh/id={uuid4()}", {}, "labels.ovh/id"),
    ):
        await yard.token("scoped", OPERATOR, selector=selector)
        answer = await yard.call("POST", "/v1/job", SPEC | {"labels": labels}, token="scoped")
        assert (answer.status, answer.json["field"]) == (400, field), selector
    await yard.token("scoped", OPERATOR, selector="team in (a,b),!stage")
    answer = await yard.call("POST", "/v1/job", SPEC | {"labels": {"team": "b"}}, token="scoped")
    assert answer.status == 200


async def test_a_renewed_token_has_one_value(yard: Yard) -> None:
    made = (await yard.call("POST", "/v1/token", {"name": "ci", "role": OPERATOR}, token=ADMIN)).json
    old, path = made["status"]["value"], f"/v1/token/{made['id']}"
    assert (await yard.call("GET", "/v1/me", token=old)).status == 200
    renewed = (await yard.call("POST", f"{path}/renew", token=ADMIN)).json
    assert renewed["id"] == made["id"]
    assert renewed["spec"] == made["spec"]
    assert renewed["status"]["version"] == 2
    assert (await yard.call("GET", "/v1/me", token=old)).status == 401
    assert (await yard.call("GET", "/v1/me", token=renewed["status"]["value"])).json["name"] == "ci"
    read = (await yard.call("GET", path, token=ADMIN)).json
    assert read["status"] == {"version": 2}
    assert (await yard.call("POST", f"{path}/renew", token="other")).status == 404
    assert (await yard.call("DELETE", path, token=ADMIN)).status == 204
    assert (await yard.call("POST", f"{path}/renew", token=ADMIN)).status == 404


async def test_what_an_old_value_has_open_ends_when_its_token_is_renewed(yard: Yard) -> None:
    job = await yard.submit()
    token_id = await yard.token("ci", READER)
    headers = {"Authorization": f"Bearer {yard.tokens['ci']}"}
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    url = f"{yard.url}/v1/job/{job['id']}/log?follow=true"
    async with yard.http.get(url, headers=headers, timeout=timeout) as response:
        reading = asyncio.create_task(response.read())
        assert (await yard.call("POST", f"/v1/token/{token_id}/renew", token=ADMIN)).status == 200
        with pytest.raises(aiohttp.ClientPayloadError):  # cut, so that it does not look like the log's end
            await reading


async def test_tokens_are_listed_in_pages(yard: Yard) -> None:
    everyone = (await yard.call("GET", "/v1/token", token=ADMIN)).json
    count = everyone["metadata"]["total"]
    assert count == len(everyone["items"]) == 3
    found, url = [], "/v1/token?size=2"
    while url:
        page = (await yard.call("GET", url, token=ADMIN)).json
        found += [each["id"] for each in page["items"]]
        assert page["metadata"]["total"] == count
        url = page["metadata"]["links"].get("next")
    assert found == [each["id"] for each in everyone["items"]]


async def test_a_followers_connection_ends_when_its_token_is_revoked(yard: Yard) -> None:
    from service.domain import commands as cmd

    job = await yard.submit()
    token_id = await yard.token("ci", READER)
    headers = {"Authorization": f"Bearer {yard.tokens['ci']}"}
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    url = f"{yard.url}/v1/job/{job['id']}/log?follow=true"
    async with yard.http.get(url, headers=headers, timeout=timeout) as response:
        assert response.status == 200
        reading = asyncio.create_task(response.read())
        await yard.ledger.submit(cmd.RevokeToken(project="default", token_id=token_id), actor="elsewhere")
        with pytest.raises(aiohttp.ClientPayloadError):
            await reading
