"""Containers that were put away as never begun, for fear of a start that was still on its way.

Whether that start was quicker, only the engine's last events tell; a restart takes them away. So it is
written down on the disk, in front of the removal, which container it is: whoever looks after the run next
knows what the engine must remember, and without it that nobody knows whether the run was begun.
"""

from __future__ import annotations

from service.errors import Unavailable
from service.supervisor import volumes
from service.supervisor.effects import Yard
from service.supervisor.names import RunId, run_labels

_PREFIX = "fenced-"


def mark(yard: Yard, run: RunId, container_id: str) -> None:
    """Before it is put away. Raises `Unavailable` while that cannot be written."""
    try:
        volumes.mark(yard, run, f"{_PREFIX}{container_id}")
    except OSError as error:
        raise Unavailable(f"the node's disk does not take a mark of the run ({error.strerror})") from error


def of(yard: Yard, run: RunId) -> list[str]:
    """The ids of the run's containers that were marked so."""
    found = volumes.run_dir(yard, run).glob(f"{_PREFIX}*")
    return sorted(path.name.removeprefix(_PREFIX) for path in found)


async def may_have_begun(yard: Yard, run: RunId) -> bool:
    """Whether a run without a container was begun all the same, or nobody can tell. Raises as the engine."""
    fenced = of(yard, run)
    if not fenced and run not in yard.may_have_run:
        return False
    if await yard.engine.was_started(run_labels(yard.ledger_id, run)):
        return True
    for each in fenced:
        if not await yard.engine.was_removed(each):
            return True
        # It is gone and never began, and that is certain: nobody has to remember it any more.
        (volumes.run_dir(yard, run) / f"{_PREFIX}{each}").unlink(missing_ok=True)
    return False
