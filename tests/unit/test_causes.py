"""What caused what, by the rules alone; and a sentence for everything that happens."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from service.domain import events as ev
from service.domain.causes import LEADING_NOWHERE, TELLING, causes, chain, step_of
from service.domain.events import BODIES, Event
from service.domain.sentences import sentence
from service.domain.spec import Sealed
from service.domain.states import State
from tests.properties.bodies import BODY
from tests.support.jobs import CODE_1, DONE, JOB, SEALED, T0, Bodies, minutes

B = Bodies()
SECRET = Sealed("a-key", "a-nonce", "a-box-of-a-secret")


WAYS: list[Any] = [
    *(B.submitted(), B.placed(), B.prepared(), B.started(minutes(1)), B.timed_out()),
    *(B.interrupted(State.RUNNING, State.INTERRUPTING, then_delete=True), ev.JobDeleted()),
    *(B.exited(State.RUNNING, State.DONE, DONE), B.finalized(State.DONE, DONE), B.queued_again(State.DONE)),
    ev.SyncOrdered(sync_id="s", direction="push"),
    ev.DataSyncMoved(sync_id="s", direction="push", state="RUNNING", volumes=()),
    ev.DataSyncMoved(sync_id="p", direction="pull", state="RUNNING", volumes=()),
    ev.LabelSet(name="a"),
    ev.RunNoted(info=DONE),
    ev.JobEdited(timeout=60, timeout_auto_restart=False),
    ev.RunAdopted(engine="e", epoch=1, absent_since=T0),
    ev.ExecOpened(exec_id="e", command=SEALED),
]


def happened(*bodies: ev.Body | tuple[ev.Body, str], run: int = 1) -> list[Event]:
    """Events of a job, from position 1 on. With a text: of the request of that id."""
    found = []
    for position, each in enumerate(bodies, 1):
        body, request = each if isinstance(each, tuple) else (each, None)
        found.append(
            Event(
                position=position,
                project="vision",
                job=JOB,
                run=run,
                body=body,
                occurred_at=T0,
                recorded_at=T0,
                actor="test",
                command_id=UUID(int=position),
                request_id=request,
            )
        )
    return found


def caused(events: list[Event]) -> dict[int, int | None]:
    """By all of them, and by no more of them than whoever asks for causes reads."""
    whole = [(event, event.body) for event in events]
    read = [(event, event.body if event.type in TELLING else None) for event in events]
    found, again = (
        causes(step_of(event.position, JOB, type(event.body), event.request_id, body) for event, body in each)
        for each in (whole, read)
    )
    assert again == found
    return found


def cause_of(*bodies: Any) -> list[int | None]:
    return list(caused(happened(*bodies)).values())


SUBMITTED = (B.submitted(), "r1")
RUNNING = (SUBMITTED, B.placed(), B.prepared(), B.started(minutes(1)))
KILLED = (B.interrupted(State.RUNNING, State.INTERRUPTING), "r2")


def test_a_run_goes_from_one_to_the_next() -> None:
    ended = (B.exited(State.RUNNING, State.DONE, DONE), B.finalized(State.DONE, DONE))
    assert cause_of(*RUNNING, *ended) == [None, 1, 2, 3, 4, 5]


def test_an_order_has_no_cause_but_its_request_and_is_one_of_the_end() -> None:
    ended = (B.exited(State.INTERRUPTING, State.INTERRUPTED, DONE), B.finalized(State.INTERRUPTED, DONE))
    found = caused(happened(*RUNNING, KILLED, *ended))
    assert list(found.values())[4:] == [None, 5, 6]
    assert chain(7, found) == [5, 6]


def test_a_timeout_follows_from_the_start_or_from_an_edit_since() -> None:
    assert cause_of(*RUNNING, B.timed_out())[-1] == 4
    edited = (ev.JobEdited(timeout=60, timeout_auto_restart=False), "r3")
    assert cause_of(*RUNNING, edited, B.timed_out())[-2:] == [None, 5]
    assert cause_of(SUBMITTED, edited, *RUNNING[1:], B.timed_out())[-1] == 5


def test_a_stop_order_that_came_after_the_timeout_did_not_end_the_run() -> None:
    exited = B.exited(State.TIMEOUT, State.INTERRUPTED, CODE_1)
    assert cause_of(*RUNNING, B.timed_out(), KILLED, exited)[-1] == 5


def test_a_restart_follows_from_the_end_that_the_timeout_made() -> None:
    exited = B.exited(State.TIMEOUT, State.INTERRUPTED, CODE_1)
    again = B.queued_again(State.FINALIZING)
    assert cause_of(*RUNNING, B.timed_out(), exited, again, B.placed())[4:] == [4, 5, 6, 7]


def test_a_start_by_a_user_follows_from_their_request() -> None:
    ended = (B.exited(State.RUNNING, State.DONE, DONE), B.finalized(State.DONE, DONE))
    assert cause_of(*RUNNING, *ended, (B.queued_again(State.DONE), "r4"), B.placed())[-2:] == [None, 7]


def test_what_could_not_run_ends_by_the_last_move() -> None:
    ended = (B.aborted(State.INITIALIZING, State.FAILED), B.finalized(State.FAILED, CODE_1))
    assert cause_of(SUBMITTED, B.placed(), *ended) == [None, 1, 2, 3]


def test_too_much_storage_follows_from_the_start() -> None:
    assert cause_of(*RUNNING, B.beyond_storage(1, ""), B.errored(State.RUNNING))[-2:] == [4, 5]


def test_a_deletion_follows_from_the_order_that_asked_for_it_or_from_a_request() -> None:
    order = (B.interrupted(State.RUNNING, State.INTERRUPTING, then_delete=True), "r2")
    ended = (B.exited(State.INTERRUPTING, State.INTERRUPTED, DONE), B.finalized(State.INTERRUPTED, DONE))
    assert cause_of(*RUNNING, order, *ended, ev.JobDeleted())[-1] == 5
    assert cause_of(SUBMITTED, (ev.JobDeleted(), "r5")) == [None, None]


def test_data_follows_from_its_order_and_else_from_the_move() -> None:
    order = (ev.SyncOrdered(sync_id="s", direction="push"), "r2")
    moved = ev.DataSyncMoved(sync_id="s", direction="push", state="RUNNING", volumes=())
    assert cause_of(*RUNNING, order, moved, moved)[-2:] == [5, 5]
    pulled = ev.DataSyncMoved(sync_id="p", direction="pull", state="RUNNING", volumes=())
    assert cause_of(SUBMITTED, B.placed(), pulled, pulled, B.prepared()) == [None, 1, 2, 2, 2]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(WAYS), max_size=14))
def test_what_leads_nowhere_may_be_left_out(bodies: list[Any]) -> None:
    events = happened(*bodies)
    fewer = [event for event in events if event.type not in LEADING_NOWHERE]
    found = caused(events)
    assert caused(fewer) == {event.position: found[event.position] for event in fewer}


def test_what_others_open_or_set_has_its_request_alone() -> None:
    went_in = (ev.ExecOpened(exec_id="e", command=SEALED), "r6")
    assert cause_of(*RUNNING, went_in, (ev.LabelSet(name="a"), "r7"))[-2:] == [None, None]


@pytest.mark.parametrize("name", BODIES)
def test_every_event_has_a_sentence_and_none_tells_a_secret(name: str) -> None:
    @settings(max_examples=15)
    @given(BODY[name])
    def told(body: ev.Body) -> None:
        fields = {name: getattr(body, name) for name in body.__struct_fields__}
        known: dict[str, Any] = {name: SECRET for name, held in fields.items() if isinstance(held, Sealed)}
        known |= {name: "a-digest" for name in fields if name == "sha256"}
        (event,) = happened(replace(body, **known))
        said = sentence(event)
        assert said and "a-digest" not in said and SECRET.box not in said

    told()


def test_a_code_that_is_the_engines_is_not_told_as_the_process_s() -> None:
    known = B.exited(State.RUNNING, State.FAILED, CODE_1, 255)
    unknown, stopped = replace(known, unknown=True), replace(known, ended_at=T0)
    both = replace(stopped, unknown=True)
    assert [sentence(event) for event in happened(known, unknown, stopped, both)] == [
        "Run 1's process ended with code 255.",
        "Run 1's process ended; nobody knows how: the engine missed it, and says code 255.",
        f"Run 1's process had ended with code 255 at {T0:%Y-%m-%d %H:%M:%S}, before it was told to stop.",
        f"Run 1's process ended at {T0:%Y-%m-%d %H:%M:%S}, before it was told to stop; nobody knows how: "
        "the engine missed it, and says code 255.",
    ]


@pytest.mark.parametrize(("count", "said"), [(0, "0 objects"), (1, "1 object"), (2, "2 objects")])
def test_objects_that_were_moved_are_counted_in_words(count: int, said: str) -> None:
    volume = ev.VolumeProgress(volume=0, completed=count)
    (event,) = happened(ev.DataSyncMoved(sync_id="s", direction="push", state="DONE", volumes=(volume,)))
    assert sentence(event) == f"Run 1's push of data is DONE, {said} moved."


def test_a_type_of_tomorrow_is_told_by_its_name() -> None:
    class RunTeleported(ev.Body, frozen=True):
        pass

    (event,) = happened(RunTeleported())
    assert sentence(event) == "Run teleported."
    assert cause_of(SUBMITTED, RunTeleported()) == [None, 1]
