"""What the end of a process means: our own orders first, then its code."""

from __future__ import annotations

from datetime import datetime, timedelta

from service.domain import commands as cmd
from service.domain import events as ev
from service.domain.job import Job
from service.domain.sizes import binary
from service.domain.states import MEANING, State

#: The shortest time a process can have run: the resolution of our times.
LEAST = timedelta(microseconds=1)
#: How much earlier than an order a process must have ended for that to be certain: clocks differ.
_CLEARLY = timedelta(seconds=1)
#: The exit code of a process that SIGKILL ended: 128 + 9.
_SIGKILLED = 137


def ended_before(job: Job, command: cmd.ReportExited) -> datetime | None:
    """When the process had ended by itself, if that was clearly before its run left RUNNING by an order or by
    its timeout: what comes after an end changes neither what it was nor what it costs.

    Not where the process ended clearly before it began: the engine's clock was set back meanwhile, and says
    nothing of the order.
    """
    if job.state is State.RUNNING or job.started_at is None or job.stopped_at is None or command.by_us:
        return None
    if command.finished_at < job.started_at - _CLEARLY:
        return None
    ended_at = max(command.finished_at, job.started_at + LEAST)
    return ended_at if ended_at < job.stopped_at - _CLEARLY else None


def verdict(job: Job, command: cmd.ReportExited) -> tuple[State, ev.Info]:
    """What an exit means: our own stop order first, then the code. 137 alone proves nothing."""
    code = command.exit_code
    arguments: dict[str, ev.Value] = {"exitCode": code}
    if job.timed_out:
        info = ev.Info("timeout", "The job was stopped because its timeout was reached.", arguments)
        return State.INTERRUPTED, info
    if job.storage_used is not None:
        info = beyond_storage(job, job.storage_used)
        return State.FAILED, ev.Info(info.code, info.message, info.arguments | arguments)
    if job.interrupt_ordered:
        return State.INTERRUPTED, ev.Info("interrupted", MEANING[State.INTERRUPTED], arguments)
    if command.unknown:
        message = (
            "The node's Docker Engine died just as the process began or ended, or lost hold of it: how it "
            f"would have ended is unknown (the engine says: code {code}). The job may have done its work: "
            "what it left in its volumes was kept as after any end. It costs nothing."
        )
        return State.FAILED, ev.Info("unknown-outcome", message, arguments)
    if command.stopped_outside and not command.oom_killed:
        # Also with code 0: a process that is told to end may end well, its work half done.
        message = (
            "The container was told to stop by no order to this service: by somebody on the node, or by its "
            f"Docker Engine as that was stopped or began. The process then ended with code {code}. It costs "
            "nothing."
        )
        return State.FAILED, ev.Info("stopped-outside", message, arguments)
    if code == 0:
        return State.DONE, ev.Info("done", MEANING[State.DONE], arguments)
    if command.oom_killed:
        message = f"The process ended with code {code} after it ran out of the job's memory."
        return State.FAILED, ev.Info("out-of-memory", message, arguments)
    if code == _SIGKILLED:
        # The engine misses some of the kills for memory (service/supervisor/engine/memory.py): no guess here.
        message = (
            f"The process ended with code {code}, as one killed by SIGKILL does; no order to this service "
            f"did it. The engine reported no lack of memory, which does not rule it out: "
            f"the job had {job.spec.resources.memory / 2**30:g} GiB."
        )
        return State.FAILED, ev.Info("exit-code", message, arguments)
    return State.FAILED, ev.Info("exit-code", f"The process ended with code {code}.", arguments)


def beyond_storage(job: Job, used: int) -> ev.Info:
    """Why a job was stopped that took `used` bytes of the node's storage."""
    resources = job.spec.resources
    limit = resources.ephemeral_storage
    per_unit = binary(limit // max(1, resources.units))
    message = (
        f"The job was stopped because it took {binary(used, up=True)} of the node's storage, more than the "
        f"{binary(limit)} that it has: the files in its container and in its volumes that are RW or RWD. "
        f"Delete what is no longer needed while it runs, or ask for more {resources.kind.upper()}s: "
        f"each brings {per_unit}."
    )
    return ev.Info("ephemeral-storage", message, {"used": used, "limit": limit})
