"""A process that had ended while nobody was there: an order or a timeout that came later changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from projections.replay import Replay as Bills
from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.bills.run import Run, under
from service.domain.pricing import POLICIES
from service.domain.recall import Before, recall
from service.domain.states import State as S
from tests.support import jobs
from tests.support.jobs import Bodies, minutes, spec
from tests.support.specification import Specification, given
from tests.unit.test_bills import bill, texts

B = Bodies(spec(timeout=604_800))
RUNNING = (B.submitted(), B.placed(), B.prepared(), B.started(minutes(4)))
#: With a timeout of an hour, at which it is started again.
AGAIN = Bodies(spec(timeout=3600, timeout_auto_restart=True))
RESTARTING = (AGAIN.submitted(), AGAIN.placed(), AGAIN.prepared(), AGAIN.started(minutes(4)))


def back(spec: Specification, code: int = 0, **how: Any) -> Specification:
    """Nobody looked after the run from minute 10 to 130, and its process ended at 15."""
    adopted = spec.when(jobs.adopt(minutes(10)), at=minutes(130)).after
    return adopted.when(jobs.exited(minutes(15), code, **how), at=minutes(130)).after


def by_policy(run: Run) -> list[tuple[int, Any]]:
    return [(under(run, policy).minutes, under(run, policy).net) for policy in POLICIES]


def edited() -> Specification:
    order = jobs.edit(timeout=7200, timeout_auto_restart=True)
    return given(*RESTARTING).when(order, at=minutes(120)).after


def killed(at: float = 120) -> Specification:
    return given(*RUNNING).when(jobs.kill(), at=minutes(at)).after


@pytest.mark.parametrize(("code", "outcome"), [(0, S.DONE), (1, S.FAILED), (137, S.FAILED)])
def test_an_order_to_stop_what_had_ended(code: int, outcome: S) -> None:
    plain, late = back(given(*RUNNING), code), back(killed(), code)
    exited = late.events[-1]
    assert (exited.body.outcome, exited.body.info) == (outcome, plain.events[-1].body.info)
    assert (exited.occurred_at, exited.body.ended_at) == (minutes(120), minutes(15))
    assert by_policy(bill(late)) == by_policy(bill(plain))
    assert bill(late).credited == bill(plain).credited == (code == 137)
    assert late.job is not None and late.job.stopped_at == minutes(15)
    ended = late.when(jobs.finalize(), at=minutes(131)).after
    assert ended.job is not None and ended.job.state is outcome


def test_a_clock_that_was_set_back_says_nothing_of_an_order() -> None:
    """By it the process ended before it began."""
    exited = killed().when(jobs.exited(minutes(-60), 143), at=minutes(121)).after.events[-1]
    assert (exited.body.outcome, exited.body.ended_at) == (S.INTERRUPTED, None)


def test_it_is_explained_and_replayed_as_it_is_billed() -> None:
    late = back(killed()).when(jobs.finalize(), at=minutes(131)).after
    run = bill(late)
    assert any("had ended by itself at 2026-01-01T00:15" in text for text in texts(late)), texts(late)
    replay = Bills()
    assert [*replay.feed(late.events), *replay.open] == [run]
    exited = next(event for event in late.events if event.type == "RunExited")
    command = recall([exited], Before())
    assert isinstance(command, cmd.ReportExited)
    assert command.finished_at == minutes(15)


def test_a_timeout_that_an_edit_found() -> None:
    """It does not start what had ended again."""
    found = edited()
    assert found.job is not None and found.job.state is S.TIMEOUT
    late, plain = back(found), back(given(*RESTARTING))
    assert by_policy(bill(late)) == by_policy(bill(plain))
    ended = late.when(jobs.finalize(), at=minutes(131)).after
    assert ended.job is not None
    assert (ended.job.state, ended.job.run) == (S.DONE, 1)


def test_what_ended_at_its_timeout_is_started_again() -> None:
    late = edited().when(jobs.exited(minutes(64), 143), at=minutes(130)).after
    assert late.events[-1].body.ended_at is None
    again = late.when(jobs.finalize(), at=minutes(131)).after
    assert again.job is not None and again.job.run == 2


def test_what_was_beyond_its_storage_later() -> None:
    """What its user made of it could not be pushed: that is what is told of it."""
    too_large = given(*RUNNING).when(jobs.too_much_storage(), at=minutes(120)).after
    late = too_large.when(jobs.exited(minutes(15), 0), at=minutes(130)).after
    assert late.events[-1].body.outcome is S.DONE
    problem = ev.Info("push-failed", "It could not be pushed.")
    ended = late.when(jobs.finalize(problem=problem, volumes_kept=True), at=minutes(131)).after
    assert ended.job is not None
    assert (ended.job.state, ended.job.info) == (S.FAILED, problem)


@pytest.mark.parametrize(("ended", "clear"), [(119.99, False), (119.9, True), (121, False)])
def test_an_end_counts_as_earlier_only_when_it_clearly_was(ended: float, clear: bool) -> None:
    """Clocks differ: 0.01 minutes are less than a second."""
    after = killed().when(jobs.exited(minutes(ended), 0), at=minutes(130)).after
    assert (after.events[-1].body.outcome is S.DONE) == clear
    assert (after.events[-1].body.ended_at == minutes(ended)) == clear


def test_what_we_stopped_had_not_ended_before_whatever_the_clock_of_its_engine_says() -> None:
    after = killed().when(jobs.exited(minutes(15), 143, by_us=True), at=minutes(130)).after
    exited = after.events[-1]
    assert (exited.body.outcome, exited.body.ended_at) == (S.INTERRUPTED, None)


def test_a_process_ended_no_earlier_than_it_began() -> None:
    after = killed().when(jobs.exited(minutes(4 - 0.5 / 60), 0), at=minutes(130)).after
    assert after.events[-1].body.ended_at > minutes(4)
    assert bill(after).minutes == 3


def test_what_was_told_to_stop_by_nobody_before_the_order_is_credited() -> None:
    after = back(killed(), 143, stopped_outside=True)
    assert bill(after).credited
    assert after.events[-1].body.info.code == "stopped-outside"


def test_the_whole_absence_is_told_whatever_came_in_between() -> None:
    adopted = killed().when(jobs.adopt(minutes(10)), at=minutes(130)).after.events[-1]
    assert adopted.body.absent_since == minutes(10)
    adopted = killed().when(jobs.adopt(minutes(-10)), at=minutes(130)).after.events[-1]
    assert adopted.body.absent_since == minutes(2), "it had its place no earlier"
