"""Every command in every state: what it leads to, or that it is refused; against design.md, written out."""

from __future__ import annotations

import pytest

from service.domain import commands as cmd
from service.domain.states import COUNTED, MOVES, State, may_move
from service.errors import WrongState
from tests.support import jobs
from tests.support.jobs import JOB, minutes
from tests.unit.histories import in_state

S = State
LIVE = (S.QUEUED, S.INITIALIZING, S.PENDING, S.RUNNING, S.INTERRUPTING, S.TIMEOUT, S.FINALIZING)
ENDED = (S.DONE, S.FAILED, S.INTERRUPTED, S.ERROR)

#: design.md, "The state machine", line by line.
ARROWS = {
    (S.QUEUED, S.INITIALIZING),
    (S.INITIALIZING, S.PENDING),
    (S.PENDING, S.RUNNING),
    (S.RUNNING, S.FINALIZING),
    (S.FINALIZING, S.DONE),
    (S.FINALIZING, S.FAILED),
    (S.FINALIZING, S.INTERRUPTED),
    (S.RUNNING, S.INTERRUPTING),
    (S.INTERRUPTING, S.FINALIZING),
    (S.RUNNING, S.TIMEOUT),
    (S.TIMEOUT, S.FINALIZING),
    (S.FINALIZING, S.QUEUED),
    (S.QUEUED, S.INTERRUPTED),
    (S.INITIALIZING, S.INTERRUPTING),
    (S.PENDING, S.INTERRUPTING),
    (S.INITIALIZING, S.FINALIZING),
    (S.PENDING, S.FINALIZING),
    (S.DONE, S.QUEUED),
    (S.INTERRUPTED, S.QUEUED),
    (S.FAILED, S.QUEUED),
    *((live, S.ERROR) for live in LIVE),
}

#: command -> {state it is given in: state it leads to}. In every other state it is refused.
TABLE: dict[str, tuple[cmd.Command, dict[State, State]]] = {
    "kill": (
        jobs.kill(),
        {
            S.QUEUED: S.INTERRUPTED,
            S.INITIALIZING: S.INTERRUPTING,
            S.PENDING: S.INTERRUPTING,
            S.RUNNING: S.INTERRUPTING,
            S.INTERRUPTING: S.INTERRUPTING,
            S.TIMEOUT: S.TIMEOUT,
            S.FINALIZING: S.FINALIZING,
        },
    ),
    "start": (jobs.start(), {S.DONE: S.QUEUED, S.FAILED: S.QUEUED, S.INTERRUPTED: S.QUEUED}),
    "delete": (jobs.delete(), {state: state for state in ENDED}),
    "delete by force": (
        jobs.delete(force=True),
        {
            S.QUEUED: S.INTERRUPTED,
            S.INITIALIZING: S.INTERRUPTING,
            S.PENDING: S.INTERRUPTING,
            S.RUNNING: S.INTERRUPTING,
            S.INTERRUPTING: S.INTERRUPTING,
            S.TIMEOUT: S.TIMEOUT,
            S.FINALIZING: S.FINALIZING,
            **{state: state for state in ENDED},
        },
    ),
    "exec": (jobs.open_exec(), {S.RUNNING: S.RUNNING}),
    "edit": (jobs.edit(timeout_auto_restart=True), {state: state for state in State}),
    "label": (jobs.label("team", "vision"), {state: state for state in State}),
    "place": (jobs.place(), {S.QUEUED: S.INITIALIZING}),
    "prepared": (jobs.prepared(), {S.INITIALIZING: S.PENDING}),
    "started": (jobs.started(minutes(4)), {S.PENDING: S.RUNNING}),
    "timeout": (jobs.timeout(), {S.RUNNING: S.TIMEOUT}),
    "too much storage": (jobs.too_much_storage(), {S.RUNNING: S.INTERRUPTING}),
    "exited": (
        jobs.exited(minutes(5)),
        {S.RUNNING: S.FINALIZING, S.INTERRUPTING: S.FINALIZING, S.TIMEOUT: S.FINALIZING},
    ),
    "abort": (
        jobs.abort(),
        {S.INITIALIZING: S.FINALIZING, S.PENDING: S.FINALIZING, S.INTERRUPTING: S.FINALIZING},
    ),
    "fail": (jobs.fail(), dict.fromkeys(LIVE, S.ERROR)),
    "finalize": (jobs.finalize(), {S.FINALIZING: S.DONE}),
    "note": (jobs.note(), {state: state for state in LIVE}),
    "adopt": (jobs.adopt(minutes(5)), {state: state for state in LIVE if state is not S.QUEUED}),
    "sync": (jobs.sync(), {state: state for state in State}),
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("name", TABLE)
def test_every_command_in_every_state(name: str, state: State) -> None:
    command, leads_to = TABLE[name]
    outcome = in_state(state).when(command)
    if state not in leads_to:
        outcome.refused(WrongState, str(JOB))
        assert outcome.refusal is not None
        assert state in outcome.refusal.message, "the refusal says what the job is"
        return
    assert outcome.refusal is None
    assert outcome.job.state is leads_to[state]
    assert outcome.quota.cpu_used == (1 if leads_to[state] in COUNTED else 0)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("name", TABLE)
def test_moves_say_where_they_came_from(name: str, state: State) -> None:
    """Each move's source is the state before it, and no move takes an arrow that is not drawn."""
    outcome = in_state(state).when(TABLE[name][0])
    at = state
    for decision in outcome.decisions:
        source, target = getattr(decision.body, "source", at), getattr(decision.body, "target", at)
        assert source is at
        assert source is target or (source, target) in ARROWS
        at = target
    assert outcome.job.state is at


def test_the_arrows_are_those_of_the_design() -> None:
    assert {(source, target) for source in MOVES for target in MOVES[source]} == ARROWS
    assert {(a, b) for a in State for b in State if may_move(a, b)} == ARROWS
    assert set(MOVES) == set(State)


def test_four_states_count_and_nothing_else() -> None:
    assert {S.QUEUED, S.INITIALIZING, S.PENDING, S.RUNNING} == COUNTED
