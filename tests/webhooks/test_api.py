"""/v1/webhook over HTTP, with a deliverer beside it: made, shown, changed, tried, replayed; and refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.api import webhooks
from service.api.call import SERVICE, Call
from service.domain import commands as cmd
from service.domain.cloudevents import frame
from service.domain.webhooks import WebhookUrl
from service.errors import Unavailable
from service.webhooks.backoff import Backoff
from service.webhooks.send import Sender
from tests.api.yard import ADMIN, OPERATOR, READER, Yard, furnish, opened
from tests.support.waiting import until
from tests.webhooks.house import House
from tests.webhooks.receiver import Receiver


@pytest.fixture
async def yard(database_url: str, tmp_path: Path) -> AsyncIterator[Yard]:
    async with opened(database_url, tmp_path, {}, webhook_allow=("127.0.0.0/8",)) as made:
        await furnish(made.ledger)
        for role in (ADMIN, OPERATOR, READER):
            await made.token(role, role)
        yield made


async def ask(yard: Yard, method: str, path: str = "", body: Any = None, **more: Any) -> Any:
    """What a request that is done answers."""
    answer = await yard.call(method, f"/v1/webhook{path}", body, **({"token": ADMIN} | more))
    assert answer.status in (200, 204), answer.raw
    return answer.json if answer.raw else None


async def refused(
    yard: Yard, method: str, path: str = "", body: Any = None, **more: Any
) -> tuple[int, str | None, str]:
    head = await yard.head()
    answer = await yard.call(method, f"/v1/webhook{path}", body, **({"token": ADMIN} | more))
    assert 400 <= answer.status < 500, answer.raw
    assert await yard.head() == head, "nothing was recorded"
    return answer.status, answer.json.get("field"), answer.json["message"]


async def test_the_life_of_a_webhook(yard: Yard, receiver: Receiver) -> None:
    asked = {"url": receiver.url + "?key=s3cret", "types": ["jobyard.JobSubmitted"], "description": "CI"}
    with capture_logs() as lines:
        made = await ask(yard, "POST", body=asked)
        path = f"/{made['id']}"
        async with House(yard.ledger).delivering():
            await yard.submit()
            await until(lambda: len(receiver.taken) == 1)

            async def moved() -> bool:
                found = await ask(yard, "GET", path)
                return bool(found["status"]["position"] == await yard.head())

            await until(moved)
        listed = (await ask(yard, "GET"))["items"]
    secret = made.pop("secret")
    assert receiver.got[0].verified(secret)["type"] == "jobyard.JobSubmitted"
    shown = await ask(yard, "GET", path)
    assert shown["status"].pop("position") == await yard.head()
    assert made["status"].pop("position") < await yard.head()
    assert shown == made
    assert [each["id"] for each in listed] == [made["id"]]
    assert made["url"] == receiver.url + "?key=s3cret"
    assert made["status"] == {"state": "ACTIVE"}
    (attempt,) = (await ask(yard, "GET", f"{path}/delivery"))["items"]
    assert (attempt["status"], attempt["delivered"], attempt["attempt"]) == (204, True, 1)
    await ask(yard, "PUT", path, {"types": [], "states": ["DONE"], "labelSelector": "a=b"})
    changed = await ask(yard, "GET", path)
    assert (changed["types"], changed["states"], changed["labelSelector"]) == ([], ["DONE"], "a=b")
    assert changed["description"] == "CI"
    await ask(yard, "PUT", path, {"labelSelector": ""})
    assert "labelSelector" not in await ask(yard, "GET", path)
    paused = await ask(yard, "POST", f"{path}/pause")
    assert (paused["status"]["state"], paused["status"]["code"]) == ("PAUSED", "by-order")
    assert (await ask(yard, "POST", f"{path}/resume"))["status"]["state"] == "ACTIVE"
    await ask(yard, "DELETE", path)
    assert (await yard.call("GET", f"/v1/webhook{path}", token=ADMIN)).status == 404
    events = await yard.ledger.events(project="default")
    told = json.dumps([*map(str, lines), *(frame(event, "urn:x") for event in events)])
    assert receiver.url.removesuffix("/hook") in told
    assert "s3cret" not in told
    assert secret not in told


async def test_a_ping_tells_the_status_and_the_time_and_nothing_else(yard: Yard, receiver: Receiver) -> None:
    made = await ask(yard, "POST", body={"url": receiver.url})
    path = f"/{made['id']}"
    said = await ask(yard, "POST", f"{path}/test")
    assert said.pop("milliseconds") >= 0
    assert said == {"delivered": True, "status": 204}
    event = receiver.got[0].verified(made["secret"])
    assert (event["type"], event["data"]) == ("jobyard.Ping", {"webhookId": made["id"]})
    receiver.judge = lambda _got: 404
    said = await ask(yard, "POST", f"{path}/test")
    del said["milliseconds"]
    assert said == {"delivered": False, "status": 404, "error": "it answered 404"}
    await ask(yard, "PUT", path, {"url": "http://127.0.0.1:9/"})
    said = await ask(yard, "POST", f"{path}/test")
    del said["milliseconds"]
    assert said == {"delivered": False, "error": "no connection"}


async def test_a_rotation_shows_its_secret_once(yard: Yard, receiver: Receiver) -> None:
    made = await ask(yard, "POST", body={"url": receiver.url})
    path = f"/{made['id']}"
    key: dict[str, Any] = {"headers": {"Idempotency-Key": "r1"}}
    rotated = await ask(yard, "POST", f"{path}/rotate", {"keepOldSeconds": 60}, **key)
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != made["secret"]
    assert "oldSecretUntil" in rotated["status"]
    again = await ask(yard, "POST", f"{path}/rotate", {"keepOldSeconds": 60}, **key)
    assert "secret" not in again
    await ask(yard, "POST", f"{path}/test")
    got = receiver.got[0]
    assert got.verified(made["secret"]) == got.verified(rotated["secret"])
    assert (await refused(yard, "POST", f"{path}/rotate", {"keepOldSeconds": 604_801}))[1] == "keepOldSeconds"


async def test_a_repeat_under_one_key_makes_one_webhook_and_shows_no_second_secret(
    yard: Yard, receiver: Receiver
) -> None:
    key: dict[str, Any] = {"headers": {"Idempotency-Key": "h1"}}
    first = await ask(yard, "POST", body={"url": receiver.url}, **key)
    again = await ask(yard, "POST", body={"url": receiver.url}, **key)
    assert "secret" not in again
    assert (again["id"], len((await ask(yard, "GET"))["items"])) == (first["id"], 1)


async def test_changes_at_one_moment_are_all_kept(
    yard: Yard, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each changes what it names, of what the webhook is as the change is recorded."""
    path = f"/{(await ask(yard, 'POST', body={'url': receiver.url}))['id']}"
    read = asyncio.Event()
    known = webhooks._known

    async def overtaken(call: Call) -> Any:
        found = await known(call)
        if call.request.method == "PUT" and not read.is_set():
            read.set()
            await ask(yard, "PUT", path, {"states": ["DONE"]})
        return found

    monkeypatch.setattr(webhooks, "_known", overtaken)
    await ask(yard, "PUT", path, {"types": ["QuotaSet"]})
    found = await ask(yard, "GET", path)
    assert (found["types"], found["states"]) == (["jobyard.QuotaSet"], ["DONE"])


async def test_a_repeat_needs_no_host_and_no_webhook_any_more(
    yard: Yard, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was carried out is answered by the ledger, whatever became of the rest."""

    def key(name: str) -> dict[str, Any]:
        return {"headers": {"Idempotency-Key": name}}

    async def gone(_sender: Sender, url: WebhookUrl) -> list[str]:
        raise Unavailable(f"no name server for {url.place}")

    first = await ask(yard, "POST", body={"url": receiver.url}, **key("made"))
    path = f"/{first['id']}"
    monkeypatch.setattr(Sender, "addresses", gone)
    assert (await ask(yard, "POST", body={"url": receiver.url}, **key("made")))["id"] == first["id"]
    assert (await refused(yard, "POST", "", {"url": receiver.url}))[1] == "url"
    before = await yard.head()
    for _ in range(2):
        await ask(yard, "DELETE", path, **key("removed"))
    assert await yard.head() == before + 1
    assert (await yard.call("DELETE", f"/v1/webhook{path}", token=ADMIN)).status == 404
    other = await yard.call("DELETE", "/v1/webhook/x", token=ADMIN, **key("removed"))
    assert (other.status, other.json["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("field", "body", "words"),
    [
        ("url", {"url": "https://10.0.0.1/hook"}, "public addresses"),
        ("url", {"url": "https://[::ffff:169.254.169.254]/hook"}, "public addresses"),
        ("url", {"url": "http://8.8.8.8/hook"}, "plain http is only for addresses that the operator allowed"),
        ("url", {"url": "https://2130706433/"}, "write https://"),
        ("url", {"url": "ftp://example.org/"}, "write https://"),
        ("url", {"url": "https://user:pw@example.org/"}, "without a user"),
        ("url", {"url": "http://user:pw@127.0.0.1/"}, "without a user"),
        ("url", {"url": "https://example.org/#f"}, "without a user or a fragment"),
        ("url", {"url": "example.org"}, "write https://"),
        ("url", {"url": "https://nowhere.invalid/"}, "?check=false"),
        ("types[1]", {"url": "", "types": ["QuotaSet", "JobDreamt"]}, "JobSubmitted"),
        ("states[0]", {"url": "", "states": ["SLEEPING"]}, "RUNNING"),
        ("jobs[0]", {"url": "", "jobs": ["x"]}, "UUID"),
        ("labelSelector", {"url": "", "labelSelector": "a=b=c"}, "the forms are"),
        ("after", {"url": "", "after": 10**9}, "where the ledger ends now"),
        ("after", {"url": "", "after": -1}, "a position from 0"),
        ("description", {"url": "", "description": "x" * 501}, "at most 500"),
        ("uri", {"uri": "https://example.org"}, "did you mean url?"),
    ],
)
async def test_what_is_refused_names_the_field(
    yard: Yard, receiver: Receiver, field: str, body: dict[str, Any], words: str
) -> None:
    body = body | ({"url": receiver.url} if body.get("url") == "" else {})
    status, named, message = await refused(yard, "POST", body=body)
    assert (status, named) == (400, field)
    assert "pw" not in message
    assert words in message
    assert "pw" not in message


async def test_a_replay_from_the_future_and_an_empty_change_are_refused(
    yard: Yard, receiver: Receiver
) -> None:
    path = "/" + (await ask(yard, "POST", body={"url": receiver.url}))["id"]
    head = await yard.head()
    status, field, message = await refused(yard, "POST", f"{path}/replay", {"after": head + 1})
    assert (status, field) == (400, "after")
    assert f"a position from 0 to {head}" in message
    assert (await ask(yard, "POST", f"{path}/replay", {"after": head}))["status"]["position"] == head
    assert (await refused(yard, "PUT", path, {}))[1] == "url"
    assert (await refused(yard, "PUT", path, {"url": "https://10.1.1.1/"}))[1] == "url"
    unknown = "/6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
    for method, end, body in (
        ("GET", "", None),
        ("PUT", "", {"description": "x"}),
        ("DELETE", "", None),
        ("POST", "/rotate", {}),
        ("POST", "/pause", None),
        ("POST", "/resume", None),
        ("POST", "/replay", {"after": 0}),
        ("POST", "/test", None),
        ("GET", "/delivery", None),
    ):
        assert (await refused(yard, method, unknown + end, body))[0] == 404


async def test_it_is_the_whole_projects_and_an_administrators(yard: Yard, receiver: Receiver) -> None:
    await yard.token("scoped", ADMIN, selector="team=a")
    await yard.token("other", ADMIN, project="other")
    path = "/" + (await ask(yard, "POST", body={"url": receiver.url}))["id"]
    for who in ("scoped", OPERATOR, READER):
        for method, where in (("GET", ""), ("GET", path), ("POST", f"{path}/pause")):
            assert (await refused(yard, method, where, token=who))[0] == 403
    assert (await refused(yard, "GET", path, token="other"))[0] == 404
    assert (await ask(yard, "GET", token="other"))["items"] == []


async def test_a_project_has_so_many_and_no_more(yard: Yard, receiver: Receiver) -> None:
    for _ in range(16):
        await ask(yard, "POST", body={"url": receiver.url})
    assert "16 webhooks" in (await refused(yard, "POST", body={"url": receiver.url}))[2]


async def test_what_fails_is_told_by_the_webhook_and_the_metrics(yard: Yard, receiver: Receiver) -> None:
    receiver.judge = lambda _got: 503
    made = await ask(yard, "POST", body={"url": receiver.url, "types": ["JobSubmitted"]})
    path = f"/{made['id']}"
    # Not so soon that it is tried again while it is looked at.
    async with House(yard.ledger).delivering(backoff=Backoff(table=(3600.0,))) as deliverer:
        job = await yard.submit()
        await until(lambda: deliverer.tally.failed == 1)

        async def failing() -> bool:
            return bool((await ask(yard, "GET", path))["status"]["state"] == "FAILING")

        await until(failing)
        status = (await ask(yard, "GET", path))["status"]
        (attempt,) = (await ask(yard, "GET", f"{path}/delivery"))["items"]
    assert status["failingJobs"] == 1
    assert attempt["job"] == job["id"]
    assert attempt["error"] == "it answered 503"
    assert status["nextAttemptAt"] == attempt["nextAttemptAt"] > attempt["at"]
    text = (await yard.call("GET", "/metrics")).raw.decode()
    assert 'jobyard_webhooks{state="failing"} 1.0' in text
    assert 'jobyard_webhooks{state="active"} 1.0' in text


async def test_of_an_erased_project_the_place_is_left_until_all_is_given_anew(
    yard: Yard, receiver: Receiver
) -> None:
    made = await ask(yard, "POST", body={"url": receiver.url, "types": ["QuotaSet"]})
    path, house = f"/{made['id']}", House(yard.ledger)
    key_ids = await yard.ledger.keys.ids_of_project("default")
    await house.do(cmd.EraseProject(project="default", key_ids=key_ids))
    await yard.ledger.keys.destroy_told()
    async with house.delivering():
        (missed,) = await house.do(cmd.SetQuota(project="default", cpu=3))
        hook = await house.until_paused(made["id"], "default")
        assert hook.paused is not None
        assert hook.paused.code == "key-destroyed"
        shown = await ask(yard, "GET", path)
        assert shown["url"] == receiver.url.removesuffix("/hook")
        assert (await refused(yard, "POST", f"{path}/test"))[0] == 409
        assert receiver.got == []
        await ask(yard, "PUT", path, {"url": receiver.url})
        status, _, said = await refused(yard, "POST", f"{path}/test")
        assert (status, "nothing is left to sign with; rotate its secret" in said) == (409, True)
        assert receiver.got == [], "nothing that is not signed goes out"
        rotated = await ask(yard, "POST", f"{path}/rotate", {})
        assert (await ask(yard, "POST", f"{path}/test"))["delivered"] is True
        receiver.got.clear()
        await ask(yard, "POST", f"{path}/resume")
        await receiver.until_taken(missed.position)
    assert receiver.got[0].verified(rotated["secret"])["id"] == str(missed.position)


async def test_plain_http_without_a_network_that_is_allowed(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an `up` that nothing was set for: it says what is missing and whose it is, and shows no password."""
    monkeypatch.setattr(yard.app[SERVICE].parts.hooks.sender, "_allow", ())
    for url in ("http://127.0.0.1:9000/hook?key=1", "http://nowhere.invalid:9000/hook"):
        for query in ("", "?check=false"):
            status, field, said = await refused(yard, "POST", query, {"url": url})
            place = url.partition("/hook")[0]
            assert (status, field) == (400, "url")
            assert said.startswith(f"url: '{place}' is not allowed; plain http is only for addresses"), said
            assert "JOBYARD_WEBHOOK_ALLOW" in said
    for url, words in (("http://me:hunter2@127.0.0.1/", "without a user"), ("https://127.0.0.1/", "public")):
        said = (await refused(yard, "POST", body={"url": url}))[2]
        assert words in said and "hunter2" not in said


async def test_so_many_hosts_are_looked_up_at_once_and_no_more(yard: Yard, receiver: Receiver) -> None:
    """Whoever names many hosts that nobody answers for must not take the threads that deliveries need."""
    lookups = yard.app[SERVICE].parts.hooks.lookups
    async with AsyncExitStack() as held:
        while not lookups.locked():
            await held.enter_async_context(lookups)
        answer = await yard.call("POST", "/v1/webhook", {"url": "https://slow.test/"}, token=ADMIN)
        assert (answer.status, "try again" in answer.json["message"]) == (503, True)
    await ask(yard, "POST", body={"url": receiver.url})
