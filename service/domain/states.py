"""The states of a job and the moves between them: the seed's list, and nothing besides."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What a job is doing. Source: OVHcloud's concept page, "Job lifecycle"."""

    #: The same value as an enum's own, which is worked out in Python: each fold looks states up.
    __hash__ = str.__hash__

    QUEUED = "QUEUED"
    INITIALIZING = "INITIALIZING"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    INTERRUPTING = "INTERRUPTING"
    TIMEOUT = "TIMEOUT"
    FINALIZING = "FINALIZING"
    DONE = "DONE"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"
    ERROR = "ERROR"


#: Each state in a sentence, for a person who was told nothing more particular.
MEANING: dict[State, str] = {
    State.QUEUED: "The job is about to be processed.",
    State.INITIALIZING: "The job's data is being pulled.",
    State.PENDING: "The job's container is being started.",
    State.RUNNING: "The job is running.",
    State.INTERRUPTING: "An interrupt order was received and is about to be processed.",
    State.TIMEOUT: "The job is still running but its timeout was reached.",
    State.FINALIZING: "The job's log is being kept and its data pushed.",
    State.DONE: "The job ended normally.",
    State.FAILED: "The job failed.",
    State.INTERRUPTED: "The job was interrupted.",
    State.ERROR: "The job ended through a fault of ours; it is not billed.",
}

ENDED = frozenset({State.DONE, State.FAILED, State.INTERRUPTED, State.ERROR})
LIVE = frozenset(State) - ENDED

#: The states that use up quota.
COUNTED = frozenset({State.QUEUED, State.INITIALIZING, State.PENDING, State.RUNNING})

#: The states in which a run holds a place on a node.
PLACED = LIVE - {State.QUEUED}

#: The states in which a container may exist and should be kept alive.
STOPPING = frozenset({State.INTERRUPTING, State.TIMEOUT})

#: The states in which the job's process may run and answer.
REACHABLE = STOPPING | {State.RUNNING}

#: A job in one of these can be started again, as a new run.
STARTABLE = frozenset({State.DONE, State.INTERRUPTED, State.FAILED})

MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.INITIALIZING, State.INTERRUPTED, State.ERROR}),
    State.INITIALIZING: frozenset({State.PENDING, State.INTERRUPTING, State.FINALIZING, State.ERROR}),
    State.PENDING: frozenset({State.RUNNING, State.INTERRUPTING, State.FINALIZING, State.ERROR}),
    State.RUNNING: frozenset({State.INTERRUPTING, State.TIMEOUT, State.FINALIZING, State.ERROR}),
    State.INTERRUPTING: frozenset({State.FINALIZING, State.ERROR}),
    State.TIMEOUT: frozenset({State.FINALIZING, State.ERROR}),
    State.FINALIZING: frozenset({State.DONE, State.FAILED, State.INTERRUPTED, State.QUEUED, State.ERROR}),
    State.DONE: frozenset({State.QUEUED}),
    State.FAILED: frozenset({State.QUEUED}),
    State.INTERRUPTED: frozenset({State.QUEUED}),
    State.ERROR: frozenset(),
}


def may_move(source: State, target: State) -> bool:
    """True when the state machine has an arrow from `source` to `target`."""
    return target in MOVES[source]


def units_counted(source: State | None, target: State | None, units: int) -> int:
    """How many units of quota a move takes (positive) or gives back (negative).

    `None` stands for "no such job": before it was submitted, or after it was deleted.
    """
    before = units if source in COUNTED else 0
    after = units if target in COUNTED else 0
    return after - before
