"""What the exit status of `jobyard` means, in this one place: scripts may trust it.

0    done; for `job run --watch` and `job wait`: the job is DONE
1    the job FAILED; a push or pull that was waited for did; `webhook test` was not delivered; a verification
     found a difference; a machine part refused; a file here did
2    usage: an option or a value is wrong, here or as the service sees it
3    no such thing in this project
4    refused: by the token, its role, the quota, the budget, or the state of the job
5    the job ended as ERROR or INTERRUPTED
6    the service cannot be reached
7    the service cannot do it now: something that it needs, such as a data store, does not answer
130  Ctrl-C; what was asked of the service goes on there
"""

from __future__ import annotations

from enum import IntEnum

from service.domain.states import State
from service.errors import (
    BudgetExceeded,
    Conflict,
    Forbidden,
    Invalid,
    JobyardError,
    Misconfigured,
    NotFound,
    NotNow,
    Rejected,
    TooLarge,
    Unauthenticated,
    Unavailable,
    WrongState,
)


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    ENDED_OTHERWISE = 5
    UNREACHABLE = 6
    NOT_NOW = 7
    BROKEN_PIPE = 141
    INTERRUPTED = 130


#: For `--help`: click's `\b` keeps the lines as they are.
HELP = """\b
Exit status:
  0    done; with `job run --watch` and `job wait`: the job is DONE
  1    the job FAILED; `push-data` or `pull-data` did; `webhook test` was not delivered;
       a verification found a difference; a file here refused
  2    usage: an option or a value is wrong
  3    no such thing in this project
  4    refused: by the token, its role, the quota, the budget, or the state of the job
  5    the job ended as ERROR or INTERRUPTED
  6    the service cannot be reached
  7    it cannot do that now: a data store, say, does not answer
  130  Ctrl-C; what was asked of the service goes on there"""

_BY_ERROR: tuple[tuple[type[JobyardError], Exit], ...] = (
    (Invalid, Exit.USAGE),
    (TooLarge, Exit.USAGE),
    (Misconfigured, Exit.USAGE),
    (NotFound, Exit.NOT_FOUND),
    (BudgetExceeded, Exit.REFUSED),
    (Forbidden, Exit.REFUSED),
    (Unauthenticated, Exit.REFUSED),
    (WrongState, Exit.REFUSED),
    (Conflict, Exit.REFUSED),
    (NotNow, Exit.NOT_NOW),
    (Unavailable, Exit.UNREACHABLE),
    (Rejected, Exit.USAGE),
)

_BY_STATE = {
    State.DONE: Exit.DONE,
    State.FAILED: Exit.FAILED,
    State.INTERRUPTED: Exit.ENDED_OTHERWISE,
    State.ERROR: Exit.ENDED_OTHERWISE,
}


def of_error(error: JobyardError) -> Exit:
    """The status for an error: the first line of the table that fits."""
    return next((exit_ for kind, exit_ in _BY_ERROR if isinstance(error, kind)), Exit.FAILED)


def of_state(state: str) -> Exit:
    """The status for the state a job ended in."""
    return _BY_STATE[State(state)]
