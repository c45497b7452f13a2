"""A history that leads to each of the eleven states, by the shortest ordinary way."""

from __future__ import annotations

from service.domain.states import State
from tests.support.jobs import CODE_1, DONE, Bodies, minutes
from tests.support.specification import Specification, given

B = Bodies()
SUBMITTED = (B.submitted(),)
INITIALIZING = (*SUBMITTED, B.placed())
PENDING = (*INITIALIZING, B.prepared())
#: The container started in minute 4; its timeout of 60 s is in minute 5.
RUNNING = (*PENDING, B.started(minutes(4)))
INTERRUPTING = (*RUNNING, B.interrupted(State.RUNNING, State.INTERRUPTING))
TIMEOUT = (*RUNNING, B.timed_out())
FINALIZING = (*RUNNING, B.exited(State.RUNNING, State.DONE, DONE))

HISTORIES = {
    State.QUEUED: SUBMITTED,
    State.INITIALIZING: INITIALIZING,
    State.PENDING: PENDING,
    State.RUNNING: RUNNING,
    State.INTERRUPTING: INTERRUPTING,
    State.TIMEOUT: TIMEOUT,
    State.FINALIZING: FINALIZING,
    State.DONE: (*FINALIZING, B.finalized(State.DONE, DONE)),
    State.FAILED: (
        *RUNNING,
        B.exited(State.RUNNING, State.FAILED, CODE_1, 1),
        B.finalized(State.FAILED, CODE_1),
    ),
    State.INTERRUPTED: (*SUBMITTED, B.interrupted(State.QUEUED, State.INTERRUPTED)),
    State.ERROR: (*RUNNING, B.errored(State.RUNNING)),
}


def in_state(state: State) -> Specification:
    """A job of one CPU in this state, whose project has 10."""
    return given(*HISTORIES[state])
