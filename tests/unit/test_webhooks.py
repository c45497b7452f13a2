"""Webhooks, decided and folded: given these events, when this is wanted, then that; and their URLs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks import Webhook as Verifier

from projections.webhooks import FOLD
from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.spec import Sealed
from service.domain.states import State
from service.domain.webhooks import MOST_OVERLAP_S, Wanted, message_id, read_webhook_url, signature
from service.errors import Conflict, Invalid, NotFound
from service.ledger.incident.replay import Replay
from tests.support.jobs import PROJECT, SEALED
from tests.support.pure import PureLedger

HOOK = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"
OTHER = Sealed("key-1", "bm9uY2U=", "b3RoZXI=")
OF: dict[str, Any] = {"project": PROJECT, "webhook_id": HOOK}


@pytest.fixture
def ledger() -> PureLedger:
    made = PureLedger()
    done(made, cmd.CreateProject(project=PROJECT, name="Vision", cpu=1, gpu=1))
    return made


def done(ledger: PureLedger, command: cmd.Command) -> list[ev.Body]:
    (answer,) = ledger.commit([command])
    assert isinstance(answer, list), answer
    return [event.body for event in answer]


def refused(ledger: PureLedger, command: cmd.Command) -> Any:
    (answer,) = ledger.commit([command])
    assert not isinstance(answer, list)
    return answer


def made(**changed: Any) -> cmd.SetWebhook:
    fields = {"place": "https://a.test", "url": SEALED, "secret": SEALED}
    return cmd.SetWebhook(**(OF | fields | changed))


def state(ledger: PureLedger) -> Any:
    return ledger.rows.get("webhooks", PROJECT).hooks.get(HOOK)


def test_one_is_made_changed_paused_resumed_replayed_and_removed(ledger: PureLedger) -> None:
    assert done(ledger, made(after=0)) == [
        ev.WebhookSet(
            webhook_id=HOOK, place="https://a.test", url=SEALED, wanted=Wanted(), secret=SEALED, after=0
        )
    ]
    assert (state(ledger).start.after, state(ledger).start.by) == (0, 2)
    done(ledger, cmd.SetWebhook(**OF, wanted=Wanted(states=(State.DONE,)), replace=True))
    assert (state(ledger).place, state(ledger).wanted.states) == ("https://a.test", (State.DONE,))
    assert state(ledger).start.by == 2, "a change begins nowhere anew"
    pause = cmd.PauseWebhook(**OF, info=ev.Info("gone", "It said so."))
    done(ledger, pause)
    assert (state(ledger).paused.code, state(ledger).paused.message) == ("gone", "It said so.")
    assert done(ledger, pause) == [], "it is so already"
    done(ledger, cmd.ResumeWebhook(**OF))
    assert state(ledger).paused is None
    assert done(ledger, cmd.ResumeWebhook(**OF)) == [ev.WebhookResumed(webhook_id=HOOK)], "to try at once"
    done(ledger, cmd.ReplayWebhook(**OF, after=1))
    assert (state(ledger).start.by, state(ledger).start.after) == (7, 1)
    assert state(ledger).touched == 7
    done(ledger, cmd.RemoveWebhook(**OF))
    assert state(ledger) is None
    assert isinstance(refused(ledger, cmd.RemoveWebhook(**OF)), NotFound)
    assert [each for step in Replay().steps(ledger.events) for each in step.differences] == []


def test_without_a_position_one_begins_behind_its_own_event(ledger: PureLedger) -> None:
    done(ledger, made())
    assert state(ledger).start.after == 2


def test_secrets_overlap_as_long_as_was_said_and_not_more_of_them_than_three(ledger: PureLedger) -> None:
    done(ledger, made())
    second, third = Sealed("k", "n", "2"), Sealed("k", "n", "3")
    done(ledger, cmd.RotateWebhook(**OF, secret=second, keep_s=600))
    assert state(ledger).signing(ledger.now) == [second, SEALED]
    assert state(ledger).signing(ledger.now + timedelta(seconds=600)) == [second]
    ledger.wait(60)
    done(ledger, cmd.RotateWebhook(**OF, secret=third, keep_s=3600))
    assert state(ledger).signing(ledger.now) == [third, second, SEALED]
    assert state(ledger).signing(ledger.now + timedelta(seconds=540)) == [third, second]
    done(ledger, cmd.RotateWebhook(**OF, secret=OTHER, keep_s=60))
    assert state(ledger).signing(ledger.now) == [OTHER, third, second], "the oldest went"
    done(ledger, cmd.RotateWebhook(**OF, secret=SEALED, keep_s=0))
    assert state(ledger).signing(ledger.now) == [SEALED]
    for keep_s in (-1, MOST_OVERLAP_S + 1):
        assert (
            refused(ledger, cmd.RotateWebhook(**OF, secret=SEALED, keep_s=keep_s)).field == "keepOldSeconds"
        )
    assert [each for step in Replay().steps(ledger.events) for each in step.differences] == []


def test_what_is_refused(ledger: PureLedger) -> None:
    assert isinstance(refused(ledger, cmd.SetWebhook(**OF, description="x", replace=True)), NotFound)
    done(ledger, made())
    assert isinstance(refused(ledger, made()), Conflict)
    other = made(webhook_id="o")
    for command, field in (
        (made(webhook_id="o", after=len(ledger.events) + 1), "after"),
        (cmd.ReplayWebhook(**OF, after=-1), "after"),
        (made(webhook_id="o", wanted=Wanted(types=("Nothing",))), "types[0]"),
        (made(webhook_id="o", wanted=Wanted(jobs=(UUID(int=1),) * 101)), "jobs"),
        (made(webhook_id="o", wanted=Wanted(label_selector="a=b=c")), "labelSelector"),
        (made(webhook_id="o", description="a\nb"), "description"),
    ):
        assert refused(ledger, command).field == field
    assert isinstance(refused(ledger, cmd.SetWebhook(**OF | {"project": "none"})), NotFound)
    assert done(ledger, other)
    assert FOLD.key(ledger.events[-1]) == PROJECT


@pytest.mark.parametrize(
    ("text", "place", "whole"),
    [
        ("https://a.test", "https://a.test", "https://a.test/"),
        ("https://a.test:443/x?y=1", "https://a.test", "https://a.test/x?y=1"),
        ("https://[2606:4700::1]:8443/x", "https://[2606:4700::1]:8443", "https://[2606:4700::1]:8443/x"),
        ("http://10.0.0.1/x", "http://10.0.0.1", "http://10.0.0.1/x"),
        ("http://10.0.0.1:80/x", "http://10.0.0.1", "http://10.0.0.1/x"),
        ("http://10.0.0.1:443/x", "http://10.0.0.1:443", "http://10.0.0.1:443/x"),
        ("http://[fd00::1]?x", "http://[fd00::1]", "http://[fd00::1]/?x"),
    ],
)
def test_urls_and_what_is_shown_of_them(text: str, place: str, whole: str) -> None:
    read = read_webhook_url("url", text, http=True)
    assert (read.place, read.text) == (place, whole)
    assert read_webhook_url("url", read.text, http=True) == read


@pytest.mark.parametrize(
    "text",
    [
        *("", "a.test", "//a.test", "ftp://a.test", "https://", "https://u:p@a.test", "https://a.test#f"),
        *(
            "https://127.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://a.test:0/",
            "https://a.test:65536/",
        ),
        *("https://a.test/%0a", "https://a.test/../b", "https://a b/", "https://ä.test/", "HTTPS://a.test/"),
        *("http://u@10.0.0.1/", "http://127.1/", "http://", "https://" + "a" * 3000),
    ],
)
def test_what_is_no_url_of_a_webhook(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        read_webhook_url("url", text, http=True)
    assert caught.value.field == "url"
    assert "u:p" not in caught.value.message


def test_plain_http_is_taken_only_where_it_is_asked_for() -> None:
    with pytest.raises(Invalid, match="write https://"):
        read_webhook_url("url", "http://10.0.0.1/")


def test_a_signature_is_what_the_published_library_makes() -> None:
    identity = message_id(UUID(int=1), HOOK, 7)
    assert "." not in identity
    secrets = ["whsec_" + "AAEC" * 8, "whsec_" + "ZGVm" * 10]
    found = signature(secrets, identity, 1_700_000_000, b'{"a": "\xc3\xa4"}').split(" ")
    at = datetime.fromtimestamp(1_700_000_000, UTC)
    assert found == [Verifier(each).sign(identity, at, '{"a": "ä"}') for each in secrets]
