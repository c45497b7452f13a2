"""Deliveries over a real ledger to a real receiver: all, in order per job, signed, filtered, replayed."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from standardwebhooks import WebhookVerificationError

from service.domain import commands as cmd
from service.domain.events import Info
from service.domain.states import State
from service.webhooks import deliverer
from service.webhooks.signing import new_secret
from tests.support.jobs import PROJECT, SEALED
from tests.support.waiting import until
from tests.webhooks.house import SQL, House
from tests.webhooks.receiver import Got, Receiver


async def test_an_event_comes_signed_as_standard_webhooks_says(house: House, receiver: Receiver) -> None:
    hook = await house.hook(receiver.url + "?key=1", after=None)
    async with house.delivering():
        position = await house.quota(7)
        await receiver.until_taken(position)
    (got,) = receiver.got
    event = got.verified(house.secrets[hook])
    head = await house.ledger.head()
    assert got.path == "/hook?key=1"
    assert got.headers["content-type"] == "application/cloudevents+json"
    assert got.headers["webhook-id"] == f"msg_{head.ledger_id.hex}_{UUID(hook).hex}_{position}"
    assert got.headers["user-agent"] == "jobyard-webhooks/1"
    assert event["type"] == "jobyard.QuotaSet"
    assert event["id"] == str(position)
    with pytest.raises(WebhookVerificationError):
        got.verified(new_secret())
    with pytest.raises(WebhookVerificationError):
        Got(got.path, got.headers, got.body + b" ").verified(house.secrets[hook])


async def test_everything_since_a_position_comes_once_and_then_what_happens(
    house: House, receiver: Receiver
) -> None:
    job = await house.job()
    await house.hook(receiver.url, after=0)
    async with house.delivering():
        await house.label(job, "a")
        wanted = [event.position for event in await house.ledger.events(project=PROJECT)]
        await receiver.until_taken(*wanted)
    assert sorted(receiver.positions()) == wanted
    assert receiver.positions(str(job)) == sorted(receiver.positions(str(job)))


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_each_job_is_in_order_whatever_fails(house: House, receiver: Receiver, seed: int) -> None:
    """At least once and in order per job, over a receiver that fails at random, and hangs up at random."""
    chance = random.Random(seed)
    receiver.judge = lambda _got: chance.choice([204, 204, 200, 500, 404, 302, 503])
    await house.hook(receiver.url)
    jobs = [await house.job() for _ in range(6)]
    async with house.delivering():
        for number in range(20):
            await house.label(chance.choice(jobs), str(number))
            if number % 5 == 0:
                await house.quota(number + 1)
        wanted = [event.position for event in await house.ledger.events(project=PROJECT)]
        await receiver.until_taken(*wanted)
    assert len(receiver.taken) == len(wanted), "without a crash each was taken once"
    for line in ["", *map(str, jobs)]:
        tried = [each.position for each in receiver.got if each.line == line]
        assert tried == sorted(tried), "nothing is even tried before what is older was taken"
    bodies: dict[str, set[bytes]] = {}
    for got in receiver.got:
        bodies.setdefault(got.headers["webhook-id"], set()).add(got.body)
    assert {len(each) for each in bodies.values()} == {1}, "each attempt has the same bytes"
    assert len(bodies) == len(wanted)


async def test_a_job_that_fails_holds_back_itself_alone(house: House, receiver: Receiver) -> None:
    bad, good = await house.job(), await house.job()
    receiver.judge = lambda got: 500 if got.line == str(bad) else 204
    await house.hook(receiver.url)
    async with house.delivering():
        held = [await house.label(bad, "1"), await house.label(bad, "2")]
        passing = [await house.label(good, "1"), await house.quota(3)]
        await receiver.until_taken(*passing)
        assert receiver.positions(str(bad)) == []
        receiver.judge = lambda _got: 204
        await receiver.until_taken(*held)
    assert receiver.positions(str(bad)) == sorted(receiver.positions(str(bad)))
    assert len(receiver.positions(str(bad))) == 3


async def test_filters_by_type_state_job_and_the_labels_of_that_moment(
    house: House, receiver: Receiver
) -> None:
    prod, test = await house.job(labels={"stage": "prod"}), await house.job(labels={"stage": "test"})
    ways: dict[str, dict[str, Any]] = {
        "types": {"types": ("QuotaSet",)},
        "states": {"states": (State.INTERRUPTED,)},
        "jobs": {"jobs": (test,)},
        "labels": {"label_selector": "stage=prod"},
    }
    for name, wanted in ways.items():
        await house.hook(f"{receiver.url}/{name}", **wanted)
    async with house.delivering():
        into = await house.label(test, "prod", "stage")
        out = await house.label(prod, "test", "stage")
        (killed,) = await house.do(cmd.KillJob(project=PROJECT, job=prod))
        quota = await house.quota(5)
        await until(lambda: len(receiver.taken) >= 6)
    got = {
        name: [each.position for each in receiver.taken if each.path.endswith(f"/{name}")] for name in ways
    }
    submitted = {each.line: each.position for each in receiver.taken if "JobSubmitted" in each.event["type"]}
    assert got == {
        "types": [quota],
        "states": [killed.position],
        "jobs": [submitted[str(test)], into],
        "labels": sorted([submitted[str(prod)], into]),
    }, "what left the scope is not told, what came into it is"
    assert out not in receiver.positions()


async def test_a_replay_sends_everything_again_under_the_same_ids(house: House, receiver: Receiver) -> None:
    hook = await house.hook(receiver.url, types=("QuotaSet",))
    async with house.delivering():
        first, second = await house.quota(1), await house.quota(2)
        await receiver.until_taken(first, second)
        await house.do(cmd.ReplayWebhook(project=PROJECT, webhook_id=hook, after=first))
        await until(lambda: len(receiver.taken) == 3)
        await house.do(cmd.ReplayWebhook(project=PROJECT, webhook_id=hook, after=0))
        await until(lambda: len(receiver.taken) == 5)
    assert receiver.positions() == [first, second, second, first, second]
    assert len({each.headers["webhook-id"] for each in receiver.got}) == 2


async def test_while_it_is_paused_nothing_comes_and_then_all_of_it(house: House, receiver: Receiver) -> None:
    hook = await house.hook(receiver.url, types=("QuotaSet",))
    by_order = cmd.PauseWebhook(
        project=PROJECT, webhook_id=hook, info=Info("by-order", "An administrator paused it.")
    )
    async with house.delivering() as deliverer:
        await receiver.until_taken(await house.quota(1))
        await house.until_remembered(1)  # else the pause cuts it off, and it is sent again
        await house.do(by_order)
        other = await house.hook(receiver.url + "/other", after=None, types=("QuotaSet",))
        missed = [await house.quota(2), await house.quota(3)]
        await until(lambda: len(receiver.taken) == 3, what="the other one goes on")
        assert {each.path for each in receiver.taken[1:]} == {"/hook/other"}
        await until(lambda: deliverer.tally.delivered == 3, what="its delivery is counted")
        await house.do(cmd.RemoveWebhook(project=PROJECT, webhook_id=other))
        await house.do(cmd.ResumeWebhook(project=PROJECT, webhook_id=hook))
        await until(lambda: len(receiver.taken) == 5)
    assert [each.position for each in receiver.taken if each.path == "/hook"][1:] == missed


async def test_after_a_rotation_both_secrets_sign_and_then_the_new_one(
    house: House, receiver: Receiver
) -> None:
    hook = await house.hook(receiver.url, types=("QuotaSet",))
    old, new, newest = house.secrets[hook], new_secret(), new_secret()
    sealing = await house.ledger.keys.of(PROJECT)
    rotate = {"project": PROJECT, "webhook_id": hook}
    async with house.delivering():
        await house.do(cmd.RotateWebhook(**rotate, secret=sealing.seal(new), keep_s=600))
        await receiver.until_taken(await house.quota(1))
        await house.do(cmd.RotateWebhook(**rotate, secret=sealing.seal(newest), keep_s=0))
        await receiver.until_taken(await house.quota(2))
    both, last = receiver.taken
    assert both.verified(old) == both.verified(new)
    assert len(both.headers["webhook-signature"].split(" ")) == 2
    assert last.verified(newest)
    for gone in (old, new):
        with pytest.raises(WebhookVerificationError):
            last.verified(gone)


async def test_no_secret_is_in_what_is_sent(house: House, receiver: Receiver) -> None:
    await house.hook(receiver.url + "?key=s3cret")
    async with house.delivering():
        (event,) = await house.do(
            cmd.SetRegistry(
                project=PROJECT,
                registry_id="r",
                user="u",
                url="https://registry.example.org",
                username="robot",
                password=SEALED,
            )
        )
        await receiver.until_taken(event.position)
    text = b"".join(each.body for each in receiver.got)
    assert b"WebhookSet" in text
    for secret in (b"s3cret", b"whsec_", SEALED.box.encode(), b'"box"', b"nonce"):
        assert secret not in text


async def test_where_nobody_has_a_webhook_a_busy_ledger_is_left_alone(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "UNHURRIED_S", 3600.0)
    looks, fetch = [0], asyncpg.Pool.fetch

    async def counted(self: asyncpg.Pool, statement: str, *arguments: Any, **named: Any) -> Any:
        looks[0] += statement == SQL.grown
        return await fetch(self, statement, *arguments, **named)

    monkeypatch.setattr(asyncpg.Pool, "fetch", counted)
    async with house.delivering():
        for cpu in range(1, 11):
            await house.quota(cpu)
    assert looks[0] <= 1
    await house.hook(receiver.url, types=("QuotaSet",))
    async with house.delivering():
        await receiver.until_taken(await house.quota(11))


async def test_a_webhook_that_is_registered_while_nobody_has_one_is_found(
    house: House, receiver: Receiver
) -> None:
    async with house.delivering():
        await house.quota(1)
        await house.hook(receiver.url, types=("QuotaSet",), after=None)
        await receiver.until_taken(await house.quota(2))
