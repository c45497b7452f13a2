"""`Idempotency-Key`: a repeat is the same request, answered the same, done once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.domain.flavors import DEFAULT_CATALOGUE, Catalogue
from tests.api.test_ssh_keys import KEY as SSH_KEY
from tests.api.yard import ADMIN, OPERATOR, READER, SPEC, Supervision, Yard, gathered, opened
from tests.support.proxy import proxied

KEY = {"Idempotency-Key": "order 66"}


async def test_a_repeat_answers_the_job_as_it_was_then(yard: Yard) -> None:
    body = SPEC | {"envVars": [{"name": "A", "value": "secret"}]}
    first = await yard.call("POST", "/v1/job", body, headers=KEY)
    assert first.status == 200
    await yard.call("PUT", f"/v1/job/{first.json['id']}/kill")
    before = await yard.head()
    again = await yard.call("POST", "/v1/job", body, headers=KEY)
    assert again.raw == first.raw
    assert await yard.head() == before
    await yard.call("DELETE", f"/v1/job/{first.json['id']}")
    assert (await yard.call("POST", "/v1/job", body, headers=KEY)).raw == first.raw


async def test_the_same_key_with_another_request_is_refused(yard: Yard) -> None:
    await yard.call("POST", "/v1/job", SPEC, headers=KEY)
    before = await yard.head()
    other = await yard.call("POST", "/v1/job", SPEC | {"name": "other"}, headers=KEY)
    assert (other.status, other.json["code"]) == (409, "conflict")
    assert "Idempotency-Key" in other.json["message"]
    token = await yard.call("POST", "/v1/token", {"name": "x", "role": ADMIN}, headers=KEY, token=ADMIN)
    assert token.status == 409
    assert await yard.head() == before


async def test_the_same_key_with_another_query_is_refused(yard: Yard) -> None:
    """`force` and `discardVolumes` are in the query, and change what is done."""
    job = (await yard.call("POST", "/v1/job", SPEC)).json["id"]
    await yard.call("PUT", f"/v1/job/{job}/kill")
    assert (await yard.call("PUT", f"/v1/job/{job}/start", headers=KEY)).status == 204
    assert (await yard.call("PUT", f"/v1/job/{job}/start", headers=KEY)).status == 204
    other = await yard.call("PUT", f"/v1/job/{job}/start?discardVolumes=true", headers=KEY)
    assert (other.status, other.json["code"]) == (409, "conflict")


async def test_a_key_belongs_to_its_project_and_its_scope(yard: Yard) -> None:
    first = await yard.call("POST", "/v1/job", SPEC, headers=KEY)
    theirs = await yard.call("POST", "/v1/job", SPEC, headers=KEY, token="other")
    assert theirs.status == 200
    assert theirs.json["id"] != first.json["id"]
    await yard.token("scoped", ADMIN, selector="team=a")
    assert (await yard.call("POST", "/v1/job", SPEC, headers=KEY, token="scoped")).status == 409


async def test_twenty_repeats_at_once_make_one_job(yard: Yard, tmp_path: Path) -> None:
    before = await yard.head()
    async with opened(yard.database, tmp_path / "second", yard.tokens) as second:

        async def send(index: int) -> Any:
            return await (yard, second)[index % 2].call("POST", "/v1/job", SPEC, headers=KEY)

        answers = await gathered(20, send)
    assert [answer.status for answer in answers] == [200] * 20
    assert len({answer.raw for answer in answers}) == 1
    assert await yard.head() == before + 1


@pytest.mark.parametrize("secrets", [{}, {"envVars": [{"name": "A", "value": "b"}]}], ids=["plain", "sealed"])
async def test_a_repeat_is_answered_though_it_could_not_be_asked_for_any_more(
    yard: Yard, tmp_path: Path, secrets: dict[str, Any]
) -> None:
    """SSH was switched off since, and a flavor is gone."""
    flavor = DEFAULT_CATALOGUE.flavors[0]
    body = SPEC | {"sshPublicKeys": [SSH_KEY], "resources": {"cpu": 1, "flavor": flavor.id}} | secrets
    first = await yard.call("POST", "/v1/job", body, headers=KEY)
    assert first.status == 200
    less = Catalogue(tuple(each for each in DEFAULT_CATALOGUE.flavors if each is not flavor))
    gone: list[dict[str, Any]] = [{"ssh_address": ""}, {"catalogue": less}]
    for number, changes in enumerate(gone):
        async with opened(yard.database, tmp_path / f"{number}", yard.tokens, **changes) as later:
            assert (await later.call("POST", "/v1/job", body)).status == 400
            again = await later.call("POST", "/v1/job", body, headers=KEY)
            assert (again.status, again.json["id"]) == (200, first.json["id"])
            assert again.json["spec"] == first.json["spec"]
            other = await later.call("POST", "/v1/job", body | {"name": "other"}, headers=KEY)
            assert other.status == 409


async def test_a_refusal_leaves_the_key_free(yard: Yard) -> None:
    too_much = SPEC | {"resources": {"cpu": 11}}
    assert (await yard.call("POST", "/v1/job", too_much, headers=KEY)).status == 403
    assert (await yard.call("POST", "/v1/job", SPEC, headers=KEY)).status == 200


async def test_a_repeat_of_a_token_has_no_value(yard: Yard) -> None:
    body = {"name": "ci", "role": ADMIN}
    first = await yard.call("POST", "/v1/token", body, headers=KEY, token=ADMIN)
    again = await yard.call("POST", "/v1/token", body, headers=KEY, token=ADMIN)
    assert again.json["id"] == first.json["id"]
    assert "value" not in again.json["status"]
    assert (await yard.call("GET", "/v1/me", token=first.json["status"]["value"])).status == 200


async def test_what_is_shown_once_is_shown_when_the_answer_to_the_commit_was_lost(
    yard: Yard, tmp_path: Path
) -> None:
    """The writer finds its own command then as it finds a repeat's; nobody could make this value again."""
    async with proxied(yard.database) as proxy, opened(proxy.url, tmp_path / "cut", yard.tokens) as cut:

        async def posted(path: str, body: Any = None) -> Any:
            struck, proxy.after_commit = proxy.struck, 1
            answer = await cut.call("POST", path, body, token=ADMIN)
            assert (answer.status, proxy.struck) == (200, struck + 1), answer.raw
            return answer.json

        token = await posted("/v1/token", {"name": "x", "role": READER})
        yard.tokens["x"] = token["status"]["value"]
        assert (await yard.call("GET", "/v1/me", token="x")).status == 200
        renewed = await posted(f"/v1/token/{token['id']}/renew")
        yard.tokens["x"] = renewed["status"]["value"]
        assert (await yard.call("GET", "/v1/me", token="x")).status == 200
        project = await posted("/v1/project", {"id": "lost"})
        yard.tokens["lost"] = project["token"]["status"]["value"]
        assert (await yard.call("GET", "/v1/me", token="lost")).status == 200
        hook = await posted("/v1/webhook?check=false", {"url": "https://hooks.example/x"})
        rotated = await posted(f"/v1/webhook/{hook['id']}/rotate", {})
        secrets = {hook["secret"], rotated["secret"]}
        assert len(secrets) == 2 and all(each.startswith("whsec_") for each in secrets)


async def test_a_repeat_about_a_token_that_was_revoked_since(yard: Yard) -> None:
    """It was carried out, so it is not refused as unknown; whatever was not, is."""
    made = (await yard.call("POST", "/v1/token", {"name": "ci", "role": ADMIN}, token=ADMIN)).json["id"]
    renewal, revocation = {"Idempotency-Key": "renew"}, {"Idempotency-Key": "revoke"}
    renew, revoke = ("POST", f"/v1/token/{made}/renew"), ("DELETE", f"/v1/token/{made}")
    assert (await yard.call(*renew, headers=renewal, token=ADMIN)).status == 200
    for _ in range(2):
        assert (await yard.call(*revoke, headers=revocation, token=ADMIN)).status == 204
        assert (await yard.call(*renew, headers=renewal, token=ADMIN)).status == 200
    before = await yard.head()
    assert (await yard.call(*revoke, token=ADMIN)).status == 404
    assert (await yard.call(*renew, token=ADMIN)).status == 404
    assert await yard.head() == before


async def test_a_repeat_of_a_project_makes_nothing_more(yard: Yard) -> None:
    body = {"id": "vision", "cpu": 3}
    first = await yard.call("POST", "/v1/project", body, headers=KEY, token=ADMIN)
    before = await yard.head()
    again = await yard.call("POST", "/v1/project", body, headers=KEY, token=ADMIN)
    assert await yard.head() == before
    assert again.json["project"] == first.json["project"]
    assert again.json["token"]["id"] == first.json["token"]["id"]
    assert "value" not in again.json["token"]["status"]


async def test_the_repeat_of_a_budget_does_nothing_and_answers_what_there_is_by_then(yard: Yard) -> None:
    path = "/v1/project/default/budget"
    assert (await yard.call("PUT", path, {"amount": "1"}, headers=KEY, token=ADMIN)).json["amount"] == "1"
    await yard.call("PUT", path, {"amount": "2"}, token=ADMIN)
    before = await yard.head()
    again = await yard.call("PUT", path, {"amount": "1"}, headers=KEY, token=ADMIN)
    assert (again.status, again.json["amount"], await yard.head()) == (200, "2", before)


async def test_what_changed_nothing_changes_nothing_when_it_is_repeated(
    yard: Yard, supervision: Supervision
) -> None:
    """A kill of a job that is being stopped already must not kill the run that was started since."""
    job = (await yard.submit())["id"]
    path = f"/v1/job/{job}"
    await supervision.running(job)
    assert (await yard.call("PUT", f"{path}/kill")).status == 204
    before = await yard.head()
    assert (await yard.call("PUT", f"{path}/kill", headers=KEY)).status == 204
    assert await yard.head() == before
    await supervision.ended(job)
    assert (await yard.call("PUT", f"{path}/start")).status == 204
    assert (await yard.call("PUT", f"{path}/kill", headers=KEY)).status == 204
    assert (await yard.call("GET", path)).json["status"]["state"] == "QUEUED"
    other = await yard.call("DELETE", path, headers=KEY)
    assert (other.status, other.json["code"]) == (409, "conflict")


async def test_a_label_that_had_its_value_is_not_set_again_by_a_repeat(yard: Yard) -> None:
    job = (await yard.submit())["id"]
    path = f"/v1/job/{job}/label"
    for value, key in (("a", {}), ("a", KEY), ("b", {}), ("a", KEY)):
        answer = await yard.call("PUT", path, {"name": "team", "value": value}, headers=key)
        assert answer.status == 204
    assert (await yard.call("GET", f"/v1/job/{job}")).json["spec"]["labels"]["team"] == "b"
    other = await yard.call("PUT", path, {"name": "team", "value": "c"}, headers=KEY)
    assert (other.status, other.json["code"]) == (409, "conflict")


async def test_without_a_key_nothing_is_kept_of_what_changed_nothing(yard: Yard) -> None:
    job = (await yard.submit())["id"]
    for _ in range(3):
        await yard.call("PUT", f"/v1/job/{job}/label", {"name": "team", "value": "a"})
    kept = "SELECT count(*) FROM commands WHERE first_position > last_position"
    assert await yard.ledger.pool.fetchval(kept) == 0
    await yard.call("PUT", f"/v1/job/{job}/label", {"name": "team", "value": "a"}, headers=KEY)
    assert await yard.ledger.pool.fetchval(kept) == 1


async def test_a_key_that_revoked_no_token_is_answered_the_same_again(yard: Yard) -> None:
    token_id = await yard.token("ci", READER)
    assert (await yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN)).status == 204
    for _ in range(2):
        again = await yard.call("DELETE", f"/v1/token/{token_id}", token=ADMIN, headers=KEY)
        assert again.status == 404


BAD_KEYS: list[str] = ["", "x" * 256, "a\tb", "é"]  # fmt: skip


async def test_a_bad_key_is_refused(yard: Yard) -> None:
    for key in BAD_KEYS:
        before = await yard.head()
        answer = await yard.call("POST", "/v1/job", SPEC, headers={"Idempotency-Key": key})
        assert (answer.status, answer.json["field"]) == (400, "Idempotency-Key")
        assert await yard.head() == before


async def test_two_keys_for_one_request_are_refused_as_two(yard: Yard) -> None:
    headers = f"POST /v1/job HTTP/1.1\r\nHost: yard.test\r\nAuthorization: Bearer {yard.tokens[OPERATOR]}\r\n"
    keys = "Idempotency-Key: a\r\nIdempotency-Key: b\r\n"
    body = json.dumps(SPEC)
    (answer,) = await yard.talk(f"{headers}{keys}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert (answer.status, answer.json["field"]) == (400, "Idempotency-Key")
    assert "one header of this name" in answer.json["message"]
