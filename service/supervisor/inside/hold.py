"""Holding a container's first process, so that its namespaces are entered and no other's. Linux, as root.

Standard library only: `enter` imports it before anything else is there.
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass

#: What can be entered, and its flag for `setns` and `unshare` (sched.h).
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000


class NotHeld(Exception):
    """It cannot be entered from here; the text says why."""


@dataclass(frozen=True)
class Held:
    """Descriptors of a process that was the container's while they were opened. `close` lets go."""

    pid: int
    process: int
    mounts: int
    network: int
    cgroups: str

    @property
    def lives(self) -> bool:
        # `poll`, as `select` takes no descriptor beyond 1023, and a service has many.
        looked = select.poll()
        looked.register(self.process, select.POLLIN)
        return not looked.poll(0)

    def close(self) -> None:
        for descriptor in (self.process, self.mounts, self.network):
            os.close(descriptor)


def hold(pid: int, container_id: str) -> Held:
    """Hold the process `pid` if it is the container's. Raises `NotHeld`."""
    opened: list[int] = []
    try:
        opened.append(os.pidfd_open(pid))
        for name in ("mnt", "net"):
            opened.append(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
        with open(f"/proc/{pid}/cgroup") as file:
            cgroups = file.read()
        users = [os.stat(f"/proc/{each}/ns/user").st_ino for each in ("self", pid)]
        held = Held(pid, opened[0], opened[1], opened[2], cgroups)
        # It lives still, so that everything that was opened by its number was its own.
        if not held.lives:
            raise NotHeld("the container has ended")
        if not container_id or container_id not in cgroups:
            raise NotHeld(f"process {pid} of this host is not of the container")
        if users[0] != users[1]:
            raise NotHeld("the container's users are not this host's")
    except (OSError, NotHeld) as error:
        for descriptor in opened:
            os.close(descriptor)
        if isinstance(error, NotHeld):
            raise
        raise NotHeld(f"process {pid} of this host: {error.strerror}") from error
    return held
